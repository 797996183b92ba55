"""Observers: what a tensor's values look like over the calibration frames."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.calibration.power_of_two import choose_exponent

SAMPLE_SIZE = 1 << 17
"""Values kept per tensor, enough for a squared error; the extremes are tracked exactly."""


class Observer:
    """Extremes and an even random sample of all values seen.

    Parameters
    ----------
    seed : int
        Seed of the sampling.
    """

    def __init__(self, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)
        self._parts: list[NDArray[np.float32]] = []
        self.minimum = np.inf
        self.maximum = -np.inf

    def update(self, values: NDArray[np.floating[Any]]) -> None:
        """See one more tensor, of any shape."""
        flat = np.asarray(values, np.float32).ravel()
        self.minimum = min(self.minimum, float(flat.min()))
        self.maximum = max(self.maximum, float(flat.max()))
        picks = self._rng.integers(len(flat), size=min(len(flat), SAMPLE_SIZE // 8))
        self._parts.append(flat[picks])

    def sample(self) -> NDArray[np.float32]:
        """At most `SAMPLE_SIZE` of the values seen."""
        values = np.concatenate(self._parts)
        return values if len(values) <= SAMPLE_SIZE else self._rng.choice(values, SAMPLE_SIZE)


def minimum_error_exponent(observer: Observer, low: int, high: int) -> int:
    """Exponent of the least squared error for integers `low..high`; clips rare large values."""
    largest = max(abs(observer.minimum) if low < 0 else 0.0, abs(observer.maximum))
    return choose_exponent(observer.sample(), low, high, largest)


def percentile_exponent(observer: Observer, low: int, high: int, percent: float = 99.99) -> int:
    """Smallest exponent that clips nothing below the percentile of the magnitudes."""
    values = observer.sample()
    magnitudes = np.abs(values) if low < 0 else np.maximum(values, 0.0)
    reach = max(float(np.percentile(magnitudes, percent)), 1e-9)
    return int(np.ceil(np.log2(reach / high)))


def full_range_exponent(observer: Observer, low: int, high: int) -> int:
    """Smallest exponent that clips nothing seen."""
    reach = max(abs(observer.minimum) if low < 0 else 0.0, observer.maximum, 1e-9)
    return int(np.ceil(np.log2(reach / high)))
