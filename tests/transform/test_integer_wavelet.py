"""Wavelets: reconstruction, hand-computed subbands, growth, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from edge_codec.errors import FrameError
from edge_codec.transform.wavelet import (
    MAX_LEVELS,
    SPACE_BITS,
    TIME_BITS,
    Detail,
    analyze,
    analyze2d,
    analyze_time,
    haar,
    lift,
    synthesize,
    synthesize2d,
    synthesize_time,
    unlift,
)

LARGEST = (1 << (SPACE_BITS - 1)) - 1
int32 = st.integers(-(1 << 31), (1 << 31) - 1)
sides = hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=9)


def frames_of(dtype: Any, elements: st.SearchStrategy[int] | None = None) -> Any:
    return hnp.arrays(dtype, sides, elements=elements)


def row(*samples: int) -> NDArray[np.int32]:
    return np.array([samples], np.int32)


@settings(deadline=None)
@given(st.one_of(frames_of(np.int16), frames_of(np.uint16), frames_of(np.uint8)), st.data())
def test_frames_come_back(frames: NDArray[Any], data: st.DataObject) -> None:
    ll, details = analyze(frames, data.draw(st.integers(1, MAX_LEVELS)))
    assert np.array_equal(synthesize(ll, details), frames)
    assert all(band.dtype == np.int32 for band in (ll, *(b for d in details for b in d)))


@settings(deadline=None)
@given(frames_of(np.int32, st.integers(-LARGEST - 1, LARGEST)))
def test_frames_of_the_largest_samples_come_back(frames: NDArray[np.int32]) -> None:
    assert np.array_equal(synthesize2d(*analyze2d(frames)), frames)


@settings(deadline=None)
@given(st.one_of(frames_of(np.int16), frames_of(np.uint16)))
def test_sequences_come_back(frames: NDArray[Any]) -> None:
    low, high = analyze_time(frames)
    assert len(low) == -(-len(frames) // 2)
    assert np.array_equal(synthesize_time(low, high), frames)


@settings(deadline=None)
@given(frames_of(np.int32, int32), st.integers(-2, 1))
def test_steps_undo_each_other_modulo_2_to_the_32(x: NDArray[np.int32], axis: int) -> None:
    assert np.array_equal(unlift(*lift(x, axis), axis), x)
    assert np.array_equal(synthesize_time(*haar(x)), x)


@settings(deadline=None)
@given(st.lists(st.integers(-1000, 1000), min_size=1, max_size=20))
def test_lifting_is_the_definition(x: list[int]) -> None:
    """Written again with T.800's extension of the signal, one sample after the other."""
    n = len(x)
    if n == 1:
        low, high = x, []
    else:
        extended = {i: x[_reflected(i, n)] for i in range(-3, n + 3)}
        y = {i: extended[i] - (extended[i - 1] + extended[i + 1]) // 2 for i in range(-1, n + 2, 2)}
        low = [extended[i] + (y[i - 1] + y[i + 1] + 2) // 4 for i in range(0, n, 2)]
        high = [y[i] for i in range(1, n, 2)]
    ll, detail = analyze2d(row(*x))
    assert (ll[0].tolist(), detail.hl[0].tolist()) == (low, high)
    ll, detail = analyze2d(row(*x).T)
    assert (ll[:, 0].tolist(), detail.lh[:, 0].tolist()) == (low, high)


def _reflected(i: int, n: int) -> int:
    i %= 2 * (n - 1)
    return min(i, 2 * (n - 1) - i)


@pytest.mark.parametrize(
    ("x", "low", "high"),
    [
        # high: 7 - (3+4)//2, -2 - (4+9)//2, 5 - 9; low: 3 + (4+4+2)//4, 4 + (4-8+2)//4, ...
        ((3, 7, 4, -2, 9, 5), (5, 3, 6), (4, -8, -4)),
        # The last of five has its high neighbor on both sides: 9 + (-8-8+2)//4.
        ((3, 7, 4, -2, 9), (5, 3, 5), (4, -8)),
        ((5,), (5,), ()),
        ((5, 2), (4,), (-3,)),  # 5 + (-3-3+2)//4
    ],
)
def test_small_signals_by_hand(x: Any, low: Any, high: Any) -> None:
    s, d = lift(row(*x), axis=-1)
    assert (tuple(s[0]), tuple(d[0])) == (low, high)


def test_a_small_frame_by_hand() -> None:
    # Down: high = (6-1, 8-2) = (5, 6), low = (1 + (5+5+2)//4, 2 + (6+6+2)//4) = (4, 5).
    ll, detail = analyze2d(np.array([[1, 2], [6, 8]], np.uint16))
    # Along (4, 5): high 1, low 4 + (1+1+2)//4. Along (5, 6): high 1, low 5 + 1.
    assert ll.tolist() == [[5]]
    assert [band.tolist() for band in detail] == [[[1]], [[6]], [[1]]]


def test_columns_are_lifted_before_rows() -> None:
    """The other order rounds otherwise, which a decoder would see."""
    x = np.random.default_rng(0).integers(-99, 99, (8, 8)).astype(np.int32)
    rows_first = [lift(part, axis=-2) for part in lift(x, axis=-1)]
    assert not np.array_equal(analyze2d(x)[0], rows_first[0][0])
    low, high = lift(x, axis=-2)
    assert np.array_equal(analyze2d(x)[0], lift(low, axis=-1)[0])
    assert np.array_equal(analyze2d(x)[1].hh, lift(high, axis=-1)[1])


def test_time_by_hand() -> None:
    frames = np.array([3, 8, -5, -8, 7], np.int16)[:, None, None]
    low, high = analyze_time(frames)
    assert low.ravel().tolist() == [5, -7, 7]
    assert high.ravel().tolist() == [5, -3]


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (3, 1), (4, 6), (5, 7), (2, 3, 8, 9)])
def test_shapes_of_subbands(shape: tuple[int, ...]) -> None:
    *stack, rows, columns = shape
    ll, (hl, lh, hh) = analyze2d(np.zeros(shape, np.int16))
    tall, wide, short, narrow = -(-rows // 2), -(-columns // 2), rows // 2, columns // 2
    sides = [(tall, wide), (tall, narrow), (short, wide), (short, narrow)]
    assert [band.shape for band in (ll, hl, lh, hh)] == [(*stack, *side) for side in sides]


def test_hl_holds_what_changes_along_a_row() -> None:
    _, detail = analyze2d(np.tile(np.int32([0, 10]), (4, 2)))
    assert detail.hl.any()
    assert not detail.lh.any()
    assert not detail.hh.any()


def test_the_largest_growth_is_two_bits_and_does_not_overflow() -> None:
    signs = np.where(np.indices((6, 6)).sum(axis=0) % 2, 1, -1)
    for frame in (signs * LARGEST, -signs * LARGEST, np.where(signs > 0, LARGEST, -LARGEST - 1)):
        ll, detail = analyze2d(frame.astype(np.int32))
        wide, wide_detail = _exactly(frame)
        assert np.array_equal(ll, wide)
        assert all(map(np.array_equal, detail, wide_detail))
        assert np.abs(wide_detail.hh).max() >= 4 * LARGEST - 2


@settings(deadline=None)
@given(frames_of(np.int32, st.sampled_from([-LARGEST - 1, LARGEST, 0])))
def test_growth_is_within_the_stated_bounds(frames: NDArray[np.int32]) -> None:
    ll, detail = analyze2d(frames)
    wide, wide_detail = _exactly(frames)
    assert np.array_equal(ll, wide)
    assert all(map(np.array_equal, detail, wide_detail))
    assert np.abs(wide).max() < 2.25 * (LARGEST + 1) + 2


def _exactly(frame: NDArray[Any]) -> tuple[NDArray[Any], Detail]:
    """One level in 64 bits, where nothing overflows."""
    low, high = lift(frame.astype(np.int64), axis=-2)
    ll, hl = lift(low, axis=-1)
    return ll, Detail(hl, *lift(high, axis=-1))


@pytest.mark.parametrize("first", [lambda x: x, lambda x: np.concatenate(analyze_time(x))])
def test_16_bit_samples_pass_eleven_levels(first: Any) -> None:
    """The bound by the growth that the module states, and the worst of patterns do pass."""
    bound = float((1 << 16) - 1)
    for _ in range(11):
        assert bound < 1 << (SPACE_BITS - 1)
        bound = 2.25 * bound + 1.875
    rng = np.random.default_rng(1)
    frames = rng.choice(np.uint16([0, 65535]), (2, 64, 64))
    ll, details = analyze(first(frames), 11)
    assert np.array_equal(synthesize(ll, details), first(frames))


@pytest.mark.parametrize("value", [LARGEST + 1, -LARGEST - 2])
def test_samples_that_could_overflow_in_space_are_refused(value: int) -> None:
    frame = np.zeros((3, 3), np.int64)
    frame[1, 2] = value
    with pytest.raises(FrameError, match=f"{value}.* could overflow"):
        analyze2d(frame)
    analyze_time(frame)


@pytest.mark.parametrize("value", [1 << (TIME_BITS - 1), -(1 << (TIME_BITS - 1)) - 1])
def test_samples_that_could_overflow_in_time_are_refused(value: int) -> None:
    with pytest.raises(FrameError, match="could overflow"):
        analyze_time(np.full((2, 1), value, np.int64))
    inside = value - 1 if value > 0 else value + 1
    low, high = analyze_time(np.int64([[inside], [~inside]]))
    assert high.item() == ~inside - inside
    assert synthesize_time(low, high).ravel().tolist() == [inside, ~inside]


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((3, 0), np.int16),
        np.zeros((0, 3), np.int16),
        np.zeros(3, np.int16),
        np.zeros((3, 3), np.float32),
        np.zeros((3, 3), bool),
        np.full((1, 1), np.nan),
    ],
)
@pytest.mark.parametrize("function", [analyze2d, analyze_time])
def test_what_is_no_frame_is_refused(function: Any, frames: NDArray[Any]) -> None:
    with pytest.raises(FrameError, match="the wavelet takes integer frames"):
        function(frames)


