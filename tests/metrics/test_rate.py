"""Bjontegaard differences of curves whose answer can be worked out by hand."""

import doctest
import math

import pytest

from edge_codec.errors import SpecError
from edge_codec.metrics import rate
from edge_codec.metrics.rate import bjontegaard, front, quality_at, rate_at

CURVE = [(0.02, 31.0), (0.05, 35.5), (0.2, 40.0), (0.9, 47.0), (2.0, 55.0)]


def scaled(factor, decibels=0.0):
    return [(factor * bits, quality + decibels) for bits, quality in CURVE]


def test_equal_curves_do_not_differ():
    found = bjontegaard(CURVE, CURVE)
    assert found.rate_percent == pytest.approx(0, abs=1e-9)
    assert found.psnr_db == pytest.approx(0, abs=1e-9)
    assert found.quality_range_db == (31.0, 55.0)
    assert found.rate_range_bpp == (0.02, 2.0)


@pytest.mark.parametrize(("factor", "percent"), [(0.5, -50), (2, 100), (0.9, -10)])
def test_rates_times_a_factor(factor, percent):
    assert bjontegaard(CURVE, scaled(factor)).rate_percent == pytest.approx(percent)


def test_qualities_plus_a_constant():
    assert bjontegaard(CURVE, scaled(1, 1.5)).psnr_db == pytest.approx(1.5)


def test_straight_lines_of_different_slope():
    # ln R = q/10 against ln R = q/5: the mean of q/10 over 30..50 dB is 4.
    anchor = [(math.exp(q / 10), q) for q in (30, 36, 44, 50)]
    test = [(math.exp(q / 5), q) for q in (28, 40, 52)]
    found = bjontegaard(anchor, test)
    assert found.quality_range_db == (30, 50)
    assert found.rate_percent == pytest.approx(100 * math.expm1(4))
    # q = 10 ln R against q = 5 ln R: ln R has no common interval (3 to 5 against 5.6 to 10.4).
    assert found.psnr_db is None
    assert found.rate_range_bpp is None


def test_the_interpolation_does_not_swing_beyond_its_points():
    flat = [(1.0, 40.0), (2.0, 40.001), (4.0, 40.002), (8.0, 60.0)]
    higher = [(bits, quality + 0.5) for bits, quality in flat]
    assert bjontegaard(flat, higher).psnr_db == pytest.approx(0.5)


@pytest.mark.parametrize(
    "test",
    [
        CURVE[:2],
        [],
        [(bits, quality + 23.0) for bits, quality in CURVE],  # one dB in common
    ],
)
def test_too_little_in_common_gives_no_rate(test):
    assert bjontegaard(CURVE, test).rate_percent is None
    assert bjontegaard(CURVE, test).quality_range_db is None


def test_order_does_not_matter_nor_points_without_loss_or_beaten_ones():
    more = [*reversed(CURVE), (9.0, math.inf), (0.3, 38.0), (0.2, 39.0)]
    assert front(more) == CURVE
    assert bjontegaard(more, CURVE).rate_percent == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("point", [(0.0, 30.0), (-1.0, 30.0), (math.inf, 30.0), (1.0, math.nan)])
def test_points_that_are_none_are_refused(point):
    with pytest.raises(SpecError, match="no point of a rate-distortion curve"):
        bjontegaard([*CURVE, point], CURVE)


def test_examples():
    assert doctest.testmod(rate).failed == 0


def test_a_range_of_quality_is_compared_alone():
    # Half the rate up to 40 dB, twice as much above 47 dB.
    mixed = [*scaled(0.5)[:3], *scaled(2)[3:]]
    low = bjontegaard(CURVE, mixed, (31, 40))
    assert low.rate_percent == pytest.approx(-50, abs=1)
    assert low.quality_range_db == (31, 40)
    assert (low.psnr_db, low.rate_range_bpp) == (None, None)
    high = bjontegaard(CURVE, mixed, (47, 60))
    assert high.rate_percent == pytest.approx(100, abs=10)
    assert high.quality_range_db == (47, 55)  # what the curves cover of it


@pytest.mark.parametrize("within", [(54, 60), (60, 70), (20, 31)])
def test_a_range_that_the_curves_hardly_cover_has_no_difference(within):
    found = bjontegaard(CURVE, scaled(0.5), within)
    assert (found.rate_percent, found.quality_range_db) == (None, None)


def test_points_between_those_of_a_curve():
    line = [(0.25, 30.0), (0.5, 36.0), (1.0, 42.0)]  # straight in the logarithm of the rate
    assert quality_at(line, 0.25 * 2**0.5) == pytest.approx(33)
    assert rate_at(line, 39.0) == pytest.approx(0.5 * 2**0.5)
    assert quality_at(line, 1.0) == 42.0
    assert (quality_at(line, 0.2), rate_at(line, 43.0), rate_at([], 30.0)) == (None, None, None)
