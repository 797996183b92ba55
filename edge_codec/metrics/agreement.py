"""How well two methods of measuring agree: Bland and Altman's limits, with confidence intervals.

J. M. Bland and D. G. Altman, "Statistical methods for assessing agreement between two methods of
clinical measurement", Lancet 327, 1986, and "Measuring agreement in method comparison studies",
Stat Methods Med Res 8(2), 1999, section 2: the differences' mean is the bias, 95 % of differences
are expected within 1.96 standard deviations of it, and both are estimates from few patients, so
that each has an interval of its own: standard error s / sqrt(n) of the bias and
s sqrt(1/n + 1.96^2 / (2 (n - 1))) of a limit, with Student's t of n - 1 degrees of freedom.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edge_codec.errors import SpecError

LIMIT = 1.96  # standard deviations
CONFIDENCE = 0.95

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean of few values, and how sure it is.

    Attributes
    ----------
    n : int
        How many values.
    mean : float
    interval : (float, float) or None
        95 % confidence interval, by Student's t; None for a single value.
    """

    n: int
    mean: float
    interval: Interval | None

    def fields(self) -> dict[str, Any]:
        """Return the figures by name."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class BlandAltman:
    """Agreement of a measurement with a reference, in the measurement's unit.

    Attributes
    ----------
    n : int
        Pairs.
    bias : float
        Mean of the measurement minus the reference.
    sd : float or None
        Standard deviation of the differences, with n - 1; None for a single pair.
    limits : (float, float) or None
        Limits of agreement: bias -+ 1.96 sd.
    bias_interval, lower_interval, upper_interval : (float, float) or None
        95 % confidence intervals of the bias, the lower and the upper limit.
    """

    n: int
    bias: float
    sd: float | None
    limits: Interval | None
    bias_interval: Interval | None
    lower_interval: Interval | None
    upper_interval: Interval | None

    def fields(self) -> dict[str, Any]:
        """Return the figures by name."""
        return asdict(self)


def bland_altman(measured: Sequence[float], reference: Sequence[float]) -> BlandAltman:
    """Return bias and limits of agreement of paired measurements.

    Parameters
    ----------
    measured, reference : sequence of float
        One entry for each subject; at least one.

    Raises
    ------
    SpecError
        If there is no pair, the lengths differ, or a value is not finite.
    """
    if len(measured) != len(reference):
        raise SpecError(
            f"{len(measured)} measurements and {len(reference)} references are no pairs; give one "
            "of each for a subject"
        )
    found = mean_of([a - b for a, b in zip(measured, reference, strict=True)])
    if found.n == 1:
        return BlandAltman(1, found.mean, None, None, None, None, None)
    sd = statistics.stdev([a - b for a, b in zip(measured, reference, strict=True)])
    low, high = found.mean - LIMIT * sd, found.mean + LIMIT * sd
    n = found.n
    error = sd * math.sqrt(1 / n + LIMIT**2 / (2 * (n - 1))) * student_t(n - 1)
    return BlandAltman(
        n,
        found.mean,
        sd,
        (low, high),
        found.interval,
        (low - error, low + error),
        (high - error, high + error),
    )


def mean_of(values: Sequence[float]) -> Mean:
    """Return the mean of values with its 95 % confidence interval.

    Raises
    ------
    SpecError
        If there is no value, or one is not finite.
    """
    if not values or not all(math.isfinite(value) for value in values):
        raise SpecError(f"{list(values)} has no mean; give finite values, at least one")
    mean = statistics.fmean(values)
    n = len(values)
    if n == 1:
        return Mean(1, mean, None)
    error = statistics.stdev(values) / math.sqrt(n) * student_t(n - 1)
    return Mean(n, mean, (mean - error, mean + error))


def student_t(freedom: int, confidence: float = CONFIDENCE) -> float:
    """Return the two-sided quantile of Student's t distribution.

    The distribution for whole degrees of freedom is a finite sum (Abramowitz and Stegun, 26.7.3
    and 26.7.4); its inverse is found by bisection.

    Parameters
    ----------
    freedom : int
        Degrees of freedom, at least 1.
    confidence : float
        Probability of a magnitude below the quantile, between 0 and 1.

    Raises
    ------
    SpecError
        If either is out of range.
    """
    if freedom < 1 or not 0 < confidence < 1:
        raise SpecError(
            f"Student's t of {freedom} degrees of freedom at {confidence} does not exist; use 1 "
            "or more, and a probability between 0 and 1"
        )
    within = _central_probability(freedom)
    low, high = 0.0, math.pi / 2
    # In the angle, where the quantile of every distribution lies below a bound.
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if within(middle) < confidence else (low, middle)
    return math.tan(low) * math.sqrt(freedom)


def _central_probability(freedom: int) -> Callable[[float], float]:
    """Return the probability of |t| below sqrt(freedom) tan(angle), as a function of the angle."""

    def odd(angle: float) -> float:
        term, total = math.cos(angle), 0.0
        for number in range(3, freedom + 1, 2):
            total += term
            term *= (number - 1) / number * math.cos(angle) ** 2
        return 2 / math.pi * (angle + math.sin(angle) * total)

    def even(angle: float) -> float:
        term, total = 1.0, 0.0
        for number in range(2, freedom + 1, 2):
            total += term
            term *= (number - 1) / number * math.cos(angle) ** 2
        return math.sin(angle) * total

    return odd if freedom % 2 else even
