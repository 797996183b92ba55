"""Arithmetic on what is known of exact tensors: one rule for each operator that keeps them exact.

A rule takes a node and the exact values it reads, and gives the exact value it makes, or says why
there is none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from edge_codec.calibration.network import channels_first
from edge_codec.calibration.onnx_file import Node, attributes, power_of_two
from edge_codec.calibration.power_of_two import EXACT_FLOAT32, WEIGHT_MAX, IntegerConv, prove_bound
from edge_codec.errors import CalibrationError


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """An exact tensor: integers times powers of two.

    Attributes
    ----------
    exponent : ndarray, int64
        One, or one per channel: the values are multiples of 2**exponent.
    largest : int
        Bound of the magnitudes, in units of 2**exponent.
    constant : ndarray or None
        The values themselves where they are known, float64.
    """

    exponent: NDArray[np.int64]
    largest: int
    constant: NDArray[np.float64] | None = None

    def plain(self) -> Value:
        """Return the same with one exponent for all channels."""
        low, high = int(self.exponent.min()), int(self.exponent.max())
        return Value(np.array([low]), self.largest << (high - low))


class InexactError(Exception):
    """Says why a node's output is not exact."""


def sum_of_products(node: Node, inputs: list[Value]) -> Value:
    """Sum of products with constant weights, and a bias."""
    source, weight = inputs[0].plain(), inputs[1]
    bias = inputs[2] if len(inputs) > 2 else None
    if weight.constant is None or (bias is not None and bias.constant is None):
        raise InexactError(f"{node.name} ({node.op_type}): its factors are no constants")
    if node.op_type == "Gemm" and not _plain_gemm(node):
        raise InexactError(f"{node.name}: a Gemm that scales or transposes its input")
    values = channels_first(node, weight.constant)
    exponents = np.broadcast_to(weight.exponent, (len(values),))
    integers = values * _along(np.exp2(-exponents.astype(np.float64)), values.ndim)
    units = exponents + source.exponent
    addend = np.zeros(len(values)) if bias is None else _in_units(bias, units)
    if np.abs(integers).max(initial=0) > WEIGHT_MAX:
        raise InexactError(f"{node.name} ({node.op_type}): its weights take more than 7 bits")
    if not _whole(integers) or not _whole(addend):
        raise InexactError(f"{node.name}: weights or bias are no multiples of their unit")
    layer = IntegerConv(
        node.name,
        integers.astype(np.int64),
        exponents,
        addend.astype(np.int64),
        int(source.exponent[0]),
        0,
        np.dtype(np.int32),
    )
    try:
        return Value(units, prove_bound(layer, source.largest))
    except CalibrationError as error:
        raise InexactError(str(error)) from error


def _dequantize(node: Node, inputs: list[Value]) -> Value:
    integers, exponent = inputs[0], _steps(node, inputs)
    if integers.constant is None:
        if exponent.size > 1:
            raise InexactError(f"{node.name}: an activation with a scale per channel")
        return Value(exponent, integers.largest)
    factors = np.exp2(exponent.astype(np.float64))
    axis = attributes(node).get("axis", 1)
    values = integers.constant * np.moveaxis(_along(factors, integers.constant.ndim), 0, axis)
    return Value(exponent, int(np.abs(integers.constant).max(initial=0)), values)


def check_quantize(node: Node, inputs: list[Value]) -> None:
    """Refuse a QuantizeLinear that does more than shift and round.

    Raises
    ------
    InexactError
    """
    _steps(node, inputs)


def _steps(node: Node, inputs: list[Value]) -> NDArray[np.int64]:
    """Exponents of the scale of a QuantizeLinear or DequantizeLinear."""
    scale = inputs[1].constant
    if scale is None or (len(inputs) > 2 and np.any(inputs[2].constant)):
        raise InexactError(f"{node.name}: a scale that is not constant, or a zero point")
    exponents = [power_of_two(float(step)) for step in scale.reshape(-1)]
    if None in exponents:
        raise InexactError(f"{node.name}: its scale is no power of two")
    return np.array(exponents, np.int64)


def _add(node: Node, inputs: list[Value]) -> Value:
    left, right = inputs
    if left.constant is not None:
        left, right = right, left
    # A bias per channel, behind a MatMul; else everything in the finer of the two units.
    if right.constant is not None and right.constant.shape == left.exponent.shape:
        addend = _in_units(right, left.exponent)
        if _whole(addend):
            largest = left.largest + int(np.abs(addend).max(initial=0))
            return _limited(node, Value(left.exponent, largest))
    left, right = left.plain(), right.plain()
    unit = np.minimum(left.exponent, right.exponent)
    return _limited(node, Value(unit, _in_unit(left, unit) + _in_unit(right, unit)))


