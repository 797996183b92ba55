"""Integer wavelets that undo exactly: 5/3 lifting in space, Haar in time.

**5/3.** The reversible transform of JPEG 2000 (ITU-T T.800, Annex F). A signal x of n samples is
extended by reflection about its first and last sample and becomes ceil(n / 2) low and floor(n / 2)
high samples,

    high[i] = x[2i + 1] - floor((x[2i] + x[2i + 2]) / 2)
    low[i]  = x[2i]     + floor((high[i - 1] + high[i] + 2) / 4)

A step changes the samples of one parity by a function of the other parity, so that subtracting it
in the reverse order undoes it whatever the rounding. One sample alone is its own low sample. A
frame is transformed down its columns, then along its rows, and back in the reverse order, as
T.800 does; the rounding depends on that order.

**Haar.** The S-transform of a pair of frames (a, b): high = b - a, low = a + floor(high / 2), which
is floor((a + b) / 2). The last of an odd number of frames is its own low frame.

**Growth.** Let samples be at most m in magnitude. Along one axis a high sample is at most 2m and a
low one at most 1.5m + 0.75; so one level of a frame adds at most two bits (reached in `hh`), and
its `ll` is below 2.25m + 2. In time a high frame has one bit more and a low frame none. Sums inside
a step need one more bit. Hence one level takes 29-bit signed samples and one step in time takes
31-bit ones. `analyze2d`, `analyze` and `analyze_time` refuse larger ones; 16-bit samples, signed or
not, pass 11 levels, also after a step in time, whatever they hold.

Arithmetic is modulo 2**32 and so is the undoing of each step: synthesis inverts analysis on all
int32 arrays, and subbands that no frame has (of a damaged stream) give a defined result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_codec.errors import FrameError

SPACE_BITS = 29
"""Bits of a signed sample that one level in space takes without overflow."""

TIME_BITS = 31
"""Bits of a signed sample that the step in time takes without overflow."""

MAX_LEVELS = 16
"""Halvings after which a frame of the largest side is one sample wide."""


class Detail(NamedTuple):
    """The high subbands of one level; `hl` is high along rows (horizontally) and low down columns.

    Attributes
    ----------
    hl : ndarray, shape (..., ceil(rows / 2), floor(columns / 2)), int32
    lh : ndarray, shape (..., floor(rows / 2), ceil(columns / 2)), int32
    hh : ndarray, shape (..., floor(rows / 2), floor(columns / 2)), int32
    """

    hl: NDArray[np.int32]
    lh: NDArray[np.int32]
    hh: NDArray[np.int32]


def analyze2d(frames: NDArray[Any]) -> tuple[NDArray[np.int32], Detail]:
    """Split frames into the subbands of one level.

    Parameters
    ----------
    frames : ndarray, shape (..., rows, columns), integer
        At least one row and one column; values that fit `SPACE_BITS` signed bits.

    Returns
    -------
    ll : ndarray, shape (..., ceil(rows / 2), ceil(columns / 2)), int32
        The frame at half the resolution.
    detail : Detail

    Raises
    ------
    FrameError
        If the dtype, the size or a value is out of range.
    """
    low, high = lift(_checked(frames, SPACE_BITS), axis=-2)
    ll, hl = lift(low, axis=-1)
    lh, hh = lift(high, axis=-1)
    return ll, Detail(hl, lh, hh)


def synthesize2d(ll: NDArray[np.int32], detail: Detail) -> NDArray[np.int32]:
    """Undo `analyze2d`.

    Parameters
    ----------
    ll : ndarray, shape (..., ceil(rows / 2), ceil(columns / 2)), int32
    detail : Detail

    Returns
    -------
    ndarray, shape (..., rows, columns), int32

    Raises
    ------
    FrameError
        If the subbands are not int32 or do not fit each other.
    """
    return unlift(unlift(ll, detail.hl, axis=-1), unlift(detail.lh, detail.hh, axis=-1), axis=-2)


def analyze(frames: NDArray[Any], levels: int) -> tuple[NDArray[np.int32], list[Detail]]:
    """Split frames into the subbands of several levels.

    Parameters
    ----------
    frames : ndarray, shape (..., rows, columns), integer
    levels : int
        1 to `MAX_LEVELS`. A side of one sample stays one sample, and its high subbands are empty.

    Returns
    -------
    ll : ndarray, int32
        The frame of the last level.
    details : list of Detail
        Finest level first.

    Raises
    ------
    FrameError
        If `analyze2d` refuses a level's frame, or there are no or too many levels.
    """
    if not 1 <= levels <= MAX_LEVELS:
        raise FrameError(f"{levels} levels of a wavelet; use 1 to {MAX_LEVELS}")
    details = []
    for _ in range(levels):
        frames, detail = analyze2d(frames)
        details.append(detail)
    return frames, details


def synthesize(ll: NDArray[np.int32], details: Sequence[Detail]) -> NDArray[np.int32]:
    """Undo `analyze`.

    Raises
    ------
    FrameError
        If the subbands are not int32 or do not fit each other.
    """
    for detail in reversed(details):
        ll = synthesize2d(ll, detail)
    return ll


def analyze_time(frames: NDArray[Any]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Split a sequence of frames into means and differences of its pairs.

    Parameters
    ----------
    frames : ndarray, shape (phases, ...), integer
        At least one phase; values that fit `TIME_BITS` signed bits.

    Returns
    -------
    low : ndarray, shape (ceil(phases / 2), ...), int32
    high : ndarray, shape (floor(phases / 2), ...), int32
        Later frame minus earlier frame.

    Raises
    ------
    FrameError
        If the dtype, the size or a value is out of range.
    """
    return haar(_checked(frames, TIME_BITS))


