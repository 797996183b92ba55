"""Durations in fixed memory: counts in buckets whose width grows with the value (HDR histogram).

Values below `LINEAR` nanoseconds have buckets of their own. Above, each power of two is cut into
`PER_OCTAVE` buckets of equal width, so that the middle of a bucket is off by at most 1 / 1024 of
the value: three significant digits from nanoseconds to a quarter of an hour, in 128 KiB.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

MANTISSA_BITS = 10
LINEAR = 1 << MANTISSA_BITS
PER_OCTAVE = LINEAR >> 1
VALUE_BITS = 40
MAX_VALUE = (1 << VALUE_BITS) - 1
SIZE = LINEAR + (VALUE_BITS - MANTISSA_BITS) * PER_OCTAVE
RELATIVE_ERROR = 1 / LINEAR
PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99_9": 99.9}


class Histogram:
    """Counts of durations, for percentiles of any number of them.

    Recording takes the same short time whatever was recorded before, and no memory. A duration
    below 0 counts as 0, one of more than `MAX_VALUE` in the last bucket; `largest` and `total` are
    exact. One thread may record at a time, while others read.
    """

    __slots__ = ("_counts", "largest", "n", "total")

    def __init__(self) -> None:
        self._counts = array("Q", bytes(8 * SIZE))
        self.n = 0
        self.largest = 0
        self.total = 0

    def record(self, value_ns: int) -> None:
        """Count one duration, in nanoseconds."""
        if value_ns > self.largest:
            self.largest = value_ns
        if value_ns < LINEAR:
            value_ns = place = max(value_ns, 0)
        elif value_ns <= MAX_VALUE:
            shift = value_ns.bit_length() - MANTISSA_BITS
            place = shift * PER_OCTAVE + (value_ns >> shift)
        else:
            place = SIZE - 1
        self._counts[place] += 1
        self.n += 1
        self.total += value_ns

    def merge(self, other: Histogram) -> None:
        """Count everything that another histogram has counted."""
        counts = np.frombuffer(self._counts, np.uint64)
        counts += np.frombuffer(other._counts, np.uint64)
        self.n += other.n
        self.total += other.total
        self.largest = max(self.largest, other.largest)

    def clear(self) -> None:
        """Forget everything."""
        np.frombuffer(self._counts, np.uint64)[:] = 0
        self.n = self.total = self.largest = 0

    @property
    def mean(self) -> float:
        """Exact mean in nanoseconds; 0 of nothing."""
        return self.total / self.n if self.n else 0.0

    def percentile(self, percent: float) -> float:
        """Return the smallest value that at least so many percent of all do not exceed, in ns.

        It is off by at most `RELATIVE_ERROR` of itself, and never above `largest`; 0 of nothing.
        """
        return self.percentiles([percent])[0]

    def percentiles(self, percents: Iterable[float]) -> list[float]:
        """Return several percentiles for the price of one."""
        sums = np.cumsum(np.frombuffer(self._counts, np.uint64))
        n = int(sums[-1])  # not self.n: another thread may be recording
        if not n:
            return [0.0 for _ in percents]
        found = []
        for percent in percents:
            place = int(np.searchsorted(sums, np.uint64(nearest_rank(percent, n))))
            found.append(min(_middle(place), float(self.largest)))
        return found

    def summary_ms(self) -> dict[str, float]:
        """Return `n`, `p50`, `p90`, `p99`, `p99_9`, `max` and `mean`, durations in ms."""
        values = self.percentiles(PERCENTILES.values())
        found = {name: value / 1e6 for name, value in zip(PERCENTILES, values, strict=True)}
        return {"n": self.n, **found, "max": self.largest / 1e6, "mean": self.mean / 1e6}

    def counts_below(self, bounds_ns: Iterable[int]) -> list[int]:
        """Return how many values do not exceed each bound, to within a bucket."""
        sums = np.cumsum(np.frombuffer(self._counts, np.uint64))
        return [int(sums[_place(bound)]) for bound in bounds_ns]

    def filled(self) -> tuple[NDArray[np.float64], NDArray[np.uint64]]:
        """Return the middles, in ns, and counts of all buckets that hold anything."""
        counts = np.frombuffer(self._counts, np.uint64)
        places = np.flatnonzero(counts)
        middles = np.array([_middle(int(place)) for place in places], np.float64)
        return middles, counts[places].copy()


def nearest_rank(percent: float, n: int) -> int:
    """Return the rank, 1 to n, of the smallest value that so many percent do not exceed.

    >>> nearest_rank(99.9, 1000), nearest_rank(50, 5), nearest_rank(0, 5)
    (999, 3, 1)
    """
    # Rounded: 99.9 % of 1000 would be a little more than 999.
    return min(max(1, math.ceil(round(percent / 100 * n, 6))), n)


def _place(value_ns: int) -> int:
    """Return the bucket of a value of at least 0."""
    value_ns = min(value_ns, MAX_VALUE)
    if value_ns < LINEAR:
        return value_ns
    shift = value_ns.bit_length() - MANTISSA_BITS
    return shift * PER_OCTAVE + (value_ns >> shift)


def _middle(place: int) -> float:
    """Return the middle of a bucket."""
    if place < LINEAR:
        return float(place)
    shift = place // PER_OCTAVE - 1
    low = (place - shift * PER_OCTAVE) << shift
    return low + ((1 << shift) - 1) / 2


def merged(histograms: Iterable[Histogram]) -> Histogram:
    """Return one histogram of all that several have counted."""
    whole = Histogram()
    for one in histograms:
        whole.merge(one)
    return whole
