"""Round trips: the bound holds for every voxel, and the plain decoder gets the same frames."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from residual_samples import (
    BOUNDS,
    EFFORTS,
    KINDS,
    SPANS,
    Frame,
    Slice,
    check_round_trip,
    draw_frame,
    draw_frames,
    encode_all,
)

from edge_codec.errors import BitstreamError, FrameError, SpecError
from edge_codec.residual import ResidualDecoder, ResidualEncoder
from edge_codec.spec import Effort


@pytest.mark.parametrize("effort", EFFORTS)
@settings(derandomize=True, max_examples=36, deadline=None)
@given(
    st.integers(1, 20),
    st.integers(1, 20),
    st.sampled_from(SPANS),
    st.sampled_from(BOUNDS),
    st.booleans(),
    st.lists(st.tuples(st.sampled_from(KINDS), st.booleans()), min_size=1, max_size=6),
    st.integers(0, 2**32 - 1),
)
def test_bound_holds_and_decoders_agree(
    effort: Effort,
    rows: int,
    columns: int,
    span: int,
    max_error: int,
    with_base: bool,
    sequence: list[tuple[str, bool]],
    seed: int,
) -> None:
    slice_ = Slice(rows, columns, span, max_error, with_base, effort)
    frames = draw_frames(slice_, [kind for kind, _ in sequence], seed)
    check_round_trip(slice_, frames, [True, *(key for _, key in sequence[1:])])


@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize("with_base", [False, True])
@pytest.mark.parametrize("max_error", [0, 2])
def test_all_sets_of_taps(effort: Effort, with_base: bool, max_error: int) -> None:
    """Six frames without a raw one reach back as far as any filter does."""
    slice_ = Slice(17, 21, 1023, max_error, with_base, effort)
    payloads = check_round_trip(slice_, draw_frames(slice_, ["wave"] * 6, 6))
    assert {payload[0] for payload in payloads} == {0}


@pytest.mark.parametrize(
    ("seed", "effort"),
    [
        *((11, Effort.BEST), (50, Effort.BEST)),
        *((62, Effort.DEFAULT), (87, Effort.DEFAULT), (200, Effort.DEFAULT)),
    ],
)
def test_the_order_of_operations_shows(seed: int, effort: Effort) -> None:
    """Frames that come out differently if least squares round elsewhere, found by trying many."""
    slice_ = Slice(16, 16, 2**32 - 1, 2**20, False, effort)
    check_round_trip(slice_, draw_frames(slice_, ["wave"] * 4, seed))


@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize(("rows", "max_error"), [(95, 0), (191, 2), (192, 2), (289, 0)])
def test_bands_agree_with_the_plain_decoder(effort: Effort, rows: int, max_error: int) -> None:
    slice_ = Slice(rows, 2, 1023, max_error, True, effort)
    check_round_trip(slice_, draw_frames(slice_, ["walk", "noise", "walk"], rows))


@pytest.mark.parametrize("columns", [4096, 4097])
def test_large_bands_skip_rows(columns: int) -> None:
    """From 16,385 voxels on, the default effort sums every other row of the large blocks.

    The first two frames are raw, which costs the plain decoder no time.
    """
    slice_ = Slice(4, columns, 255, 0, False)
    (first, _), (second, _) = draw_frames(slice_, ["noise", "noise"], 1)
    third = np.clip(second // 2 + first // 4, 0, 255).astype(np.uint32)
    payloads = check_round_trip(slice_, [(first, None), (second, None), (third, None)])
    assert [payload[0] for payload in payloads] == [1, 1, 0]


@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize("span", [255, 4095, 65535, 2**32 - 1])
@pytest.mark.parametrize("max_error", [0, 5])
def test_larger_moving_frames(effort: Effort, span: int, max_error: int) -> None:
    slice_ = Slice(200, 61, span, max_error, False, effort)
    frames = draw_frames(slice_, ["wave"] * 6, span)
    check_round_trip(slice_, frames, [phase % 5 == 0 for phase in range(6)], plain=False)


@pytest.mark.parametrize("effort", EFFORTS)
def test_threads_do_not_change_the_payload(effort: Effort) -> None:
    slice_ = Slice(400, 30, 1000, 1, False, effort)
    frames = draw_frames(slice_, ["walk", "gradient", "walk"], 5)
    payloads = check_round_trip(slice_, frames, plain=False)
    with ThreadPoolExecutor(3) as pool:
        encoder, decoder = slice_.encoder(mapper=pool.map), slice_.decoder(mapper=pool.map)
        for i, (frame, base) in enumerate(frames):
            payload, expected = encoder.encode(frame, base, i == 0)
            encoder.commit()
            assert payload == payloads[i]
            np.testing.assert_array_equal(decoder.decode(payload, base, i == 0), expected)


@pytest.mark.parametrize("effort", EFFORTS)
@settings(derandomize=True, max_examples=30, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from(SPANS),
    st.sampled_from(BOUNDS),
    st.booleans(),
    st.lists(st.sampled_from(KINDS), min_size=1, max_size=6),
    st.lists(st.floats(0, 1), min_size=6, max_size=6),
    st.integers(0, 2**32 - 1),
)
def test_coding_anew_is_coding_at_once(
    effort: Effort,
    rows: int,
    columns: int,
    span: int,
    max_error: int,
    with_base: bool,
    kinds: list[str],
    parts: list[float],
    seed: int,
) -> None:
    """What was coded and not committed leaves no trace."""
    slice_ = Slice(rows, columns, span, max_error, with_base, effort)
    anew, at_once, decoder = slice_.encoder(), slice_.encoder(), slice_.decoder()
    for i, (frame, base) in enumerate(draw_frames(slice_, kinds, seed)):
        bound = int(parts[i] * max_error)
        anew.encode(frame, base, i == 0)
        anew.encode(frame, base, i == 0, bound // 2)
        payload, decoded = anew.encode(frame, base, i == 0, bound)
        anew.commit()
        expected, expected_frame = at_once.encode(frame, base, i == 0, bound)
        at_once.commit()
        assert payload == expected
        np.testing.assert_array_equal(decoded, expected_frame)
        np.testing.assert_array_equal(decoder.decode(payload, base, i == 0), decoded)
        assert int(np.abs(decoded.astype(np.int64) - frame.astype(np.int64)).max()) <= bound


@pytest.mark.parametrize("effort", EFFORTS)
def test_a_bound_of_the_frame_is_in_its_payload(effort: Effort) -> None:
    slice_ = Slice(16, 20, 4095, 9, True, effort)
    encoder, decoder, plain = slice_.encoder(), slice_.decoder(), slice_.plain_decoder()
    for i, (frame, base) in enumerate(draw_frames(slice_, ["wave"] * 5, 3)):
        bound = (9, 0, 4, 8, 9)[i]
        payload, decoded = encoder.encode(frame, base, i == 0, bound)
        encoder.commit()
        assert payload[0] == (0 if bound == 9 else 2)
        if bound != 9:
            assert int.from_bytes(payload[1:5], "little") == bound
        for each in (decoder, plain):
            np.testing.assert_array_equal(each.decode(payload, base, i == 0), decoded)


@pytest.mark.parametrize("bound", [-1, 4, 2**32])
def test_bounds_above_that_of_the_slice_are_refused(bound: int) -> None:
    frame = np.zeros((5, 5), np.uint32)
    with pytest.raises(FrameError, match="bound"):
        ResidualEncoder(5, 5, 9, 3, False).encode(frame, None, True, bound)


@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize("span", SPANS)
@pytest.mark.parametrize("shape", [(1, 1), (16, 16), (70, 50), (200, 20)])
def test_noise_does_not_expand(effort: Effort, span: int, shape: tuple[int, int]) -> None:
    slice_ = Slice(*shape, span, effort=effort)
    payloads = check_round_trip(slice_, draw_frames(slice_, ["noise"] * 3, 1), plain=False)
    raw = shape[0] * shape[1] * span.bit_length() / 8
    assert max(map(len, payloads)) <= 1.01 * raw + 64


@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize("value", [0, 7, 2000, 4095])
def test_flat_frames_cost_next_to_nothing(effort: Effort, value: int) -> None:
    slice_ = Slice(256, 256, 4095, effort=effort)
    frame = np.full((256, 256), value, np.uint32)
    payloads = check_round_trip(slice_, [(frame, None)] * 3, plain=False)
    assert max(map(len, payloads)) <= (500 if effort == Effort.BEST else 200)


@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize("with_base", [False, True])
def test_raw_frames_between_coded_ones(effort: Effort, with_base: bool) -> None:
    slice_ = Slice(12, 15, 255, 0, with_base, effort)
    kinds = ["walk", "walk", "noise", "walk", "noise", "noise", "walk", "walk"]
    frames = draw_frames(slice_, kinds, 3)
    if with_base:  # one that is as far off as noise
        frames = [(frame, frames[2][0]) for frame, _ in frames]
        frames[2] = frames[2][0], frames[0][0]
    payloads = check_round_trip(slice_, frames)
    assert {payload[0] for payload in payloads} == {0, 1}


@pytest.mark.parametrize("effort", EFFORTS)
def test_time_and_base_save_bits(effort: Effort) -> None:
    """The taps of other frames are there and in use."""
    rng = np.random.default_rng(8)
    frame = rng.integers(0, 1000, (64, 64)).astype(np.uint32)
    near = np.clip(frame + rng.integers(-2, 3, frame.shape), 0, 1000).astype(np.uint32)
    # The local filters learn from the frame before the previous one.
    sequence: list[tuple[Frame, Frame | None]] = [(frame, None), (near, None), (frame, None)]
    alone, _, after = (len(p) for p, _ in encode_all(Slice(64, 64, 1000, effort=effort), sequence))
    assert after < alone / 2
    based = Slice(64, 64, 1000, 0, True, effort)
    with_base = [len(p) for p, _ in encode_all(based, [(frame, near)] * 3)]
    assert max(with_base[0 if effort == Effort.FAST else 2 :]) < alone / 2


@pytest.mark.parametrize("effort", EFFORTS)
def test_a_larger_bound_saves_bits(effort: Effort) -> None:
    frame = draw_frame("walk", 90, 80, 4095, np.random.default_rng(2))
    sizes = [
        len(encode_all(Slice(90, 80, 4095, bound, False, effort), [(frame, None)])[0][0])
        for bound in (0, 1, 2, 4, 8)
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < sizes[0] / 2


def test_more_effort_saves_bits() -> None:
    frames = draw_frames(Slice(96, 96, 1023), ["wave"] * 6, 4)
    sizes = [
        sum(len(payload) for payload, _ in encode_all(Slice(96, 96, 1023, effort=effort), frames))
        for effort in EFFORTS
    ]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("effort", EFFORTS)
def test_inputs_are_not_changed_and_need_not_be_contiguous(effort: Effort) -> None:
    frame = draw_frame("walk", 30, 40, 999, np.random.default_rng(4))
    before = frame.copy()
    slice_ = Slice(30, 40, 999, effort=effort)
    ((payload, decoded),) = encode_all(slice_, [(frame, None)])
    ((again, _),) = encode_all(slice_, [(np.asfortranarray(frame), None)])
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
    with pytest.raises(FrameError, match="missing"):
        ResidualDecoder(5, 5, 9, 0, True).decode(b"", None, True)


@pytest.mark.parametrize("effort", EFFORTS)
def test_the_first_frame_is_a_key_frame(effort: Effort) -> None:
    slice_ = Slice(5, 5, 9, effort=effort)
    frame = np.zeros((5, 5), np.uint32)
    with pytest.raises(FrameError, match="key frame"):
        slice_.encoder().encode(frame, None, False)
    (_, (payload, _)) = encode_all(slice_, [(frame, None)] * 2)
    with pytest.raises(BitstreamError, match="key frame"):
        slice_.decoder().decode(payload, None, False)


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


@pytest.mark.parametrize("effort", EFFORTS)
def test_coding_anew_keeps_the_key_flag(effort: Effort) -> None:
    frame = np.zeros((5, 5), np.uint32)
    encoder = ResidualEncoder(5, 5, 9, 0, False, map, effort)
    encoder.encode(frame, None, True)
    encoder.commit()
    encoder.encode(frame, None, False)
    with pytest.raises(FrameError, match="key flag"):
        encoder.encode(frame, None, True)
    encoder.commit()
    encoder.encode(frame, None, True)