def synthesize_time(low: NDArray[np.int32], high: NDArray[np.int32]) -> NDArray[np.int32]:
    """Undo `analyze_time`: shape (phases, ...), int32.

    Raises
    ------
    FrameError
        If the subbands are not int32 or do not fit each other.
    """
    _check_pair(low, high, axis=0)
    frames = np.empty((len(low) + len(high), *low.shape[1:]), np.int32)
    pairs = len(high)
    frames[0::2] = low
    frames[0::2][:pairs] -= high >> 1
    frames[1::2] = frames[0::2][:pairs] + high
    return frames


def haar(frames: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Evaluate `analyze_time` modulo 2**32, on any int32 values."""
    first, second = frames[0::2], frames[1::2]
    high = second - first[: len(second)]
    low = first.copy()
    low[: len(high)] += high >> 1
    return low, high


def lift(signal: NDArray[np.int32], axis: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Split int32 samples along an axis by 5/3 lifting, modulo 2**32.

    Returns
    -------
    low, high : ndarray, int32
        With ceil(n / 2) and floor(n / 2) of the n samples along `axis`.
    """
    x = np.moveaxis(signal, axis, 0)
    even, odd = x[0::2], x[1::2]
    if len(odd) == 0:
        return signal.copy(), np.moveaxis(odd.copy(), 0, axis)
    high = odd - _predict(even, len(odd))
    low = even + _update(high, len(even))
    return _contiguous(low, axis), _contiguous(high, axis)


def unlift(low: NDArray[np.int32], high: NDArray[np.int32], axis: int) -> NDArray[np.int32]:
    """Undo `lift`.

    Raises
    ------
    FrameError
        If the two are not int32 or do not fit each other.
    """
    _check_pair(low, high, axis)
    s, d = np.moveaxis(low, axis, 0), np.moveaxis(high, axis, 0)
    if len(d) == 0:
        return low.copy()
    x = np.empty((len(s) + len(d), *s.shape[1:]), np.int32)
    x[0::2] = s - _update(d, len(s))
    x[1::2] = d + _predict(x[0::2], len(d))
    return _contiguous(x, axis)


def _predict(even: NDArray[np.int32], count: int) -> NDArray[np.int32]:
    """Take the mean of the two even neighbors of each odd sample, rounded down; reflected."""
    after = np.concatenate([even[1:], even[-1:]])
    mean: NDArray[np.int32] = (even[:count] + after[:count]) >> 1
    return mean


def _update(high: NDArray[np.int32], count: int) -> NDArray[np.int32]:
    """Round a quarter of the sum of the two high neighbors of each even sample, reflected."""
    around = np.concatenate([high[:1], high, high[-1:]])
    quarter: NDArray[np.int32] = (around[:count] + around[1 : count + 1] + 2) >> 2
    return quarter


def _contiguous(x: NDArray[np.int32], axis: int) -> NDArray[np.int32]:
    return np.ascontiguousarray(np.moveaxis(x, 0, axis))


def _checked(frames: NDArray[Any], bits: int) -> NDArray[np.int32]:
    """Return frames as int32 after looking at their size and values."""
    if frames.ndim < 2 or 0 in frames.shape or frames.dtype.kind not in "iu":
        raise FrameError(
            f"frames are {frames.shape} {frames.dtype}; the wavelet takes integer frames of at "
            "least one row and column"
        )
    low, high, limit = int(frames.min()), int(frames.max()), 1 << (bits - 1)
    if low < -limit or high >= limit:
        raise FrameError(
            f"values from {low} to {high} could overflow the wavelet's 32 bits; subtract an offset "
            f"or scale them into {-limit}..{limit - 1}"
        )
    return frames.astype(np.int32)


def _check_pair(low: NDArray[Any], high: NDArray[Any], axis: int) -> None:
    """Refuse a pair of subbands that no signal has."""
    fits = low.dtype == np.int32 and high.dtype == np.int32 and low.ndim == high.ndim >= 2
    if fits:
        sides = list(low.shape)
        fits = sides[axis] > 0 and sides[axis] - high.shape[axis] in (0, 1)
        sides[axis] = high.shape[axis]
        fits = fits and tuple(sides) == high.shape
    if not fits:
        raise FrameError(
            f"subbands of {low.shape} {low.dtype} and {high.shape} {high.dtype} belong to no "
            "frame; both are int32, and the low one has as many samples or one more"
        )
