"""A region of interest in the hybrid layer: finer inside, the same in both decoders, safe."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hybrid_samples import QUANTIZERS, TASTES, moving_frames, native_modules
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_bins import Inventor
from plain_hybrid import PlainHybrid

from edge_codec.base.hybrid.coder import HybridCoder
from edge_codec.base.hybrid.rate_control import ConstantQuality
from edge_codec.errors import BitstreamError
from edge_codec.region import Region
from edge_codec.spec import CineInfo, ModelId, StreamSpec

MODULES = native_modules()
SHAPES = ((24, 36), (72, 88), (130, 40))


def squares_of(shape: tuple[int, int], seed: int) -> np.ndarray:
    """Random squares: single ones and larger areas."""
    rng = np.random.default_rng(seed)
    down, across = -(-shape[0] // 16), -(-shape[1] // 16)
    inside = rng.random((down, across)) < 0.4
    inside[: down // 2, : across // 2] = seed % 2
    inside[0, 0] = True
    return inside


def packed(inside: np.ndarray) -> bytes:
    return inside.astype(np.uint8).tobytes()


def voxels_of(inside: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    return inside.repeat(16, 0).repeat(16, 1)[: shape[0], : shape[1]]


@pytest.mark.parametrize(
    ("shape", "quantizer", "gain", "effort"),
    [
        (SHAPES[0], 45, 6, 0),
        (SHAPES[0], 28, 9, 2),
        (SHAPES[1], 66, 12, 1),
        (SHAPES[1], 90, 63, 0),
        (SHAPES[2], 10, 3, 0),
        (SHAPES[2], 52, 4, 1),
    ],
)
def test_encoded_frames_decode_as_plainly(
    shape: tuple[int, int], quantizer: int, gain: int, effort: int
) -> None:
    inside = squares_of(shape, quantizer)
    plain = PlainHybrid(*shape, inside, gain)
    encoder, *decoders = (
        module.Coder(*shape, packed(inside), gain) for module in (MODULES[-1], *MODULES)
    )
    frame = np.empty(shape, np.int16)
    for i, samples in enumerate(moving_frames(*shape, 3)):
        references = tuple(range(i))[::-1]
        payload = encoder.encode(samples, quantizer, i == 0, references, i, effort, 0, None, 1)
        plain.decode(payload, i == 0, references, i)
        for decoder in decoders:
            decoder.decode(payload, i == 0, references, i)
        for coder in (encoder, *decoders):
            coder.frame(i, frame)
            np.testing.assert_array_equal(frame, plain.frame(i))


@pytest.mark.parametrize("seed", range(6))
def test_made_up_streams_decode_as_plainly(seed: int) -> None:
    shape = SHAPES[seed % 3]
    inside = squares_of(shape, seed)
    plain = PlainHybrid(*shape, inside, 5 + seed)
    coders = [module.Coder(*shape, packed(inside), 5 + seed) for module in MODULES]
    frame = np.empty(shape, np.int16)
    for i in range(3):
        inventor = Inventor(31 * seed + i, TASTES[seed % len(TASTES)], None)
        references = tuple(range(i))
        quantizer = QUANTIZERS[seed % len(QUANTIZERS)]
        payload = plain.invent(inventor, quantizer, i == 0, references, i)
        for coder in coders:
            coder.decode(payload, i == 0, references, i)
            coder.frame(i, frame)
            np.testing.assert_array_equal(frame, plain.frame(i))


@pytest.mark.parametrize("effort", [0, 1])
def test_all_inside_is_the_finer_quantizer_and_none_inside_the_coarser(effort: int) -> None:
    shape = SHAPES[1]
    frame, frames = np.empty(shape, np.int16), moving_frames(*shape, 2)
    for squares, quantizer in ((1, 48), (0, 60)):
        inside = bytes([squares]) * 5 * 6
        coder, uniform = MODULES[-1].Coder(*shape, inside, 12), MODULES[-1].Coder(*shape)
        for i, samples in enumerate(frames):
            arguments = (i == 0, tuple(range(i)), i, effort, 0, None, 1)
            payload = coder.encode(samples, 60, *arguments)
            expected = uniform.encode(samples, quantizer, *arguments)
            assert payload[1:] == expected[1:]
            assert payload[0] == 60
            coder.frame(i, frame)
            other = frame.copy()
            uniform.frame(i, frame)
            np.testing.assert_array_equal(other, frame)


@pytest.mark.parametrize("effort", [0, 1, 2])
def test_the_region_is_nearer_to_the_frame_than_the_rest(effort: int) -> None:
    shape = (64, 96)
    inside = np.zeros((4, 6), bool)
    inside[1:3, 2:4] = True
    finer, uniform = (
        MODULES[-1].Coder(*shape, packed(inside), 12), MODULES[-1].Coder(*shape)
    )  # fmt: skip
    voxels, frame = voxels_of(inside, shape), np.empty(shape, np.int16)
    errors = []
    for coder in (finer, uniform):
        sums = np.zeros(2)
        for i, samples in enumerate(moving_frames(*shape, 4)):
            coder.encode(samples, 60, i == 0, tuple(range(i)), i, effort, 0, None, 1)
            coder.frame(i, frame)
            square = (frame.astype(np.float64) - samples) ** 2
            sums += square[voxels].mean(), square[~voxels].mean()
        errors.append(sums / 4)
    (inner, rest), (inner_before, rest_before) = errors
    assert inner < 0.25 * inner_before  # 12 steps: a quarter of the step
    assert rest < 1.25 * rest_before


def test_workers_do_not_change_a_bit() -> None:
    shape = (130, 150)
    inside = packed(squares_of(shape, 3))
    alone, together = (MODULES[-1].Coder(*shape, inside, 8) for _ in range(2))
    with ThreadPoolExecutor(3) as pool:
        for i, samples in enumerate(moving_frames(*shape, 2)):
            arguments = (samples, 50, i == 0, tuple(range(i)), i, 0, 0)
            assert alone.encode(*arguments, None, 1) == together.encode(*arguments, pool.map, 3)


@pytest.mark.parametrize(
    ("inside", "gain"),
    [(b"\1", 3), (b"\1\0\1\0\1\0\1", 3), (b"\1\0\1\0\1\2", 3), (b"\1" * 6, -1), (b"\1" * 6, 128)],
)
def test_squares_that_do_not_fit_are_refused(inside: bytes, gain: int) -> None:
    for module in MODULES:
        with pytest.raises(ValueError, match="expected 2 x 3 bytes"):
            module.Coder(24, 36, inside, gain)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 127), st.integers(0, 5))
def test_damaged_payloads_give_a_frame_or_an_error(data: bytes, quantizer: int, seed: int) -> None:
    shape = SHAPES[seed % 3]
    coder = MODULES[seed % len(MODULES)].Coder(*shape, packed(squares_of(shape, seed)), 9)
    frame = np.empty(shape, np.int16)
    try:
        coder.decode(bytes([quantizer]) + data, True, (), 0)
    except BitstreamError:
        return
    coder.frame(0, frame)
    assert frame.min() >= 0
    assert frame.max() <= 4095


def test_key_frames_are_filtered_over_time_as_the_region_asks_for() -> None:
    """Inside, as all of a frame of the finer quality is; outside, as one of the coarser."""
    info = CineInfo(1, 4, 40, 60, np.dtype(np.uint16))
    inside = squares_of((40, 60), 2)
    region = Region(packed(inside), 12)
    spec = StreamSpec(info, 0, 4095, ModelId.DWT_CAL, max_error=None, region=region)
    coder = HybridCoder(spec, ConstantQuality(30))
    frames = moving_frames(40, 60, 4)
    coder._internal[:] = frames[0]
    filtered = coder._filter(60, list(frames[1:]))
    voxels, expected = voxels_of(inside, (40, 60)), np.empty_like(filtered)
    MODULES[0].filter_over_time(frames[0], list(frames[1:]), 48, expected)
    np.testing.assert_array_equal(filtered[voxels], expected[voxels])
    MODULES[0].filter_over_time(frames[0], list(frames[1:]), 60, expected)
    np.testing.assert_array_equal(filtered[~voxels], expected[~voxels])
    assert (filtered != expected).any()
