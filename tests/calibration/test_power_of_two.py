"""Power-of-two scales: their choice, the integers they give, and the proof of exactness."""

from __future__ import annotations

import numpy as np
import pytest

from edge_codec.calibration.observers import (
    Observer,
    full_range_exponent,
    minimum_error_exponent,
    percentile_exponent,
)
from edge_codec.calibration.power_of_two import (
    EXACT_FLOAT32,
    WEIGHT_MAX,
    IntegerConv,
    choose_exponent,
    choose_weight_exponents,
    prove_bound,
    quantize_array,
    quantize_conv,
)
from edge_codec.errors import CalibrationError

UINT8 = np.dtype(np.uint8)


def random_conv(rng: np.random.Generator, inputs: int = 8) -> IntegerConv:
    return quantize_conv(
        "layer",
        rng.normal(0, 0.1, (4, inputs, 3, 3)),
        rng.normal(0, 0.1, 4),
        input_exponent=-7,
        output_exponent=-6,
        output_dtype=UINT8,
    )


def test_rounds_half_to_even_and_clips() -> None:
    values = np.array([0.5, 1.5, 2.5, -0.5, 300.0, -300.0])
    assert quantize_array(values, 0, -128, 127).tolist() == [0, 2, 2, 0, 127, -128]


def test_exponent_covers_a_uniform_sample() -> None:
    sample = np.random.default_rng(0).uniform(0, 1.99, 10_000)
    assert choose_exponent(sample, 0, 255) == -7


def test_exponent_clips_one_outlier_of_many() -> None:
    sample = np.concatenate([np.random.default_rng(0).uniform(0, 0.9, 1_000_000), [2.5]])
    assert choose_exponent(sample, 0, 255) == -8


def test_exponent_refuses_values_that_are_not_finite() -> None:
    with pytest.raises(CalibrationError, match="scale"):
        choose_exponent(np.array([1.0, np.nan]), 0, 255)


def test_weights_are_seven_bits_and_close() -> None:
    weight = np.random.default_rng(0).normal(0, [[[[0.01]]], [[[1.0]]]], (2, 16, 3, 3))
    exponents = choose_weight_exponents(weight)
    integers = quantize_array(weight, exponents[:, None, None, None], -WEIGHT_MAX, WEIGHT_MAX)
    restored = integers * np.exp2(exponents.astype(float))[:, None, None, None]
    relative = np.square(restored - weight).sum(axis=(1, 2, 3)) / np.square(weight).sum((1, 2, 3))
    # 7 bits over +-4 standard deviations: a step of an eighth, squared over 12.
    assert (relative < 0.125**2 / 12).all()
    assert exponents[0] < exponents[1]


def test_bias_is_in_units_of_the_sum() -> None:
    layer = random_conv(np.random.default_rng(1))
    unit = np.exp2((layer.input_exponent + layer.weight_exponents).astype(float))
    expected = np.random.default_rng(1)
    expected.normal(0, 0.1, (4, 8, 3, 3))
    assert np.abs(layer.bias * unit - expected.normal(0, 0.1, 4)).max() <= unit.max() / 2


def test_bound_is_reached_by_the_worst_input() -> None:
    layer = random_conv(np.random.default_rng(2))
    weight = layer.weight.astype(np.int64)
    positive = np.where(weight > 0, weight, 0).sum((1, 2, 3)) * 255 + layer.bias
    assert positive.max() <= prove_bound(layer, 255) < EXACT_FLOAT32


def test_bound_refuses_sums_that_float32_cannot_hold() -> None:
    weight = np.full((1, 128, 3, 3), WEIGHT_MAX, np.int8)
    one = np.zeros(1, np.int64)
    layer = IntegerConv("wide", weight, one, one, -7, -6, UINT8)
    with pytest.raises(CalibrationError, match="wide: a sum can reach 18506880"):
        prove_bound(layer, 255)


def test_bound_refuses_eight_bit_weights() -> None:
    weight = np.full((1, 1, 1, 1), 64, np.int8)
    one = np.zeros(1, np.int64)
    with pytest.raises(CalibrationError, match="weight of magnitude 64"):
        prove_bound(IntegerConv("layer", weight, one, one, -7, -6, UINT8), 255)


def test_observers_see_extremes_exactly() -> None:
    observer = Observer()
    rng = np.random.default_rng(0)
    for _ in range(4):
        observer.update(rng.uniform(0, 1, 50_000))
    observer.update(np.array([-3.0, 40.0]))
    assert (observer.minimum, observer.maximum) == (-3.0, 40.0)
    assert full_range_exponent(observer, 0, 255) == -2
    assert percentile_exponent(observer, 0, 255, percent=99.0) == -8
    assert minimum_error_exponent(observer, 0, 255) <= -2
