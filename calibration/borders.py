"""Where a network meets 8-bit integers: inputs that are some already, outputs that it rounds.

There, the network itself says the scale, and the sample has nothing to decide.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from onnx import TensorProto

from edge_codec.calibration.onnx_file import Node, attributes, power_of_two

if TYPE_CHECKING:
    from edge_codec.calibration.network import Network

UNSIGNED = "uint8"
SIGNED = "int8"
LIMITS = {UNSIGNED: (0, 255), SIGNED: (-128, 127)}
"""Integers of a quantized activation."""


@dataclass(frozen=True, slots=True)
class Exact:
    """A tensor whose values are integers times a power of two before any calibration.

    Attributes
    ----------
    integers : str
        Tensor of the integers.
    exponent : int
    dtype : str
        `uint8` or `int8`.
    """

    integers: str
    exponent: int
    dtype: str


@dataclass(frozen=True, slots=True)
class Rounding:
    """Where the network itself rounds its output to 8 bits: scale, Round, Clip and Cast.

    Attributes
    ----------
    source : str
        Float tensor that is rounded.
    output : str
        The output tensor.
    exponent : int
        Of the output's step.
    dtype : str
        `uint8` or `int8`.
    """

    source: str
    output: str
    exponent: int
    dtype: str


def find_exact(network: Network) -> dict[str, Exact]:
    """Find what is cast from 8-bit integers, and its products with powers of two."""
    found: dict[str, Exact] = {}
    for node in network.nodes:
        exact = _exact(network, node, found)
        if exact is not None:
            found[node.output[0]] = exact
    return found


def find_roundings(network: Network) -> tuple[Rounding, ...]:
    """Find the outputs that are Cast(Clip(Round(x * 2**k))), Clip and Round in either order."""
    found = (_rounding(network, name) for name in network.outputs)
    return tuple(rounding for rounding in found if rounding is not None)


def clip_bounds(network: Network, node: Node) -> tuple[float, float]:
    """Bounds of a Clip; infinite where there is none, NaN where it is no constant."""
    bounds = [-math.inf, math.inf]
    for index in (1, 2):
        if len(node.input) > index and node.input[index]:
            value = network.scalar(node.input[index])
            bounds[index - 1] = math.nan if value is None else value
    return bounds[0], bounds[1]


_INTEGERS: dict[int, str] = {TensorProto.UINT8: UNSIGNED, TensorProto.INT8: SIGNED}


def _exact(network: Network, node: Node, found: Mapping[str, Exact]) -> Exact | None:
    if node.op_type == "Cast":
        dtype = _INTEGERS.get(network.types.get(node.input[0], 0))
        to_float = bool(attributes(node)["to"] == TensorProto.FLOAT)
        return Exact(node.input[0], 0, dtype) if dtype and to_float else None
    if node.op_type in ("Mul", "Div"):
        for tensor, factor in _operands(node):
            exponent = power_of_two(network.scalar(factor))
            if tensor in found and exponent is not None:
                shift = exponent if node.op_type == "Mul" else -exponent
                before = found[tensor]
                return Exact(before.integers, before.exponent + shift, before.dtype)
    return None


def _rounding(network: Network, output: str) -> Rounding | None:
    node = network.producer.get(output)
    dtype = _INTEGERS.get(network.types.get(output, 0))
    if node is None or node.op_type != "Cast" or dtype is None:
        return None
    tensor, seen = node.input[0], set()
    while (node := network.producer.get(tensor)) is not None and node.op_type in ("Round", "Clip"):
        if node.op_type == "Clip" and clip_bounds(network, node) != LIMITS[dtype]:
            return None
        seen.add(node.op_type)
        tensor = node.input[0]
    if seen != {"Round", "Clip"}:
        return None
    if node is not None and node.op_type in ("Mul", "Div"):
        for source, factor in _operands(node):
            shift = power_of_two(network.scalar(factor))
            if shift is not None:
                exponent = -shift if node.op_type == "Mul" else shift
                return Rounding(source, output, exponent, dtype)
    return Rounding(tensor, output, 0, dtype)


def _operands(node: Node) -> Iterator[tuple[str, str]]:
    """Yield (tensor, factor) as they may be told apart: only products commute."""
    yield node.input[0], node.input[1]
    if node.op_type == "Mul":
        yield node.input[1], node.input[0]
