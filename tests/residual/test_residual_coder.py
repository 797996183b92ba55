"""Round trips: the bound holds for every voxel, and the plain twin decodes the same frames."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_codec.errors import BitstreamError, FrameError, SpecError
from edge_codec.residual import ResidualDecoder, ResidualEncoder
from edge_codec.residual.reference import ReferenceDecoder

SPANS = [0, 1, 2, 255, 1000, 65535, 65536, 2**31, 2**32 - 1]
BOUNDS = [0, 1, 3, 1000, 2**31 - 1]
KINDS = ["flat", "gradient", "noise", "saturated", "sparse", "walk"]

Frame = NDArray[np.uint32]


class Slice(NamedTuple):
    """Parameters of the coders of a slice."""

    rows: int
    columns: int
    span: int
    max_error: int = 0
    with_base: bool = False


def draw_frame(kind: str, rows: int, columns: int, span: int, rng: np.random.Generator) -> Frame:
    """A frame of a kind of content that a predictor or a range check could trip over."""
    shape = (rows, columns)
    noise = rng.integers(0, span, shape, dtype=np.uint64, endpoint=True)
    position = np.add.outer(np.arange(rows), np.arange(columns)) / (rows + columns)
    values = {
        "flat": np.full(shape, noise[0, 0]),
        "gradient": (position * span).astype(np.uint64),
        "noise": noise,
        "saturated": np.where(noise > span // 2, span, 0),
        "sparse": np.where(rng.random(shape) < 0.05, noise, 0),
        "walk": np.clip(span // 2 + rng.integers(-9, 10, shape).cumsum(1).cumsum(0), 0, span),
    }
    return np.asarray(values[kind]).astype(np.uint32)


def draw_frames(slice_: Slice, kinds: list[str], seed: int) -> list[tuple[Frame, Frame | None]]:
    """Frames with their base: the frame with an error of some percent."""
    rng = np.random.default_rng(seed)
    rows, columns, span = slice_[:3]
    frames: list[tuple[Frame, Frame | None]] = []
    for kind in kinds:
        frame = draw_frame(kind, rows, columns, span, rng)
        wrong = frame + rng.normal(0, span / 30 + 1, frame.shape)
        base = np.clip(wrong, 0, span).astype(np.uint64).astype(np.uint32)
        frames.append((frame, base if slice_.with_base else None))
    return frames


def check_round_trip(
    slice_: Slice, frames: list[tuple[Frame, Frame | None]], keys: list[bool], twin: bool = True
) -> list[bytes]:
    """Code and decode; assert bound and agreement; return the payloads."""
    encoder, decoder = ResidualEncoder(*slice_), ResidualDecoder(*slice_)
    reference = ReferenceDecoder(*slice_)
    payloads = []
    for (frame, base), key in zip(frames, keys, strict=True):
        payload, expected = encoder.encode(frame, base, key)
        decoded = decoder.decode(payload, base, key)
        assert decoded.dtype == np.uint32
        np.testing.assert_array_equal(decoded, expected)
        worst = int(np.abs(decoded.astype(np.int64) - frame.astype(np.int64)).max())
        assert worst <= slice_.max_error
        assert decoded.max() <= slice_.span
        if twin:
            np.testing.assert_array_equal(reference.decode(payload, base, key), expected)
        payloads.append(payload)
    return payloads


@settings(derandomize=True, max_examples=120, deadline=None)
@given(
    st.integers(1, 20),
    st.integers(1, 20),
    st.sampled_from(SPANS),
    st.sampled_from(BOUNDS),
    st.booleans(),
    st.lists(st.tuples(st.sampled_from(KINDS), st.booleans()), min_size=1, max_size=5),
    st.integers(0, 2**32 - 1),
)
def test_bound_holds_and_twins_agree(
    rows: int,
    columns: int,
    span: int,
    max_error: int,
    with_base: bool,
    sequence: list[tuple[str, bool]],
    seed: int,
) -> None:
    slice_ = Slice(rows, columns, span, max_error, with_base)
    frames = draw_frames(slice_, [kind for kind, _ in sequence], seed)
    check_round_trip(slice_, frames, [True, *(key for _, key in sequence[1:])])


@pytest.mark.parametrize("max_error", [0, 2])
@pytest.mark.parametrize("rows", [95, 191, 192, 289])
def test_bands_agree_with_the_twin(rows: int, max_error: int) -> None:
    slice_ = Slice(rows, 3, 4095, max_error, True)
    frames = draw_frames(slice_, ["walk", "walk", "noise", "walk"], rows)
    check_round_trip(slice_, frames, [True, False, False, False])


@pytest.mark.parametrize("span", [255, 4095, 65535, 2**32 - 1])
@pytest.mark.parametrize("max_error", [0, 1, 5])
def test_larger_moving_frames(span: int, max_error: int) -> None:
    rng = np.random.default_rng(span)
    slice_ = Slice(200, 131, span, max_error)
    y, x = np.mgrid[:200, :131]
    frames: list[tuple[Frame, Frame | None]] = []
    for phase in range(5):
        wave = np.sin(y / 11 + phase / 3) + np.cos(x / 7 - phase / 5) + 2
        smooth = wave / 4 * span + rng.normal(0, 1 + span / 400, wave.shape)
        frames.append((np.clip(smooth, 0, span).astype(np.uint64).astype(np.uint32), None))
    check_round_trip(slice_, frames, [phase % 3 == 0 for phase in range(5)], twin=False)


def test_threads_do_not_change_the_payload() -> None:
    slice_ = Slice(400, 30, 1000, 1)
    frames = draw_frames(slice_, ["walk", "gradient", "walk"], 5)
    payloads = check_round_trip(slice_, frames, [True, False, False], twin=False)
    with ThreadPoolExecutor(3) as pool:
        encoder = ResidualEncoder(*slice_, mapper=pool.map)
        decoder = ResidualDecoder(*slice_, mapper=pool.map)
        for i, (frame, base) in enumerate(frames):
            payload, expected = encoder.encode(frame, base, i == 0)
            assert payload == payloads[i]
            np.testing.assert_array_equal(decoder.decode(payload, base, i == 0), expected)


@pytest.mark.parametrize("span", SPANS)
@pytest.mark.parametrize("shape", [(1, 1), (16, 16), (70, 50), (256, 64)])
def test_noise_does_not_expand(span: int, shape: tuple[int, int]) -> None:
    slice_ = Slice(*shape, span)
    payloads = check_round_trip(
        slice_, draw_frames(slice_, ["noise"] * 3, 1), [True, False, False], twin=False
    )
    raw = shape[0] * shape[1] * span.bit_length() / 8
    assert max(map(len, payloads)) <= 1.01 * raw + 64


@pytest.mark.parametrize("value", [0, 7, 2000, 4095])
def test_flat_frames_cost_next_to_nothing(value: int) -> None:
    slice_ = Slice(256, 256, 4095)
    frames: list[tuple[Frame, Frame | None]] = [(np.full((256, 256), value, np.uint32), None)] * 3
    payloads = check_round_trip(slice_, frames, [True, False, False], twin=False)
    assert max(map(len, payloads)) <= 200


def test_a_raw_frame_between_coded_ones() -> None:
    slice_ = Slice(12, 15, 255)
    kinds = ["walk", "walk", "noise", "walk", "noise", "noise", "walk"]
    payloads = check_round_trip(slice_, draw_frames(slice_, kinds, 3), [True] + [False] * 6)
    assert {payload[0] for payload in payloads} == {0, 1}


def test_time_and_base_save_bits() -> None:
    """The taps of other frames are there and in use."""
    rng = np.random.default_rng(8)
    frame = rng.integers(0, 1000, (64, 64)).astype(np.uint32)
    near = np.clip(frame + rng.integers(-2, 3, frame.shape), 0, 1000).astype(np.uint32)
    encoder = ResidualEncoder(64, 64, 1000, 0, False)
    alone, _ = encoder.encode(frame, None, True)
    after, _ = encoder.encode(near, None, False)
    based, _ = ResidualEncoder(64, 64, 1000, 0, True).encode(frame, near, True)
    assert len(after) < len(alone) / 2
    assert len(based) < len(alone) / 2


def test_a_larger_bound_saves_bits() -> None:
    frame = draw_frame("walk", 90, 80, 4095, np.random.default_rng(2))
    sizes = [
        len(ResidualEncoder(90, 80, 4095, bound, False).encode(frame, None, True)[0])
        for bound in (0, 1, 2, 4, 8)
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < sizes[0] / 2


def test_inputs_are_not_changed_and_need_not_be_contiguous() -> None:
    frame = draw_frame("walk", 30, 40, 999, np.random.default_rng(4))
    strided = np.asfortranarray(frame)
    before = frame.copy()
    payload, decoded = ResidualEncoder(30, 40, 999, 0, False).encode(frame, None, True)
    again, _ = ResidualEncoder(30, 40, 999, 0, False).encode(strided, None, True)
    assert payload == again
    np.testing.assert_array_equal(frame, before)
    np.testing.assert_array_equal(decoded, frame)


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((4, 5), np.uint32),
        np.zeros((5, 5), np.int32),
        np.zeros((5, 5), np.uint16),
        np.full((5, 5), 100, np.uint32),
        np.zeros(25, np.uint32),
    ],
)
def test_frames_that_do_not_fit_are_refused(frame: NDArray[np.generic]) -> None:
    good = np.zeros((5, 5), np.uint32)
    encoder = ResidualEncoder(5, 5, 99, 0, True)
    with pytest.raises(FrameError):
        encoder.encode(frame, good, True)  # type: ignore[arg-type]
    with pytest.raises(FrameError):
        encoder.encode(good, frame, True)  # type: ignore[arg-type]


def test_the_base_is_there_exactly_if_announced() -> None:
    frame = np.zeros((5, 5), np.uint32)
    with pytest.raises(FrameError, match="missing"):
        ResidualEncoder(5, 5, 9, 0, True).encode(frame, None, True)
    with pytest.raises(FrameError, match="not expected"):
        ResidualEncoder(5, 5, 9, 0, False).encode(frame, frame, True)
    for decoder in (ResidualDecoder(5, 5, 9, 0, True), ReferenceDecoder(5, 5, 9, 0, True)):
        with pytest.raises(FrameError, match="missing"):
            decoder.decode(b"", None, True)


def test_the_first_frame_is_a_key_frame() -> None:
    frame = np.zeros((5, 5), np.uint32)
    encoder = ResidualEncoder(5, 5, 9, 0, False)
    with pytest.raises(FrameError, match="key frame"):
        encoder.encode(frame, None, False)
    encoder.encode(frame, None, True)
    payload, _ = encoder.encode(frame, None, False)
    for decoder in (ResidualDecoder(5, 5, 9, 0, False), ReferenceDecoder(5, 5, 9, 0, False)):
        with pytest.raises(BitstreamError, match="key frame"):
            decoder.decode(payload, None, False)


@pytest.mark.parametrize(
    "parameters",
    [
        (0, 5, 9, 0, False),
        (5, 0, 9, 0, False),
        (5, 65536, 9, 0, False),
        (5, 5, -1, 0, False),
        (5, 5, 2**32, 0, False),
        (5, 5, 9, -1, False),
        (5, 5, 9, 2**31, False),
    ],
)
def test_impossible_slices_are_refused(parameters: tuple[int, int, int, int, bool]) -> None:
    with pytest.raises(SpecError):
        ResidualEncoder(*parameters)
    with pytest.raises(SpecError):
        ResidualDecoder(*parameters)
