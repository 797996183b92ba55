"""Observers: bounded histograms, and the scales that the rules make of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_codec.calibration.observers import (
    BINS,
    RULES,
    Observer,
    entropy_exponent,
    full_range_exponent,
    minimum_error_exponent,
    percentile_exponent,
    rule,
)
from edge_codec.calibration.power_of_two import choose_exponent
from edge_codec.errors import CalibrationError


def observed(values: np.ndarray, parts: int = 1) -> Observer:
    observer = Observer()
    for part in np.array_split(values, parts):
        observer.update(part)
    return observer


def test_counts_and_extremes_are_exact_and_bounded_in_memory() -> None:
    values = np.random.default_rng(0).normal(0, 1, 50_000)
    values[-3:] = [-90.0, 1000.0, 0.0]  # the histogram has to grow at the end
    observer = observed(values, parts=7)
    assert observer.count == 50_000
    assert (observer.minimum, observer.maximum) == (-90.0, 1000.0)
    centers, counts, _ = observer.magnitudes(-128)
    assert len(centers) == len(counts) == BINS
    assert counts.sum() == np.count_nonzero(values.astype(np.float32))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(-20, 20), st.integers(1, 9))
def test_order_of_the_parts_changes_nothing(seed: int, level: float, parts: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.laplace(0, 2.0**level, 500) * rng.choice([1, 40], 500, p=[0.99, 0.01])
    one, other = observed(values), observed(values[::-1], parts)
    for choose in RULES.values():
        assert choose(one, -128, 127) == choose(other, -128, 127)
        assert choose(one, 0, 255) == choose(other, 0, 255)


def test_mse_agrees_with_the_error_of_the_values_themselves() -> None:
    rng = np.random.default_rng(1)
    for values in (rng.normal(0, 1, 20_000), rng.laplace(0, 0.1, 20_000), rng.uniform(0, 3, 9_000)):
        expected = choose_exponent(values.astype(np.float32), -128, 127)
        assert minimum_error_exponent(observed(values, 3), -128, 127) == expected


def test_entropy_clips_outliers_that_minmax_keeps() -> None:
    values = np.abs(np.random.default_rng(2).normal(0, 1, 200_000))
    values[:4] = 60.0
    observer = observed(values)
    assert full_range_exponent(observer, 0, 255) == -2
    exponent = entropy_exponent(observer, 0, 255)
    assert exponent == -5
    assert observer.clip_share(exponent, 0, 255) == pytest.approx(4 / 200_000)


def test_percentile_clips_one_in_ten_thousand() -> None:
    values = np.random.default_rng(3).uniform(0, 0.9, 100_000)
    values[:9] = 30.0
    assert percentile_exponent(observed(values), 0, 255) == -8
    values[:11] = 30.0
    assert percentile_exponent(observed(values), 0, 255) == -3


def test_negative_values_do_not_count_for_unsigned_integers() -> None:
    values = np.concatenate([np.full(900, -50.0), np.linspace(0, 1.9, 1_000)])
    observer = observed(values)
    for choose in RULES.values():
        assert choose(observer, 0, 255) == -7
    assert observer.clip_share(-7, 0, 255) == 0.0
    signed_loss = 900 + (values[900:] > 127.5 / 128).sum()
    assert observer.clip_share(-7, -128, 127) == pytest.approx(signed_loss / 1_900, abs=0.002)


def test_a_channel_that_is_always_off_gets_some_scale() -> None:
    observer = observed(np.zeros(100))
    for choose in RULES.values():
        assert choose(observer, 0, 255) == full_range_exponent(observer, 0, 255)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(CalibrationError, match="overflows"):
        Observer().update(np.array([1.0, value]))


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(CalibrationError, match="'kl' is unknown; use one of mse, minmax"):
        rule("kl")
