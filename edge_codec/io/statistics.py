"""The range of a cine's coded integers, from one pass in flat memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.errors import SourceError
from edge_codec.io.source import FrameSource

MAX_BINS = 1 << 20


@dataclass(frozen=True, slots=True)
class ValueRange:
    """Bounds of coded integers.

    Attributes
    ----------
    low, high : int
        Exact minimum and maximum.
    p001, p999 : int
        0.1th and 99.9th percentile by NumPy's rule 'lower': of n sorted values number
        `(n - 1) // 1000` and `999 * (n - 1) // 1000` from 0. Exact while `high - low` is below
        about 2**20; beyond, rounded down to a multiple of a power of two that is at most
        `(high - low) / 2**19`, yet never below `low`.
    """

    low: int
    high: int
    p001: int
    p999: int


def scan(
    source: FrameSource,
    progress: Callable[[Iterable[Any], int | None, str], Iterable[Any]] | None = None,
    watch: Callable[[NDArray[Any]], None] | None = None,
) -> ValueRange:
    """Read a source once and return the range of its coded integers.

    Parameters
    ----------
    source : FrameSource
        Cine to read.
    progress : callable, optional
        Wraps the frames: (frames, number of frames or None, what is done) -> the same frames.
    watch : callable, optional
        Is called with the samples of each frame, in the same pass.

    Raises
    ------
    SourceError
        If the source gives no frame.
    """
    frames: Iterable[Any] = source.frames()
    if progress is not None:
        frames = progress(frames, source.info.n_slices * source.info.n_phases or None, "scan")
    histogram = Histogram()
    for frame in frames:
        histogram.add(frame.samples)
        if watch is not None:
            watch(frame.samples)
    return histogram.summary()


class Histogram:
    """Counts of integers of unknown range, in at most `MAX_BINS` bins.

    Bin `i` counts values `v` with `v >> shift == first + i`. Where the range outgrows the bins,
    `shift` grows and neighboring bins are merged, so the result depends on the values alone, not
    on their order.
    """

    def __init__(self) -> None:
        self._low: int | None = None
        self._high = 0
        self._shift = 0
        self._first = 0
        self._counts = np.zeros(0, dtype=np.int64)

    def add(self, samples: NDArray[Any]) -> None:
        """Count the values of an integer array."""
        if samples.size == 0:
            return
        low, high = int(samples.min()), int(samples.max())
        if self._low is None or low < self._low or high > self._high:
            self._grow(low, high)
        bins = samples.astype(np.uint64 if samples.dtype == np.uint64 else np.int64).ravel()
        if self._shift:
            bins >>= bins.dtype.type(self._shift)
        bins -= bins.dtype.type(self._first)
        self._counts += np.bincount(bins.view(np.int64), minlength=self._counts.size)

    def summary(self) -> ValueRange:
        """Return the range of everything counted so far.

        Raises
        ------
        SourceError
            If nothing was counted.
        """
        if self._low is None:
            raise SourceError("the source has no frames")
        last = int(self._counts.sum()) - 1
        ranks = np.array([last // 1000, 999 * last // 1000])
        found = np.searchsorted(np.cumsum(self._counts), ranks, side="right")
        p001, p999 = (max((int(i) + self._first) << self._shift, self._low) for i in found)
        return ValueRange(self._low, self._high, p001, p999)

    def counts(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the values counted so far, rising, and how often each came.

        Values stand for their bins: exact below a range of about 2**20, as `ValueRange` says.
        """
        bins = np.flatnonzero(self._counts)
        return (bins + self._first) << self._shift, self._counts[bins]

    def _grow(self, low: int, high: int) -> None:
        old_first, old_shift = self._first, self._shift
        if self._low is None:
            old_first = low
        else:
            low, high = min(low, self._low), max(high, self._high)
        self._low, self._high = low, high
        while (high >> self._shift) - (low >> self._shift) >= MAX_BINS:
            self._shift += 1
        self._first = low >> self._shift
        counts = np.zeros((high >> self._shift) - self._first + 1, dtype=np.int64)
        old = np.flatnonzero(self._counts)
        # Offsets from the old first bin: the bins' own numbers may exceed 63 bits.
        merged = self._shift - old_shift
        within = old_first - (old_first >> merged << merged)
        moved = ((within + old) >> merged) + ((old_first >> merged) - self._first)
        np.add.at(counts, moved, self._counts[old])
        self._counts = counts
