import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_codec.cine import Cine
from edge_codec.errors import SourceError
from edge_codec.io.statistics import MAX_BINS, Histogram, ValueRange, scan


def lower_percentiles(values):
    ordered = np.sort(values.ravel())
    last = ordered.size - 1
    return int(ordered[last // 1000]), int(ordered[999 * last // 1000])


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8"])
def test_narrow_ranges_are_exact(dtype):
    rng = np.random.default_rng(3)
    bounds = np.iinfo(dtype)
    width = min(200, bounds.max - bounds.min)
    for base in {bounds.min, min(0, bounds.max - width), bounds.max - width}:
        shape = (1, 12, 40, 30)
        voxels = (rng.geometric(0.05, shape).clip(0, width).astype(object) + base).astype(dtype)
        low, high = int(voxels.min()), int(voxels.max())
        expected = ValueRange(low, high, *lower_percentiles(voxels))
        assert scan(Cine.from_array(voxels)) == expected


def test_rule_is_numpys_lower():
    values = np.random.default_rng(0).integers(0, 4096, 12_345)
    histogram = Histogram()
    histogram.add(values)
    assert histogram.summary().p999 == np.percentile(values, 99.9, method="lower")
    assert histogram.summary().p001 == np.percentile(values, 0.1, method="lower")


@settings(derandomize=True, max_examples=100, deadline=None)
@given(
    st.lists(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1), min_size=1, max_size=5),
)
def test_wide_ranges_are_near_and_independent_of_order(parts):
    arrays = [np.array(part, np.int64) for part in parts]
    forward, backward = Histogram(), Histogram()
    for array in arrays:
        forward.add(array)
    for array in reversed(arrays):
        backward.add(array)
    found = forward.summary()
    assert found == backward.summary()
    values = np.concatenate(arrays)
    assert (found.low, found.high) == (values.min(), values.max())
    span = found.high - found.low
    for exact, near in zip(lower_percentiles(values), (found.p001, found.p999), strict=True):
        assert 0 <= exact - near <= span / (MAX_BINS / 2)


def test_progress_sees_every_frame():
    seen = []

    def progress(items, total, what):
        seen.append((total, what))
        return items

    scan(Cine.from_array(np.zeros((2, 3, 4, 4), np.uint8)), progress)
    assert seen == [(6, "scan")]


def test_nothing_has_no_range():
    histogram = Histogram()
    histogram.add(np.zeros(0, np.int16))
    with pytest.raises(SourceError, match="no frames"):
        histogram.summary()
