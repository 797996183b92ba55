from __future__ import annotations

import io
import os
import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_fuzzing import repair
from stream_samples import extra_keys, make_packets, make_spec, make_stream, starts_of, with_size

from edge_codec.bitstream.container import StreamReader, StreamWriter
from edge_codec.bitstream.header import pack_header
from edge_codec.bitstream.index import Footer, pack_index
from edge_codec.bitstream.packet import LayerId, Packet, PacketHead
from edge_codec.bitstream.packet_file import PacketFile
from edge_codec.bitstream.short_packet import Follow
from edge_codec.bitstream.verify import verify
from edge_codec.errors import BitstreamError, FrameError, SourceError
from edge_codec.spec import ModelId

SPEC = make_spec(2, 6, key_interval=3)
PACKETS = make_packets(SPEC)
DATA = make_stream(SPEC)
NONE = np.zeros(0, np.uint32)
STARTS = starts_of(SPEC, PACKETS)  # packets 0, 1, 6, 7 in full, the others in short form
ARCHIVE = make_spec(2, 11, key_interval=6, model=ModelId.DWT_CAL, max_error=None, archive=True)
ORDER = [0, 3, 1, 2, 4, 5, 6, 8, 7, 9, 10]


def test_packets_come_back_in_order() -> None:
    reader = StreamReader(io.BytesIO(DATA))
    assert reader.spec == SPEC
    assert reader.complete
    assert list(reader.packets()) == PACKETS
    assert list(reader.packets()) == PACKETS
    assert reader.damage == ()


@pytest.mark.parametrize("recover", [False, True])
def test_random_access(recover: bool) -> None:
    reader = StreamReader(io.BytesIO(DATA), recover=recover)
    for packet in reversed(PACKETS):
        assert reader.read(packet.slice_index, packet.phase_index) == packet
    assert [packet.phase_index for packet in reader.read_chain(1, 5)] == [3, 4, 5]
    for place in ((2, 0), (0, 6), (-1, 0), (0, 1 << 40)):
        with pytest.raises(FrameError, match="no frame of slice"):
            reader.read(*place)


def test_reading_at_random_between_the_packets() -> None:
    reader = StreamReader(io.BytesIO(DATA))
    for packet in reader.packets():
        assert reader.read(0, 0) == PACKETS[0]
        assert packet == PACKETS[packet.sequence]


def test_live_stream_tells_its_phases() -> None:
    spec = make_spec(2, 0)
    data = make_stream(spec, make_packets(spec, n_phases=5))
    assert StreamReader(io.BytesIO(data)).n_phases == 5
    assert StreamReader(io.BytesIO(data[:-30]), recover=True).n_phases == 5
    assert StreamReader(io.BytesIO(make_stream(spec, []))).n_phases == 0
    assert StreamReader(io.BytesIO(DATA)).n_phases == 6


def test_frame_without_its_layer_is_refused_at_random_too() -> None:
    damaged = bytearray(DATA)
    damaged[STARTS[6] + 2] = 0x11  # base, where the residual was
    reader = StreamReader(io.BytesIO(repair(damaged)))
    with pytest.raises(BitstreamError, match="header demands"):
        reader.read(0, 3)


def test_index_among_the_frames_is_found() -> None:
    spec = make_spec(1, 0)
    packets = make_packets(spec, n_phases=3)
    starts, whole = starts_of(spec, packets), make_stream(spec, packets)
    pieces = [whole[a:b] for a, b in pairwise(starts[:3])] + [pack_index(NONE, NONE, 1)]
    data = pack_header(spec) + b"".join(pieces)
    sizes = np.array([*map(len, pieces)], np.uint32)
    data += pack_index(np.zeros(3, np.uint32), sizes, 1) + Footer(len(data), 3).pack()
    with pytest.raises(BitstreamError, match="packets end here before number 2"):
        list(StreamReader(io.BytesIO(data)).packets())


