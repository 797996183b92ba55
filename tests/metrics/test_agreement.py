"""Bland and Altman's figures: the example of their paper, and Student's t against SciPy's."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

from edge_codec.errors import SpecError
from edge_codec.metrics.agreement import bland_altman, mean_of, student_t

# Lancet 1986, table: peak expiratory flow rate in l/min, first reading of each meter.
WRIGHT = (494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427)
MINI = (512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451)
# How long inputs take to make depends on the machine.
STEADY = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def test_the_example_of_the_paper():
    found = bland_altman(WRIGHT, MINI)
    assert found.n == 17
    assert found.bias == pytest.approx(-2.1, abs=0.05)
    assert found.sd == pytest.approx(38.8, abs=0.05)
    assert found.bias_interval == pytest.approx((-22.0, 17.8), abs=0.1)
    assert found.limits == pytest.approx((-2.118 - 1.96 * 38.765, -2.118 + 1.96 * 38.765), abs=0.01)
    # The paper of 1986 rounds: limits at 2 standard deviations, standard error sqrt(3 / n) s.
    assert found.lower_interval == pytest.approx((-114.3, -45.1), abs=3)
    assert found.upper_interval == pytest.approx((40.9, 110.1), abs=3)


def test_four_pairs_by_hand():
    # Differences 1, 3, 5, 7: mean 4, s = sqrt(20 / 3), t of 3 degrees of freedom 3.1824.
    found = bland_altman([11, 23, 35, 47], [10, 20, 30, 40])
    s = (20 / 3) ** 0.5
    error = 3.18244631 * s * (1 / 4 + 1.96**2 / 6) ** 0.5
    assert found.bias == 4
    assert found.sd == pytest.approx(s)
    assert found.limits == pytest.approx((4 - 1.96 * s, 4 + 1.96 * s))
    assert found.bias_interval == pytest.approx((4 - 3.18244631 * s / 2, 4 + 3.18244631 * s / 2))
    assert found.lower_interval == pytest.approx((4 - 1.96 * s - error, 4 - 1.96 * s + error))
    assert found.upper_interval == pytest.approx((4 + 1.96 * s - error, 4 + 1.96 * s + error))


def test_one_pair_has_a_bias_and_no_limits():
    found = bland_altman([60], [58])
    assert (found.n, found.bias, found.sd, found.limits) == (1, 2, None, None)
    assert mean_of([3.5]).interval is None


@STEADY
@given(st.lists(st.tuples(st.floats(-500, 500), st.floats(-500, 500)), min_size=2, max_size=9))
def test_the_other_way_round_is_the_mirror_image(pairs):
    measured, reference = zip(*pairs, strict=True)
    found, mirrored = bland_altman(measured, reference), bland_altman(reference, measured)
    assert found.bias == pytest.approx(-mirrored.bias)
    assert found.limits == pytest.approx((-mirrored.limits[1], -mirrored.limits[0]))
    assert found.lower_interval[0] <= found.limits[0] <= found.bias <= found.limits[1]


@STEADY
@given(st.integers(1, 300), st.floats(0.01, 0.999))
def test_quantiles_are_those_of_the_t_distribution(freedom, confidence):
    expected = stats.t.ppf((1 + confidence) / 2, freedom)
    assert student_t(freedom, confidence) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "call",
    [
        lambda: bland_altman([], []),
        lambda: bland_altman([1, 2], [1]),
        lambda: mean_of([1, np.nan]),
        lambda: student_t(0),
        lambda: student_t(3, 1.0),
    ],
)
def test_what_has_no_figure_is_refused(call):
    with pytest.raises(SpecError):
        call()
