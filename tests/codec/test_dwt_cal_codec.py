"""The `dwt-cal` base layer in the codec: every order, promise and size, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge_codec.base.hybrid.model import HybridModel, HybridSettings
from edge_codec.bitstream.packet import LayerId, Packet
from edge_codec.codec import Decoder, Encoder
from edge_codec.errors import BitstreamError, EngineError, FrameError
from edge_codec.runtime.phantom import heart
from edge_codec.runtime.shared import share
from edge_codec.spec import CineInfo, Effort, ModelId, StreamSpec

PHASES = 7


def make_frames(
    slices: int = 1, rows: int = 40, columns: int = 48, dtype: type = np.int16
) -> np.ndarray:
    return np.stack([heart(PHASES, rows, columns, np.dtype(dtype), i) for i in range(slices)])


def spec_of(frames: np.ndarray, **options) -> StreamSpec:
    info = CineInfo(*frames.shape, dtype=frames.dtype)
    low, high = int(frames.min()), int(frames.max())
    options = {"max_error": None, "key_interval": 5} | options
    return StreamSpec(info, low=low, high=high, model=ModelId.DWT_CAL, **options)


def make_model(quality: int = 40) -> HybridModel:
    return HybridModel(HybridSettings(quality, effort=Effort.FAST))


def encode(frames: np.ndarray, spec: StreamSpec, mapper=map) -> list[Packet]:
    encoder, packets = Encoder(spec, make_model(), mapper), []
    for _ in range(PHASES):
        for index, phases in enumerate(frames):
            packets += [encoder.push(phases[encoder.next_phase(index)], index)]
    return packets


def decode(packets: list[Packet], spec: StreamSpec, **options) -> np.ndarray:
    decoder = Decoder(spec, HybridModel(), **options)
    found = np.zeros(
        (spec.info.n_slices, PHASES, *spec.info.frame_shape), spec.info.dtype
    )  # fmt: skip
    for packet in packets:
        found[packet.slice_index, packet.phase_index] = decoder.push(packet)
    return found


ORDERS = {"low delay": False, "archive": True}


@pytest.mark.parametrize("archive", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("bound", [0, 2])
@pytest.mark.parametrize("shape", [(40, 48), (41, 33), (1, 1), (3, 130)])
def test_bounds_are_kept_over_it(archive, bound, shape):
    frames = make_frames(2, *shape)
    spec = spec_of(frames, archive=archive, max_error=bound)
    packets = encode(frames, spec)
    error = np.abs(decode(packets, spec).astype(int) - frames)
    assert error.max() <= bound
    preview = decode(packets, spec, preview=True)
    alone = replace(spec, max_error=None)
    assert [p.layers[LayerId.BASE] for p in encode(frames, alone)] == [
        p.layers[LayerId.BASE] for p in packets
    ]
    np.testing.assert_array_equal(preview, decode(encode(frames, alone), alone))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int32, np.uint64])
def test_any_dtype(dtype):
    frames = make_frames(dtype=dtype)
    if np.dtype(dtype).kind == "i":
        frames = frames - np.array(40, dtype)
    for bound in (None, 0):
        spec = spec_of(frames, max_error=bound)
        found = decode(encode(frames, spec), spec)
        span = float(frames.max()) - float(frames.min())
        assert found.dtype == frames.dtype
        assert np.abs(found.astype(float) - frames).mean() < 0.05 * span
    np.testing.assert_array_equal(found, frames)


@pytest.mark.parametrize("span", [0, 1, 4095, 4096, 70_000, (1 << 32) - 1])
def test_any_range_of_values(span):
    frames = make_frames(dtype=np.int64)
    frames = frames * span // int(frames.max()) - 5
    spec = spec_of(frames, max_error=0)
    np.testing.assert_array_equal(decode(encode(frames, spec), spec), frames)
    base = decode(encode(frames, spec), spec, preview=True)
    assert np.abs(base - frames).mean() <= 0.05 * span
    assert base.min() >= spec.low
    assert base.max() <= spec.high


@pytest.mark.parametrize("archive", ORDERS.values(), ids=ORDERS)
def test_threads_do_not_change_a_bit(archive):
    frames = make_frames(rows=136, columns=100)
    spec = spec_of(frames, archive=archive)
    assert encode(frames, spec, share(4)) == encode(frames, spec)


@pytest.mark.parametrize("archive", ORDERS.values(), ids=ORDERS)
def test_slices_may_be_interleaved_in_any_way(archive):
    frames = make_frames(3)
    spec = spec_of(frames, archive=archive)
    alone = [p for index in range(3) for p in encode(frames, spec) if p.slice_index == index]
    encoder, decoder = Encoder(spec, make_model()), Decoder(spec, HybridModel())
    for index in np.random.default_rng(5).permutation(np.repeat(np.arange(3), PHASES)).tolist():
        packet = encoder.push(frames[index, encoder.next_phase(index)], index)
        expected = next(
            p for p in alone if (p.slice_index, p.phase_index) == (index, packet.phase_index)
        )
        assert (packet.key, packet.layers) == (expected.key, expected.layers)
        decoder.push(packet)


def test_key_frames_at_any_phase_of_low_delay():
    frames = make_frames()
    spec = spec_of(frames, max_error=0)
    encoder = Encoder(spec, make_model())
    packets = [encoder.push(frame, key=phase in (2, 3)) for phase, frame in enumerate(frames[0])]
    assert [p.phase_index for p in packets if p.key] == [0, 2, 3, 5]
    for start in (0, 2, 3, 5):  # decoding begins at each of them
        decoder = Decoder(spec, HybridModel())
        for packet in packets[start:]:
            np.testing.assert_array_equal(decoder.push(packet), frames[0, packet.phase_index])


def test_a_group_depends_on_nothing_before_it():
    frames = make_frames()
    spec = spec_of(frames, archive=True)
    packets = encode(frames, spec)
    whole = decode(packets, spec)
    np.testing.assert_array_equal(decode(packets[5:], spec)[0, 5:], whole[0, 5:])
    decoder = Decoder(spec, HybridModel())
    decoder.push(packets[0])
    with pytest.raises(BitstreamError, match="the packet before it is missing"):
        decoder.push(packets[2])
    np.testing.assert_array_equal(decoder.push(packets[5]), whole[0, 5])


def test_damaged_payloads_never_show_a_wrong_heart():
    frames = make_frames()
    spec = spec_of(frames)
    packets = encode(frames, spec)
    rng, refused = np.random.default_rng(6), 0
    for trial in range(300):
        packet = packets[trial % 2]
        layer = bytearray(packet.layers[LayerId.BASE])
        if trial % 5 == 0:
            layer = layer[: rng.integers(0, len(layer))]
        else:
            layer[rng.integers(0, len(layer))] ^= 1 << rng.integers(0, 8)
        decoder = Decoder(spec, HybridModel())
        if trial % 2:
            decoder.push(packets[0])
        damaged = replace(packet, layers={LayerId.BASE: bytes(layer)})
        try:
            frame = decoder.push(damaged)
        except (BitstreamError, EngineError):
            refused += 1
        else:
            np.testing.assert_array_equal(frame, decode(packets, spec)[0, packet.phase_index])
    assert refused > 290


def test_a_frame_that_was_refused_harms_nothing():
    frames = make_frames()
    spec = spec_of(frames, max_error=0)
    encoder = Encoder(spec, make_model())
    expected = encode(frames, spec)
    assert encoder.push(frames[0, 0]) == expected[0]
    with pytest.raises(FrameError, match="opened for"):
        encoder.push(frames[0, 1] + np.int16(20_000))
    assert encoder.push(frames[0, 1]) == expected[1]
