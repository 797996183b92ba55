"""Observers: what a tensor's values look like over the calibration frames, and which scale fits.

An `Observer` is a histogram of bounded size whose bins are a power of two wide. Where the values
outgrow it, neighboring bins merge and twice the range fits, so any number of frames may stream
through. Since the scales of an integer network are powers of two as well, every edge between two
integers lies on an edge between two bins: counting is enough to compare scales.

Each rule of `RULES` turns an observer into an exponent:

- `minmax`: nothing seen is clipped.
- `percentile`: at most one value in ten thousand is clipped.
- `entropy`: the integers say most about the distribution: least Kullback-Leibler divergence of the
  values' histogram to the quantized one, as in TensorRT's former calibrator (Migacz, GTC 2017),
  with powers of two as the candidates.
- `mse`: least squared error.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.errors import CalibrationError

BINS = 1 << 14
"""Bins on each side of zero."""

CANDIDATES = 6
"""Exponents tried, from the one that clips nothing downwards."""

SMALLEST = 1e-9
"""Magnitudes below it count as zero: a channel that is always off needs some scale, too."""

_BLOCK = 1 << 20  # values counted at a time, which bounds the memory beside the histogram


class Observer:
    """Extremes and a histogram of all values seen.

    Attributes
    ----------
    minimum, maximum : float
        Exact extremes; infinite before the first value.
    count : int
        Values seen.
    """

    def __init__(self) -> None:
        self._positive = np.zeros(BINS, np.int64)
        self._negative = np.zeros(BINS, np.int64)
        self._exponent: int | None = None
        self._zeros = 0
        self.minimum = math.inf
        self.maximum = -math.inf

    @property
    def count(self) -> int:
        """Values seen."""
        return int(self._positive.sum() + self._negative.sum()) + self._zeros

    def update(self, values: NDArray[Any]) -> None:
        """See one more tensor, of any shape.

        Raises
        ------
        CalibrationError
            If it holds NaN or an infinity.
        """
        flat = np.asarray(values, np.float32).ravel()
        if flat.size == 0:
            return
        low, high = float(flat.min()), float(flat.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise CalibrationError(
                f"values from {low} to {high}: the float network overflows on this sample; mend it"
                " before calibrating"
            )
        self.minimum, self.maximum = min(self.minimum, low), max(self.maximum, high)
        width = self._make_room(max(-low, high))
        for start in range(0, flat.size, _BLOCK):
            self._count(flat[start : start + _BLOCK], width)

    def reach(self, low: int) -> float:
        """Largest magnitude seen, of those that integers from `low` on can stand for."""
        return max(-self.minimum if low < 0 else 0.0, self.maximum, SMALLEST)

    def magnitudes(self, low: int) -> tuple[NDArray[np.float64], NDArray[np.int64], int]:
        """Return the histogram as rising magnitudes.

        Parameters
        ----------
        low : int
            Lowest integer: 0 leaves negative values out.

        Returns
        -------
        centers : ndarray, shape (BINS,), float64
        counts : ndarray, shape (BINS,), int64
            Values by magnitude, zeros excluded.
        exponent : int
            The bins are 2**exponent wide.
        """
        exponent = 0 if self._exponent is None else self._exponent
        counts = self._positive + (self._negative if low < 0 else 0)
        centers = (np.arange(BINS, dtype=np.float64) + 0.5) * 2.0**exponent
        return centers, counts, exponent

    def clip_share(self, exponent: int, low: int, high: int) -> float:
        """Share of the values seen that integers `low..high` times 2**exponent do not reach.

        Negative values do not count where `low` is 0: there, the clipping is a ReLU.
        """
        total = self.count
        if not total:
            return 0.0
        centers, _, _ = self.magnitudes(low)
        step = 2.0**exponent
        lost = int(self._positive[centers > (high + 0.5) * step].sum())
        if low < 0:
            lost += int(self._negative[centers > (0.5 - low) * step].sum())
        return lost / total

    def _make_room(self, largest: float) -> int:
        """Widen the bins until `largest` lies within; return the exponent of their width."""
        needed = math.floor(math.log2(max(largest, SMALLEST))) + 1 - int(math.log2(BINS))
        if self._exponent is None:
            self._exponent = needed
        while self._exponent < needed:
            half = BINS // 2
            for counts in (self._positive, self._negative):
                counts[:half] = counts.reshape(half, 2).sum(axis=1)
                counts[half:] = 0
            self._exponent += 1
        return self._exponent

    def _count(self, flat: NDArray[np.float32], width: int) -> None:
        scaled = flat * np.float32(2.0**-width)
        self._zeros += int((flat == 0).sum())
        sides = ((scaled[flat > 0], self._positive), (-scaled[flat < 0], self._negative))
        for side, counts in sides:
            counts += np.bincount(np.minimum(side, BINS - 1).astype(np.int64), minlength=BINS)


def widest_exponent(reach: float, high: int) -> int:
    """Smallest exponent at which integers up to `high` reach a magnitude."""
    return math.ceil(math.log2(max(reach, SMALLEST) / high))


def full_range_exponent(observer: Observer, low: int, high: int) -> int:
    """Smallest exponent that clips nothing seen."""
    return widest_exponent(observer.reach(low), high)


def percentile_exponent(observer: Observer, low: int, high: int, percent: float = 99.99) -> int:
    """Smallest exponent that clips nothing below the percentile of the magnitudes."""
    _, counts, exponent = observer.magnitudes(low)
    # Values that are no magnitudes here (zeros, and negative ones where low is 0) lie below all.
    below = observer.count - int(counts.sum()) + np.cumsum(counts)
    wanted = math.ceil(percent / 100 * observer.count)
    edge = int(np.searchsorted(below, wanted)) + 1
    return widest_exponent(min(edge * 2.0**exponent, observer.reach(low)), high)


def minimum_error_exponent(observer: Observer, low: int, high: int) -> int:
    """Exponent of the least squared error for integers `low..high`; clips rare large values."""
    centers, counts, _ = observer.magnitudes(low)

    def error(exponent: int) -> float:
        step = 2.0**exponent
        integers = np.minimum(np.rint(centers / step), high)
        return float((counts * np.square(integers * step - centers)).sum())

    return min(_candidates(observer, low, high), key=lambda e: (error(e), -e))


def entropy_exponent(observer: Observer, low: int, high: int) -> int:
    """Exponent of the least Kullback-Leibler divergence; clips outliers that say little."""
    _, counts, width = observer.magnitudes(low)
    if not counts.any():
        return full_range_exponent(observer, low, high)

    def divergence(exponent: int) -> float:
        return _divergence(counts, 1 << max(0, exponent - width), high + 1)

    return min(_candidates(observer, low, high), key=lambda e: (divergence(e), -e))


Rule = Callable[[Observer, int, int], int]

RULES: dict[str, Rule] = {
    "mse": minimum_error_exponent,
    "minmax": full_range_exponent,
    "percentile": percentile_exponent,
    "entropy": entropy_exponent,
}
"""Observer, lowest and highest integer -> exponent, by the names that the command line takes."""


def rule(name: str) -> Rule:
    """Return a rule by its name.

    Raises
    ------
    CalibrationError
        If there is none of that name.
    """
    if name not in RULES:
        raise CalibrationError(f"observer '{name}' is unknown; use one of {', '.join(RULES)}")
    return RULES[name]


def _candidates(observer: Observer, low: int, high: int) -> range:
    widest = full_range_exponent(observer, low, high)
    return range(widest, widest - CANDIDATES, -1)


def _divergence(counts: NDArray[np.int64], group: int, levels: int) -> float:
    """Divergence of the clipped histogram from its quantization to `levels` groups of bins."""
    kept = min(group * levels, len(counts))
    clipped = counts[:kept].astype(np.float64)
    reference = clipped.copy()
    reference[-1] += counts[kept:].sum()
    padded = np.pad(clipped, (0, -kept % group)).reshape(-1, group)
    filled = padded > 0
    share = padded.sum(axis=1) / np.maximum(filled.sum(axis=1), 1)
    quantized = (share[:, None] * filled).ravel()[:kept]
    if not quantized.sum():
        return math.inf
    # What is clipped into an empty bin has no counterpart: a very small one keeps it finite.
    p = reference / reference.sum()
    q = np.maximum(quantized / quantized.sum(), 1e-12)
    seen = p > 0
    return float((p[seen] * np.log(p[seen] / q[seen])).sum())
