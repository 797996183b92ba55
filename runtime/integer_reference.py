"""Executes an integer network with NumPy's 64-bit integers: the definition of its output.

Reads the very ONNX file that is shipped. Every tensor is integers `q` with an exponent `e` that
stand for `q * 2**e`; products and sums are integer, scaling is a shift that rounds half to even,
and a scale that is not a power of two, or a constant that is not an integer times one, is refused.
Slow, and needs the package onnx: for tests and `verify`-like tools only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.errors import EngineError

Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Scaled:
    """A tensor of the network.

    Attributes
    ----------
    q : ndarray, int64
    exponent : int or ndarray, int64
        Scalar, or one per channel in a shape that broadcasts against `q`.
    """

    q: Integers
    exponent: int | Integers = 0


class IntegerReference:
    """A network with one input and one output, both integer.

    Parameters
    ----------
    model : bytes
        ONNX file.

    Raises
    ------
    EngineError
        If it has an operator, scale or constant outside of exact integer arithmetic.
    """

    name = "integer reference (NumPy)"

    def __init__(self, model: bytes) -> None:
        # A development dependency: the codec itself never reads an ONNX file.
        import onnx
        from onnx import helper, numpy_helper

        graph = onnx.load_model_from_string(model).graph
        self._constants = {c.name: _exact(numpy_helper.to_array(c)) for c in graph.initializer}
        self._nodes = [
            (
                node.op_type,
                list(node.input),
                list(node.output),
                {a.name: helper.get_attribute_value(a) for a in node.attribute},
            )
            for node in graph.node
        ]
        unknown = {operator for operator, *_ in self._nodes} - OPERATORS.keys()
        if unknown:
            raise EngineError(f"no exact definition of {sorted(unknown)}; export another graph")
        self._input = graph.input[0].name
        self._output = graph.output[0].name
        element = graph.output[0].type.tensor_type.elem_type
        self._dtype = helper.tensor_dtype_to_np_dtype(element)
        self._quantized_dtypes = {c.name: numpy_helper.to_array(c).dtype for c in graph.initializer}

    def run(self, tensor: NDArray[Any]) -> NDArray[Any]:
        """Return the network's output for an integer tensor."""
        values = dict(self._constants)
        values[self._input] = Scaled(tensor.astype(np.int64))
        for operator, inputs, outputs, attributes in self._nodes:
            arguments = [values[name] for name in inputs]
            if operator == "QuantizeLinear":
                attributes = {**attributes, "dtype": self._quantized_dtypes[inputs[2]]}
            results = OPERATORS[operator](*arguments, **attributes)
            values.update(zip(outputs, results, strict=True))
        return _plain(values[self._output]).astype(self._dtype)


def shift_half_even(q: Integers, shift: NDArray[Any] | int) -> Integers:
    """Divide by 2**shift, rounding half to even; a negative shift multiplies.

    Examples
    --------
    >>> shift_half_even(np.array([5, 6, 7, -6]), 2).tolist()
    [1, 2, 2, -2]
    """
    right = np.maximum(np.asarray(shift, np.int64), 0)
    left = np.maximum(-np.asarray(shift, np.int64), 0)
    whole = q >> right
    rest = q - (whole << right)
    half = (np.int64(1) << right) >> 1
    up = (rest > half) | ((rest == half) & (whole & 1 == 1))
    rounded: Integers = np.where(right > 0, whole + up, q)
    return rounded << left


def _exact(values: NDArray[Any]) -> Scaled:
    """Write a constant as integers times a power of two."""
    if values.dtype.kind in "iub":
        return Scaled(values.astype(np.int64))
    mantissa, exponents = np.frexp(values.astype(np.float64))
    # 53-bit mantissas as integers, then the common power of two that keeps them small.
    exponent = int(exponents[mantissa != 0].min(initial=0)) - 24
    scaled = np.ldexp(values.astype(np.float64), -exponent)
    if (scaled != np.rint(scaled)).any() or (np.abs(scaled) >= 2.0**62).any():
        raise EngineError("a constant spans too many powers of two for exact integers")
    return Scaled(scaled.astype(np.int64), exponent)


def _plain(value: Scaled) -> Integers:
    """Return the integers of a tensor of exponent 0."""
    if np.any(np.asarray(value.exponent) != 0):
        raise EngineError("an integer was expected where the network has a scaled value")
    return value.q


def _exponents(scale: Scaled) -> Integers:
    """Exponents of a tensor of scales, which must be powers of two."""
    q = scale.q
    if (q <= 0).any() or (q & (q - 1) != 0).any():
        raise EngineError(f"scale {q.min()} * 2**{scale.exponent} is not a power of two")
    return np.log2(q.astype(np.float64)).astype(np.int64) + scale.exponent