def test_packet_other_than_the_index_says_is_refused_at_random() -> None:
    damaged = bytearray(DATA)
    damaged[STARTS[6] + 5] = 5  # phase of packet 6
    reader = StreamReader(io.BytesIO(repair(damaged)))
    with pytest.raises(BitstreamError, match="not the one that the index lists"):
        reader.read(0, 3)
    damaged = bytearray(DATA)
    damaged[STARTS[4] : STARTS[5]] = DATA[STARTS[5] : STARTS[6]]  # in short form
    reader = StreamReader(io.BytesIO(damaged))
    with pytest.raises(BitstreamError, match="not what follows here"):
        reader.read(0, 2)
    assert reader.read(1, 2) == PACKETS[5]


def test_huge_sizes_allocate_nothing() -> None:
    data = DATA
    for at in (STARTS[-1], STARTS[6]):
        data = with_size(data, at, 1 << 27)
    data = repair(bytearray(data))
    tracemalloc.start()
    try:
        list(StreamReader(io.BytesIO(data), recover=True).packets())
        with pytest.raises(BitstreamError):
            StreamReader(io.BytesIO(data))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


def test_long_stream_is_read_in_flat_memory(tmp_path: Path) -> None:
    spec = make_spec(1, 0)
    path = tmp_path / "long.ecd"
    layers = {LayerId.RESIDUAL: bytes(100_000)}
    with path.open("wb") as file, StreamWriter(file, spec) as writer:
        for phase in range(300):
            writer.write(Packet(phase, 0, phase, phase % 2 == 0, layers))
    tracemalloc.start()
    try:
        with path.open("rb") as file:
            for recover in (False, True):
                assert sum(1 for _ in StreamReader(file, recover).packets()) == 300
            _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert path.stat().st_size > 30_000_000
    assert peak < 2_000_000


def test_pipe_is_refused() -> None:
    read_end, write_end = os.pipe()
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe, pytest.raises(SourceError, match="seekable"):
        StreamReader(pipe)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=24), st.integers(1, 9), st.booleans())
def test_chain_begins_at_the_latest_key_frame(
    keys: list[bool], key_interval: int, recover: bool
) -> None:
    data, packets = extra_keys(keys, key_interval)
    assert verify(io.BytesIO(data)).ok
    reader = StreamReader(io.BytesIO(data), recover)
    for phase in range(len(packets)):
        first = max(p.phase_index for p in packets[: phase + 1] if p.key)
        assert list(reader.read_chain(0, phase)) == packets[first : phase + 1]
        assert phase - first < key_interval


def test_frame_that_must_be_a_key_frame_and_is_none_is_refused() -> None:
    data = bytearray(DATA)
    data[STARTS[6] + 2] ^= 0x10  # phase 3 of slice 0, key interval 3
    data = bytearray(repair(data))
    assert not verify(io.BytesIO(data)).ok
    reader = StreamReader(io.BytesIO(data))
    for phase in (3, 4, 5):
        with pytest.raises(BitstreamError, match="no key frame, but must be one"):
            list(reader.read_chain(0, phase))


def test_chain_reads_no_more_heads_than_the_key_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    data, packets = extra_keys([False] * 70, 32)
    reader = StreamReader(io.BytesIO(data))
    offsets, head_at = [], PacketFile.head_at

    def count(file: PacketFile, offset: int, follow: Follow) -> PacketHead:
        offsets.append(offset)
        return head_at(file, offset, follow)

    monkeypatch.setattr(PacketFile, "head_at", count)
    assert next(reader.read_chain(0, 63)) == packets[32]
    assert len(offsets) == 32 + 1


@pytest.mark.parametrize("recover", [False, True])
def test_chain_of_an_archive_is_its_group_in_the_order_of_coding(recover: bool) -> None:
    packets = make_packets(ARCHIVE)
    reader = StreamReader(io.BytesIO(make_stream(ARCHIVE)), recover)
    assert list(reader.packets()) == packets
    assert [packet.phase_index for packet in packets[::2]] == ORDER
    for packet in packets:
        chain = list(reader.read_chain(packet.slice_index, packet.phase_index))
        turn = ORDER.index(packet.phase_index)
        assert [p.phase_index for p in chain] == ORDER[turn - turn % 6 : turn + 1]
        assert {p.slice_index for p in chain} == {packet.slice_index}
        assert chain[-1] == packet
    for phase in (-1, 11, 1 << 40):
        with pytest.raises(FrameError, match="no frame of slice"):
            list(reader.read_chain(0, phase))
