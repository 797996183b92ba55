"""Whether motion is kept: ratios of temporal deviations, correlation of curves."""

import numpy as np
import pytest

from edge_codec.errors import FrameError
from edge_codec.metrics.temporal import correlation, temporal_ratio


@pytest.fixture
def cine():
    return np.random.default_rng(1).integers(0, 200, (2, 8, 6, 5)).astype(np.int16)


def test_half_the_motion_is_a_ratio_of_one_half(cine):
    mean = cine.mean(axis=1, keepdims=True)
    assert temporal_ratio(cine, cine) == 1
    assert temporal_ratio(cine, mean + (cine - mean) / 2) == pytest.approx(0.5)
    assert temporal_ratio(cine, np.broadcast_to(mean, cine.shape)) == pytest.approx(0)


def test_a_region_counts_alone(cine):
    region = np.zeros((2, 6, 5), np.bool_)
    region[1, 2:4, 1:3] = True
    decoded = cine.copy()
    decoded[:, :, :2] = 0
    assert temporal_ratio(cine, decoded, region) == 1
    assert temporal_ratio(cine, decoded) < 1
    frozen = np.where(region[:, None], 7, cine)
    assert temporal_ratio(cine, frozen, region) == 0
    assert temporal_ratio(frozen, cine, region) is None
    assert temporal_ratio(cine, cine, np.zeros_like(region)) is None


def test_correlation_knows_no_scale():
    curve = np.array([3.0, 5.0, 2.0, 8.0])
    assert correlation(curve, 2 * curve - 1) == pytest.approx(1)
    assert correlation(curve, -curve) == pytest.approx(-1)
    assert correlation(curve, [1, 2, 2, 1]) == pytest.approx(np.corrcoef(curve, [1, 2, 2, 1])[0, 1])
    assert correlation(curve, np.full(4, 0.1)) is None


def test_what_does_not_fit_is_refused(cine):
    with pytest.raises(FrameError, match="only equal ones"):
        temporal_ratio(cine, cine[:, :4])
    with pytest.raises(FrameError, match=r"the cines need \(2, 6, 5\)"):
        temporal_ratio(cine, cine, np.ones((6, 5), np.bool_))
    with pytest.raises(FrameError, match="3 and 4"):
        correlation(np.ones(3), np.ones(4))
