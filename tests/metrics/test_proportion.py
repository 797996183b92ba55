"""Wilson's interval against values that R's prop.test without correction gives."""

import pytest

from edge_codec.errors import SpecError
from edge_codec.metrics.proportion import wilson_interval


@pytest.mark.parametrize(
    ("right", "cases", "low", "high"),
    [(5, 10, 0.23659, 0.76341), (0, 10, 0.0, 0.27753), (10, 10, 0.72247, 1.0),
     (7, 10, 0.39678, 0.89221), (50, 70, 0.59949, 0.80696)],
)  # fmt: skip
def test_intervals(right, cases, low, high):
    assert wilson_interval(right, cases) == pytest.approx((low, high), abs=2e-4)


@pytest.mark.parametrize(("right", "cases"), [(0, 0), (-1, 5), (6, 5)])
def test_what_is_no_proportion_is_refused(right, cases):
    with pytest.raises(SpecError, match="no proportion"):
        wilson_interval(right, cases)
