"""Proves which parts of a Q/DQ network are exact integer arithmetic, from its ONNX file alone.

A tensor is exact if its values are integers `q` times powers of two, known beforehand, and `|q|` is
known to stay below some bound. A sum of products of such tensors is exact in float32, in any order
of additions, if its bound stays below 2**24; then every backend finds the same bits, whether it
computes in float or in integers. Everything else, such as a softmax, may differ from backend to
backend in its last bits, and what is computed from it may, too.

The proof follows the network node by node and knows nothing of the calibration that wrote it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from onnx import TensorProto

from edge_codec.calibration.exact_values import (
    RULES,
    InexactError,
    Value,
    check_quantize,
    exact_constant,
    integers_up_to,
    sum_of_products,
)
from edge_codec.calibration.network import LAYERS, MOVES, Network
from edge_codec.calibration.onnx_file import Node

_INTEGER_TYPES = frozenset((
    TensorProto.UINT8, TensorProto.INT8, TensorProto.UINT16, TensorProto.INT16, TensorProto.INT32,
    TensorProto.INT64, TensorProto.UINT32, TensorProto.UINT64, TensorProto.BOOL,
))  # fmt: skip
_RANGES: dict[int, int] = {
    TensorProto.UINT8: 255,
    TensorProto.INT8: 128,
    TensorProto.UINT16: 65_535,
    TensorProto.INT16: 32_768,
}


@dataclass(frozen=True, slots=True)
class LayerProof:
    """What is known of one layer.

    Attributes
    ----------
    bound : int or None
        Largest possible magnitude of a partial sum; None for a layer that is not exact.
    reason : str
        Why it is not exact; empty if it is.
    """

    bound: int | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Proof:
    """What is known of a network.

    Attributes
    ----------
    layers : dict of str to LayerProof
        By name of the node that multiplies.
    exact : bool
        Whether every output is exact.
    reason : str
        What makes an output inexact, first; empty if all are exact.
    """

    layers: dict[str, LayerProof]
    exact: bool
    reason: str = ""


def prove(model: bytes) -> Proof:
    """Prove what can be proven of a network.

    Parameters
    ----------
    model : bytes
        ONNX file.

    Raises
    ------
    CalibrationError
        If it is no valid ONNX file.
    """
    return _Prover(Network(model)).run()


class _Prover:
    """Values of all tensors that are exact, and reasons for those that are not."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._values: dict[str, Value] = {}
        self._reasons: dict[str, str] = {}
        self._layers: dict[str, LayerProof] = {}
        for name, constant in network.constants.items():
            self._set(name, partial(exact_constant, name, constant))
        for name in network.inputs:
            self._set(name, partial(self._input, name))

    def run(self) -> Proof:
        """Follow the network to its outputs."""
        for node in self._network.nodes:
            for name in filter(None, node.output):
                self._set(name, partial(self._node, node, name))
        reasons = [self._reasons[name] for name in self._network.outputs if name in self._reasons]
        return Proof(self._layers, not reasons, reasons[0] if reasons else "")

    def _set(self, name: str, find: Callable[[], Value]) -> None:
        try:
            self._values[name] = find()
        except InexactError as reason:
            self._reasons[name] = str(reason)

    def _read(self, name: str) -> Value:
        if name in self._reasons:
            raise InexactError(self._reasons[name])
        return self._values[name]

    def _input(self, name: str) -> Value:
        if self._network.types.get(name) not in _INTEGER_TYPES:
            raise InexactError(f"the input '{name}' is float")
        return self._integers(name)

    def _integers(self, name: str) -> Value:
        return integers_up_to(_RANGES.get(self._network.types.get(name, 0), 1 << 63))

    def _node(self, node: Node, output: str) -> Value:
        if node.op_type in LAYERS and not node.domain:
            return self._product(node)
        inputs = [self._read(name) for name in node.input if name]
        if node.op_type in MOVES:
            return inputs[0].plain()
        if node.op_type == "QuantizeLinear":
            check_quantize(node, inputs)
        if self._network.types.get(output) in _INTEGER_TYPES and not node.domain:
            # Whatever integers it gives, it gives them everywhere.
            return self._integers(output)
        rule = RULES.get(node.op_type)
        if rule is None or node.domain:
            raise InexactError(f"{node.name} ({node.op_type}) is no exact arithmetic")
        return rule(node, inputs)

    def _product(self, node: Node) -> Value:
        try:
            value = sum_of_products(node, [self._read(name) for name in node.input if name])
        except InexactError as reason:
            self._layers[node.name] = LayerProof(None, str(reason))
            raise
        self._layers[node.name] = LayerProof(value.largest)
        return value