@pytest.mark.parametrize("levels", [0, -1, MAX_LEVELS + 1])
def test_impossible_levels_are_refused(levels: int) -> None:
    with pytest.raises(FrameError, match="levels of a wavelet"):
        analyze(np.zeros((3, 3), np.int16), levels)


def band(*shape: int, dtype: Any = np.int32) -> NDArray[Any]:
    return np.zeros(shape, dtype)


@pytest.mark.parametrize(
    ("ll", "detail"),
    [
        (band(2, 3), Detail(band(2, 2), band(1, 3), band(1, 3))),
        (band(2, 3), Detail(band(2, 4), band(1, 3), band(1, 2))),
        (band(2, 3), Detail(band(2, 2), band(3, 3), band(3, 2))),
        (band(2, 3), Detail(band(1, 2), band(1, 3), band(1, 2))),
        (band(2, 3, dtype=np.int16), Detail(band(2, 2), band(1, 3), band(1, 2))),
        (band(2, 3), Detail(band(2, 2), band(1, 3), band(1, 2, dtype=np.int64))),
        (band(0, 0), Detail(band(0, 0), band(0, 0), band(0, 0))),
        (band(3), Detail(band(2), band(3), band(2))),
    ],
)
def test_subbands_that_do_not_fit_are_refused(ll: NDArray[Any], detail: Detail) -> None:
    with pytest.raises(FrameError, match="belong to no frame"):
        synthesize2d(ll, detail)


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (band(3, 2), band(1, 2)),
        (band(1, 2), band(2, 2)),
        (band(2, 2), band(2, 3)),
        (band(0, 2), band(0, 2)),
    ],
)
def test_halves_that_are_no_sequence_are_refused(low: NDArray[Any], high: NDArray[Any]) -> None:
    with pytest.raises(FrameError, match="belong to no frame"):
        synthesize_time(low, high)
