"""Two rate-distortion curves compared: Bjontegaard's differences.

G. Bjontegaard, "Calculation of average PSNR differences between RD-curves", ITU-T VCEG-M33, 2001,
with the piecewise cubic Hermite interpolation (PCHIP) in logarithmic rate that JCT-VC and the Joint
Video Experts Team use since: unlike a cubic through all points it does not swing between them.
Needs SciPy, which nothing that encodes or decodes does.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from edge_codec.errors import SpecError

Curve = list[tuple[float, float]]

EVERYWHERE = (-math.inf, math.inf)
MIN_POINTS = 3
MIN_OVERLAP_DB = 2.0
MIN_OVERLAP_RATIO = 2.0  # of the highest to the lowest common rate


@dataclass(frozen=True, slots=True)
class Bjontegaard:
    """How a curve differs from an anchor, each figure averaged over what both curves cover.

    Attributes
    ----------
    rate_percent : float or None
        BD-rate: rate saved (negative) or spent at equal quality, in percent of the anchor's.
    quality_range_db : (float, float) or None
        Interval of common quality that `rate_percent` is averaged over.
    psnr_db : float or None
        BD-PSNR: quality won (positive) or lost at equal rate.
    rate_range_bpp : (float, float) or None
        Interval of common rate that `psnr_db` is averaged over, evenly in its logarithm.

    A figure is None where the curves have too little in common: fewer than `MIN_POINTS` points,
    less than `MIN_OVERLAP_DB`, or rates within less than `MIN_OVERLAP_RATIO` of each other.
    """

    rate_percent: float | None
    quality_range_db: tuple[float, float] | None
    psnr_db: float | None
    rate_range_bpp: tuple[float, float] | None


def bjontegaard(
    anchor: Iterable[tuple[float, float]],
    test: Iterable[tuple[float, float]],
    within: tuple[float, float] = EVERYWHERE,
) -> Bjontegaard:
    """Compare a curve with an anchor.

    Parameters
    ----------
    anchor, test : iterable of (float, float)
        (rate in bits per voxel, quality in dB) of each setting, in any order. Points without loss
        (infinite quality) lie on no curve and are left out, and so are points that another one of
        the same curve beats in rate and quality both.
    within : (float, float)
        Compare by quality within these bounds in dB only; `psnr_db` is then None, since bounds of
        quality are none of rate.

    Raises
    ------
    SpecError
        If a rate is not a positive number, or a quality is not a number.

    Examples
    --------
    >>> half = bjontegaard([(1, 30), (2, 36), (4, 42)], [(0.5, 30), (1, 36), (2, 42)])
    >>> round(half.rate_percent, 6)
    -50.0
    """
    first, second = front(anchor), front(test)
    if min(len(first), len(second)) < MIN_POINTS:
        return Bjontegaard(None, None, None, None)
    rate_percent = psnr_db = None
    covered = _common([quality for _, quality in first], [quality for _, quality in second])
    qualities = None if covered is None else _common(list(covered), list(within))
    if qualities is not None and qualities[1] - qualities[0] >= MIN_OVERLAP_DB:
        mean = _mean_difference(_rate_of_quality(first), _rate_of_quality(second), *qualities)
        rate_percent = 100 * math.expm1(mean)
    rates = _common([rate for rate, _ in first], [rate for rate, _ in second])
    if within == EVERYWHERE and rates is not None and rates[1] >= MIN_OVERLAP_RATIO * rates[0]:
        bounds = math.log(rates[0]), math.log(rates[1])
        psnr_db = _mean_difference(_quality_of_rate(first), _quality_of_rate(second), *bounds)
    return Bjontegaard(
        rate_percent,
        None if rate_percent is None else qualities,
        psnr_db,
        None if psnr_db is None else rates,
    )


def quality_at(curve: Iterable[tuple[float, float]], rate: float) -> float | None:
    """Return the quality that a curve reaches at a rate; None outside of what it covers.

    Interpolated as in `bjontegaard`: PCHIP in logarithmic rate.
    """
    return _interpolated(_quality_of_rate(front(curve)), math.log(rate))


def rate_at(curve: Iterable[tuple[float, float]], quality: float) -> float | None:
    """Return the rate at which a curve reaches a quality; None outside of what it covers."""
    found = _interpolated(_rate_of_quality(front(curve)), quality)
    return None if found is None else math.exp(found)


def front(points: Iterable[tuple[float, float]]) -> Curve:
    """Return the points that no other beats, by rising rate and so by rising quality.

    Raises
    ------
    SpecError
        If a rate is not a positive number, or a quality is not a number.
    """
    kept: Curve = []
    for rate, quality in sorted(points, key=lambda point: (point[0], -point[1])):
        if not (0 < rate < math.inf) or math.isnan(quality):
            raise SpecError(f"({rate} bit, {quality} dB) is no point of a rate-distortion curve")
        if quality != math.inf and (not kept or quality > kept[-1][1]):
            kept.append((rate, quality))
    return kept


def _common(first: list[float], second: list[float]) -> tuple[float, float] | None:
    low, high = max(min(first), min(second)), min(max(first), max(second))
    return (low, high) if low < high else None


def _rate_of_quality(curve: Curve) -> Curve:
    return [(quality, math.log(rate)) for rate, quality in curve]


def _quality_of_rate(curve: Curve) -> Curve:
    return [(math.log(rate), quality) for rate, quality in curve]


def _interpolated(curve: Curve, place: float) -> float | None:
    """Return a curve's y at an x; the curve (x, y) with rising x."""
    from scipy.interpolate import PchipInterpolator

    if len(curve) < 2 or not curve[0][0] <= place <= curve[-1][0]:
        return None
    return float(PchipInterpolator(*zip(*curve, strict=True))(place))


def _mean_difference(anchor: Curve, test: Curve, low: float, high: float) -> float:
    """Mean over x from low to high of the test's y minus the anchor's, both (x, y), x rising."""
    from scipy.interpolate import PchipInterpolator

    areas = [
        float(PchipInterpolator(*zip(*curve, strict=True)).integrate(low, high))
        for curve in (anchor, test)
    ]
    return (areas[1] - areas[0]) / (high - low)
