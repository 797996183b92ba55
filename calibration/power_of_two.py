"""Power-of-two quantization of layers, and the proof that their sums are exact.

A tensor of integers `q` with exponent `e` stands for `q * 2**e`. When every scale is a power of
two, a convolution multiplies and adds integers, and scaling its sum to the next tensor's exponent
is a shift that rounds half to even. Float32 does all of it exactly as long as every partial sum
stays below 2**24, whatever the order of the additions; that is what `prove_bound` checks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.errors import CalibrationError

WEIGHT_MAX = 63
"""Largest weight: 7 bits, since some x86 kernels without VNNI saturate sums of two u8*s8."""

EXACT_FLOAT32 = 1 << 24
"""Integers below it are exact in float32."""


@dataclass(frozen=True, slots=True, eq=False)
class IntegerConv:
    """One convolution, or another layer of sums of products, of an integer network.

    Attributes
    ----------
    name : str
        For messages and node names.
    weight : ndarray, shape (outputs, inputs, k, k) or (outputs, inputs, ...), int8
        At most `WEIGHT_MAX` in magnitude.
    weight_exponents : ndarray, shape (outputs,), int64
    bias : ndarray, shape (outputs,), int64
        In units of 2**(input_exponent + weight_exponents), that is, of the sum.
    input_exponent, output_exponent : int
    output_dtype : numpy dtype
        uint8 or int8; the output saturates to it, which for uint8 is a ReLU as well.
    stride : int
    """

    name: str
    weight: NDArray[np.int8]
    weight_exponents: NDArray[np.int64]
    bias: NDArray[np.int64]
    input_exponent: int
    output_exponent: int
    output_dtype: np.dtype[Any]
    stride: int = 1


def quantize_array(
    values: NDArray[np.floating[Any]], exponent: int | NDArray[np.int64], low: int, high: int
) -> NDArray[np.int64]:
    """Round `values / 2**exponent` half to even and clip it to `low..high`."""
    scaled = np.asarray(values, np.float64) * np.exp2(-np.asarray(exponent, np.float64))
    return np.clip(np.rint(scaled), low, high).astype(np.int64)


def choose_exponent(
    sample: NDArray[np.floating[Any]], low: int, high: int, largest: float | None = None
) -> int:
    """Find the exponent that represents a sample with the least squared error.

    Parameters
    ----------
    sample : ndarray
        Values to represent.
    low, high : int
        Range of the integers.
    largest : float, optional
        Largest magnitude seen, where `sample` is a random part of the values.

    Returns
    -------
    int
        Ties go to the larger exponent, which clips less.
    """
    peak = float(np.abs(sample).max(initial=0.0)) if largest is None else largest
    if not np.isfinite(peak):
        raise CalibrationError(f"cannot choose a scale for values up to {peak}")
    widest = int(np.ceil(np.log2(max(peak, 1e-9) / high)))
    # Four steps down: clipping at a sixteenth of the range has never been the better choice.
    candidates = range(widest, widest - 5, -1)
    return min(candidates, key=lambda e: (_squared_error(sample, e, low, high), -e))


def choose_weight_exponents(weight: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """Choose an exponent per output channel: (outputs, inputs, ...) to (outputs,)."""
    exponents = [choose_exponent(channel, -WEIGHT_MAX, WEIGHT_MAX) for channel in weight]
    return np.array(exponents, np.int64)


def quantize_conv(
    name: str,
    weight: NDArray[np.floating[Any]],
    bias: NDArray[np.floating[Any]],
    input_exponent: int,
    output_exponent: int,
    output_dtype: np.dtype[Any],
    stride: int = 1,
    weight_exponents: NDArray[np.int64] | None = None,
) -> IntegerConv:
    """Quantize a float convolution to integers.

    Parameters
    ----------
    weight : ndarray, shape (outputs, inputs, ...), float
    bias : ndarray, shape (outputs,), float
    weight_exponents : ndarray, shape (outputs,), int64, optional
        Chosen by least squared error unless given.
    """
    exponents = choose_weight_exponents(weight) if weight_exponents is None else weight_exponents
    channels = exponents.reshape(-1, *(1,) * (weight.ndim - 1))
    integers = quantize_array(weight, channels, -WEIGHT_MAX, WEIGHT_MAX)
    limit = EXACT_FLOAT32 - 1
    return IntegerConv(
        name=name,
        weight=integers.astype(np.int8),
        weight_exponents=exponents,
        bias=quantize_array(bias, input_exponent + exponents, -limit, limit),
        input_exponent=input_exponent,
        output_exponent=output_exponent,
        output_dtype=output_dtype,
        stride=stride,
    )


def prove_bound(layer: IntegerConv, input_max: int) -> int:
    """Prove that no sum of the layer can leave the exact integers of float32.

    Parameters
    ----------
    layer : IntegerConv
    input_max : int
        Largest magnitude of an input: 255 for uint8, 128 for int8.

    Returns
    -------
    int
        Largest possible magnitude of a partial sum, over all inputs and orders of addition.

    Raises
    ------
    CalibrationError
        If it reaches 2**24, or a weight exceeds 7 bits.
    """
    largest_weight = int(np.abs(layer.weight.astype(np.int64)).max(initial=0))
    if largest_weight > WEIGHT_MAX:
        raise CalibrationError(
            f"{layer.name}: weight of magnitude {largest_weight}, at most {WEIGHT_MAX} is exact on "
            "every CPU; quantize it with quantize_conv"
        )
    bound = int(channel_bounds(layer, input_max).max(initial=0))
    if bound >= EXACT_FLOAT32:
        raise CalibrationError(
            f"{layer.name}: a sum can reach {bound}, exact arithmetic ends at {EXACT_FLOAT32}; "
            "use a larger weight exponent or fewer input channels"
        )
    return bound


def channel_bounds(layer: IntegerConv, input_max: int) -> NDArray[np.int64]:
    """Largest possible magnitude of a partial sum of each output channel, shape (outputs,)."""
    weight = np.abs(layer.weight.astype(np.int64)).reshape(len(layer.weight), -1)
    bounds: NDArray[np.int64] = weight.sum(axis=1) * input_max + np.abs(layer.bias)
    return bounds


def prove_bounds(layers: Iterable[IntegerConv]) -> dict[str, int]:
    """Prove every layer of a network on uint8 activations; return the bounds by layer name."""
    return {layer.name: prove_bound(layer, input_max=255) for layer in layers}


def _squared_error(sample: NDArray[np.floating[Any]], exponent: int, low: int, high: int) -> float:
    integers = quantize_array(sample, exponent, low, high)
    return float(np.square(integers * 2.0**exponent - sample).sum())
