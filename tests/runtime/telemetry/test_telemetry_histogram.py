import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_codec.runtime.telemetry.histogram import (
    MAX_VALUE,
    RELATIVE_ERROR,
    SIZE,
    Histogram,
    merged,
)

durations = st.lists(
    st.one_of(
        st.integers(0, 3000),
        st.integers(0, MAX_VALUE),
        st.sampled_from([0, 1023, 1024, 1025, 2047, 2048, 1 << 30, (1 << 30) - 1, MAX_VALUE]),
    ),
    min_size=1,
    max_size=60,
)


def filled(values):
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    return histogram


@settings(max_examples=150, deadline=None)
@given(durations, st.floats(0, 100))
def test_a_percentile_is_that_of_the_sorted_values(values, percent):
    rank = max(1, math.ceil(round(percent / 100 * len(values), 6)))
    exact = sorted(values)[rank - 1]
    found = filled(values).percentile(percent)
    assert abs(found - exact) <= RELATIVE_ERROR * exact
    assert found <= max(values)


@settings(max_examples=50, deadline=None)
@given(durations, durations)
def test_merging_is_recording_both(first, second):
    both, one = filled(first + second), filled(first)
    one.merge(filled(second))
    assert one.summary_ms() == both.summary_ms()
    assert (one.n, one.total, one.largest) == (both.n, sum(first + second), max(first + second))
    assert merged([filled(first), filled(second)]).summary_ms() == both.summary_ms()


@settings(max_examples=50, deadline=None)
@given(durations)
def test_counts_within_bounds(values):
    bounds = [1000, 10_000, 5_000_000, MAX_VALUE]
    counts = filled(values).counts_below(bounds)
    for bound, count in zip(bounds, counts, strict=True):
        surely = sum(value <= bound * (1 - 2 * RELATIVE_ERROR) for value in values)
        perhaps = sum(value <= bound * (1 + 2 * RELATIVE_ERROR) for value in values)
        assert surely <= count <= perhaps


def test_small_values_are_exact():
    histogram = filled(range(1024))
    assert [histogram.percentile(100 * (n + 1) / 1024) for n in (0, 511, 1023)] == [0, 511, 1023]


def test_what_is_too_long_or_negative_is_counted():
    histogram = filled([-5, 10 * MAX_VALUE])
    assert (histogram.n, histogram.largest) == (2, 10 * MAX_VALUE)
    assert histogram.percentile(50) == 0
    assert histogram.percentile(100) == pytest.approx(MAX_VALUE, rel=RELATIVE_ERROR)


def test_nothing_recorded():
    summary = Histogram().summary_ms()
    assert set(summary.values()) == {0}
    assert Histogram().mean == 0


def test_memory_stays_as_it_is():
    histogram = Histogram()
    before = len(histogram._counts)
    for value in np.random.default_rng(7).integers(0, MAX_VALUE, 5000).tolist():
        histogram.record(value)
    assert len(histogram._counts) == before == SIZE
    histogram.clear()
    assert histogram.summary_ms() == Histogram().summary_ms()


def test_the_mean_is_exact():
    assert filled([1_000_001, 2_000_002]).mean == 1_500_001.5