def _align(value: Scaled, exponent: int | Integers) -> Integers:
    """Return the integers of `value` at another exponent, which must represent them exactly."""
    shift = np.asarray(exponent) - np.asarray(value.exponent)
    q = shift_half_even(value.q, shift)
    if not np.array_equal(shift_half_even(q, -shift), value.q):
        raise EngineError("a bias or addend is finer than the sum it is added to")
    return q


def _dequantize(x: Scaled, scale: Scaled, zero: Scaled, axis: int = 1) -> list[Scaled]:
    if zero.q.any():
        raise EngineError("integer networks have zero points of 0")
    exponent = _exponents(scale)
    if exponent.ndim == 0:
        return [Scaled(_plain(x), int(exponent))]
    return [Scaled(_plain(x), exponent.reshape([-1 if a == axis else 1 for a in range(x.q.ndim)]))]


def _quantize(
    x: Scaled, scale: Scaled, zero: Scaled, dtype: np.dtype[Any], axis: int = 1
) -> list[Scaled]:
    if zero.q.any() or scale.q.ndim:
        raise EngineError("activations have one scale, and zero points of 0")
    limits = np.iinfo(dtype)
    q = shift_half_even(x.q, _exponents(scale) - np.asarray(x.exponent))
    return [Scaled(np.clip(q, limits.min, limits.max))]


def _conv(
    x: Scaled,
    weight: Scaled,
    bias: Scaled,
    kernel_shape: list[int],
    pads: list[int],
    strides: list[int],
) -> list[Scaled]:
    (top, left, bottom, right), (down, across) = pads, strides
    padded = np.pad(x.q, ((0, 0), (0, 0), (top, bottom), (left, right)))
    height = (padded.shape[2] - kernel_shape[0]) // down + 1
    width = (padded.shape[3] - kernel_shape[1]) // across + 1
    sums = np.zeros((len(x.q), len(weight.q), height, width), np.int64)
    for i in range(kernel_shape[0]):
        for j in range(kernel_shape[1]):
            window = padded[:, :, i : i + down * height : down, j : j + across * width : across]
            sums += _integer_matmul(weight.q[:, :, i, j], window)
    exponent = np.asarray(weight.exponent, np.int64) + x.exponent
    exponent = np.broadcast_to(exponent.reshape(1, -1, 1, 1), (1, len(weight.q), 1, 1))
    offset = Scaled(bias.q.reshape(1, -1, 1, 1), bias.exponent)
    return [Scaled(sums + _align(offset, exponent), exponent)]


def _integer_matmul(weight: Integers, x: Integers) -> Integers:
    """Multiply (o, c) by (n, c, h, w) into (n, o, h, w), exactly.

    BLAS in doubles is exact for integers below 2**53, and much faster than NumPy's own integers.
    """
    n, c, h, w = x.shape
    product = weight.astype(np.float64) @ x.reshape(n, c, h * w).astype(np.float64)
    return product.astype(np.int64).reshape(n, -1, h, w)


def _reshape(x: Scaled, sizes: Scaled) -> list[Scaled]:
    target = [x.q.shape[i] if size == 0 else int(size) for i, size in enumerate(_plain(sizes))]
    return [Scaled(x.q.reshape(target), x.exponent)]


def _slice(x: Scaled, start: Scaled, end: Scaled) -> list[Scaled]:
    return [Scaled(x.q[int(_plain(start)[0]) : int(_plain(end)[0])], x.exponent)]


def _shape(x: Scaled, start: int = 0, end: int | None = None) -> list[Scaled]:
    return [Scaled(np.array(x.q.shape[start:end], np.int64))]


def _unsqueeze(x: Scaled, axes: Scaled) -> list[Scaled]:
    return [Scaled(np.expand_dims(x.q, tuple(_plain(axes).tolist())), x.exponent)]


OPERATORS: dict[str, Callable[..., list[Scaled]]] = {
    "Concat": lambda *x, axis: [Scaled(np.concatenate([_plain(part) for part in x], axis))],
    "Conv": _conv,
    "DequantizeLinear": _dequantize,
    "Div": lambda x, y: [Scaled(_plain(x) // _plain(y))],
    "Gather": lambda x, indices, axis: [Scaled(np.take(x.q, _plain(indices), axis), x.exponent)],
    "Mul": lambda x, y: [Scaled(_plain(x) * _plain(y))],
    "QuantizeLinear": _quantize,
    "Relu": lambda x: [Scaled(np.maximum(x.q, 0), x.exponent)],
    "Reshape": _reshape,
    "Shape": _shape,
    "Slice": _slice,
    "Transpose": lambda x, perm: [Scaled(x.q.transpose(perm), x.exponent)],
    "Unsqueeze": _unsqueeze,
}
"""Definitions by operator; each takes tensors and attributes, and gives its outputs."""
