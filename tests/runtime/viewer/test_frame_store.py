"""Decoded frames at random access."""

import contextlib
from dataclasses import replace

import numpy as np
import pytest
import viewer_samples
from toy_base import ToyModel

import edge_codec
from edge_codec.bitstream.packet import LayerId
from edge_codec.codec import Decoder
from edge_codec.errors import EdgeCodecError, FrameError
from edge_codec.runtime.viewer import frame_store
from edge_codec.runtime.viewer.frame_store import ByteCache, FrameStore, Layer, Progress
from edge_codec.runtime.viewer.packed_frame import unpack_frame
from edge_codec.runtime.viewer.packet_index import PacketIndex

CINE = viewer_samples.cine()
PLACES = [(s, p) for s in range(viewer_samples.SLICES) for p in range(viewer_samples.PHASES)]


@contextlib.contextmanager
def indexed(path, data):
    path.write_bytes(data)
    index = PacketIndex(path)
    index.poll()
    yield index
    index.close()


@pytest.fixture
def index(tmp_path):
    with indexed(tmp_path / "a.ecd", viewer_samples.stream(CINE)[0]) as index:
        yield index


@pytest.mark.parametrize("cache_bytes", [1 << 20, 0])
def test_frames_in_any_order(index, cache_bytes):
    store = FrameStore(index, "auto", cache_bytes)
    order = np.random.default_rng(2).permutation(PLACES * 3)
    for place in order.tolist():
        frame = unpack_frame(store.frame(*place, Layer.WHOLE))
        np.testing.assert_array_equal(frame, CINE.voxels[tuple(place)])


def test_playing_decodes_each_frame_once(index, monkeypatch):
    pushed = []
    push = Decoder.push
    monkeypatch.setattr(
        Decoder, "push", lambda self, packet: pushed.append(packet.sequence) or push(self, packet)
    )
    store = FrameStore(index, "auto", 0)
    for phase in range(viewer_samples.PHASES):
        store.frame(0, phase, Layer.WHOLE)
    assert len(pushed) == viewer_samples.PHASES
    store.frame(0, 2, Layer.WHOLE)  # back: from the key frame 0
    assert len(pushed) == viewer_samples.PHASES + 3


def test_the_cache_answers_without_decoding(index, monkeypatch):
    store = FrameStore(index, "auto", 1 << 20)
    store.frame(0, 2, Layer.WHOLE)
    monkeypatch.setattr(Decoder, "push", None)
    for phase in (0, 1, 2):  # those on the way are kept, too
        store.frame(0, phase, Layer.WHOLE)


@pytest.mark.parametrize("cache_bytes", [1 << 20, 0])
def test_a_long_way_is_gone_in_steps(index, monkeypatch, cache_bytes):
    monkeypatch.setattr(frame_store, "WORK_S", 0.0)
    pushed = []
    push = Decoder.push
    monkeypatch.setattr(
        Decoder, "push", lambda self, packet: pushed.append(packet.sequence) or push(self, packet)
    )
    store = FrameStore(index, "auto", cache_bytes)
    assert store.frame(0, 2, Layer.WHOLE) == Progress(1, 3)
    assert store.frame(0, 2, Layer.WHOLE) == Progress(2, 3)
    store.frame(1, 0, Layer.WHOLE)  # others have their turn
    found = unpack_frame(store.frame(0, 2, Layer.WHOLE))
    np.testing.assert_array_equal(found, CINE.voxels[0, 2])
    assert len(pushed) == len(set(pushed)) == 4


def test_frames_that_are_kept_wait_for_no_others(index):
    store = FrameStore(index, "auto", 1 << 20)
    expected = store.frame(0, 0, Layer.WHOLE)
    with store._lock:
        assert store.frame(0, 0, Layer.WHOLE) == expected


def test_a_frame_that_fails_harms_no_other(index, monkeypatch):
    store = FrameStore(index, "auto", 0)
    store.frame(0, 0, Layer.WHOLE)
    read = PacketIndex.read

    def read_damaged(self, number):
        packet = read(self, number)
        return replace(packet, layers={LayerId.RESIDUAL: bytes(40)})

    monkeypatch.setattr(PacketIndex, "read", read_damaged)
    with pytest.raises(EdgeCodecError):
        store.frame(0, 1, Layer.WHOLE)
    monkeypatch.setattr(PacketIndex, "read", read)
    frame = unpack_frame(store.frame(0, 1, Layer.WHOLE))
    np.testing.assert_array_equal(frame, CINE.voxels[0, 1])


def test_no_base_layer(index):
    with pytest.raises(FrameError, match="has no base layer"):
        FrameStore(index, "auto", 0).frame(0, 0, Layer.BASE)


def test_base_layer(tmp_path):
    data = edge_codec.compress(CINE, model="vqvae", effort="fast")
    base = edge_codec.decompress(data, preview=True).voxels
    with indexed(tmp_path / "m.ecd", data) as index:
        store = FrameStore(index, "auto", 1 << 20)
        for layer, voxels in ((Layer.BASE, base), (Layer.WHOLE, CINE.voxels)):
            frame = unpack_frame(store.frame(1, 1, layer))
            np.testing.assert_array_equal(frame, voxels[1, 1])


def test_an_archive_in_any_order(tmp_path, monkeypatch):
    monkeypatch.setattr(frame_store, "load_model", lambda *_, **__: ToyModel())
    pushed = []
    push = Decoder.push
    monkeypatch.setattr(
        Decoder, "push", lambda self, packet: pushed.append(packet.sequence) or push(self, packet)
    )
    with indexed(tmp_path / "a.ecd", viewer_samples.archive(CINE)[0]) as index:
        store = FrameStore(index, "auto", 0)
        for place in np.random.default_rng(2).permutation(PLACES * 2).tolist():
            frame = unpack_frame(store.frame(*place, Layer.WHOLE))
            np.testing.assert_array_equal(frame, CINE.voxels[tuple(place)])
        pushed.clear()
        kept = FrameStore(index, "auto", 1 << 20)
        for place in PLACES:  # playing: what comes too early is kept
            frame = unpack_frame(kept.frame(*place, Layer.WHOLE))
            np.testing.assert_array_equal(frame, CINE.voxels[place])
        assert len(pushed) == len(PLACES)


def test_the_cache_is_bounded_and_forgets_the_oldest():
    cache = ByteCache(30)
    for key in "abc":
        cache.put(key, bytes(10))
    cache.get("a")
    cache.put("d", bytes(10))
    assert [cache.get(key) is not None for key in "abcd"] == [True, False, True, True]
    cache.put("a", bytes(4))
    assert cache.size == 24
    cache.put("e", bytes(99))  # the latest stays, however large
    assert (cache.size, cache.get("a")) == (99, None)