def _scale(node: Node, inputs: list[Value]) -> Value:
    """Multiply or divide by a power of two."""
    values = list(inputs) if node.op_type == "Mul" else inputs[1:]
    for index, factor in enumerate(values):
        scalar = None if factor.constant is None or factor.constant.size != 1 else factor.constant
        shift = None if scalar is None else power_of_two(float(scalar.reshape(-1)[0]))
        if shift is not None:
            if node.op_type == "Div":
                return Value(inputs[0].exponent - shift, inputs[0].largest)
            other = inputs[1 - index]
            return Value(other.exponent + shift, other.largest)
    raise InexactError(f"{node.name}: a product or quotient by no power of two")


def _round(node: Node, inputs: list[Value]) -> Value:
    del node
    value = inputs[0].plain()
    exponent = int(value.exponent[0])
    return value if exponent >= 0 else integers_up_to((value.largest >> -exponent) + 1)


def _cast(node: Node, inputs: list[Value]) -> Value:
    if attributes(node)["to"] != TensorProto.FLOAT:
        raise InexactError(f"{node.name}: a cast to another float type than float32")
    return _limited(node, inputs[0])


def _join(node: Node, inputs: list[Value]) -> Value:
    """Values of several tensors side by side, or some of them."""
    del node
    parts = [value.plain() for value in inputs]
    unit = np.min([value.exponent for value in parts], axis=0)
    return Value(unit, max(_in_unit(value, unit) for value in parts))


def _where(node: Node, inputs: list[Value]) -> Value:
    return _join(node, inputs[1:])


def _pad(node: Node, inputs: list[Value]) -> Value:
    if attributes(node).get("mode", b"constant") != b"constant":
        return inputs[0].plain()
    filled = [value for value in inputs[2:3] if value.constant is not None]
    return _join(node, [inputs[0], *filled])


Rule = Callable[[Node, list[Value]], Value]

RULES: dict[str, Rule] = {
    "Add": _add,
    "Cast": _cast,
    "Clip": _join,
    "Concat": _join,
    "DequantizeLinear": _dequantize,
    "Div": _scale,
    "Max": _join,
    "Min": _join,
    "Mul": _scale,
    "Neg": lambda _, inputs: Value(inputs[0].exponent, inputs[0].largest),
    "Pad": _pad,
    "Relu": lambda _, inputs: Value(inputs[0].exponent, inputs[0].largest),
    "Round": _round,
    "Sub": _add,
    "Where": _where,
}


def integers_up_to(largest: int) -> Value:
    """Return what is known of plain integers."""
    return Value(np.array([0]), largest)


def exact_constant(name: str, values: NDArray[Any]) -> Value:
    """Write a constant as integers times a power of two, as every finite float is."""
    exact = values.astype(np.float64)
    if not np.isfinite(exact).all():
        raise InexactError(f"the constant '{name}' is not finite")
    mantissas, exponents = np.frexp(exact)
    some = mantissas != 0
    if not some.any() or values.dtype.kind in "iub":
        return Value(np.array([0]), int(np.abs(exact).max(initial=0)), exact)
    # The lowest bit of a float32 mantissa is 24 below its exponent.
    digits = np.ldexp(mantissas[some], 24).astype(np.int64)
    low = int((exponents[some] - 24 + _trailing_zeros(digits)).min())
    return Value(np.array([low]), int(np.ldexp(np.abs(exact).max(), -low)), exact)


def _trailing_zeros(values: NDArray[np.int64]) -> NDArray[np.int64]:
    lowest = values & -values
    return np.log2(lowest.astype(np.float64)).astype(np.int64)


def _limited(node: Node, value: Value) -> Value:
    """Refuse values that float32 may not hold."""
    if value.largest >= EXACT_FLOAT32:
        raise InexactError(f"{node.name}: values up to {value.largest} need more than float32 has")
    return value


def _in_unit(value: Value, unit: NDArray[np.int64]) -> int:
    """Bound of a value with one exponent, in a finer unit."""
    return value.largest << int(value.exponent[0] - unit[0])


def _in_units(value: Value, units: NDArray[np.int64]) -> NDArray[np.float64]:
    """Constants per channel in the units of the channels."""
    constant = np.zeros(1) if value.constant is None else value.constant
    scaled: NDArray[np.float64] = constant.reshape(-1) * np.exp2(-units.astype(np.float64))
    return scaled


def _along(factors: NDArray[np.float64], ndim: int) -> NDArray[np.float64]:
    """Shape factors so that they scale the first axis."""
    return factors.reshape(-1, *(1,) * (ndim - 1)) if ndim else factors.reshape(())


def _whole(values: NDArray[np.float64]) -> bool:
    return bool((values == np.rint(values)).all())


def _plain_gemm(node: Node) -> bool:
    values = attributes(node)
    return values.get("alpha", 1.0) == values.get("beta", 1.0) == 1.0 and not values.get(
        "transA", 0
    )
