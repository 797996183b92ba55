"""How sure a proportion is that was found in few cases."""

from __future__ import annotations

import math

from edge_codec.errors import SpecError

NORMAL_95 = 1.959964
"""Of a normal distribution 95 % lie within so many standard deviations."""


def wilson_interval(right: int, cases: int) -> tuple[float, float]:
    """Return the 95 % confidence interval of a proportion.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", J Am Stat
    Assoc 22(158), 1927: the proportions that a test would not refuse.

    Parameters
    ----------
    right, cases : int

    Returns
    -------
    low, high : float, 0..1

    Raises
    ------
    SpecError
        If there is no case, or not 0 <= right <= cases.
    """
    if not 0 <= right <= cases or not cases:
        raise SpecError(f"{right} of {cases} is no proportion; give 0 <= right <= cases, cases > 0")
    share, square = right / cases, NORMAL_95**2
    middle = (share + square / (2 * cases)) / (1 + square / cases)
    half = NORMAL_95 / (1 + square / cases)
    half *= math.sqrt(share * (1 - share) / cases + square / (4 * cases**2))
    return max(0.0, middle - half), min(1.0, middle + half)
