"""Attention in a network: what must not be quantized to 8 bits.

A softmax over some hundred entries holds many values far below 1/127, which 8 bits cannot tell from
zero. So the Softmax, the logits that feed it from the product of queries and keys on, and the
product with the values behind it stay in fp16 at least.
"""

from __future__ import annotations

from onnx import TensorProto

from edge_codec.calibration.network import MOVES, Network
from edge_codec.calibration.onnx_file import Node

_LOGITS = frozenset(("Add", "Clip", "Div", "Max", "Min", "Mul", "Sub", "Where")) | MOVES
"""Operators that may stand between the product of queries and keys and the softmax."""

_PRODUCTS = frozenset(("Einsum", "MatMul"))


def attention_groups(network: Network) -> dict[str, frozenset[str]]:
    """Return, by the name of each Softmax, the names of the nodes that go with it."""
    layers = {layer.node.name for layer in network.layers}
    groups = {}
    for node in network.nodes:
        if node.op_type in ("LogSoftmax", "Softmax"):
            readers = network.consumers.get(node.output[0], [])
            behind = {r.name for r in readers if r.op_type in _PRODUCTS and r.name not in layers}
            groups[node.name] = frozenset({node.name} | behind | _logits(network, node, layers))
    return groups


def _logits(network: Network, softmax: Node, layers: set[str]) -> set[str]:
    """Nodes from the product of queries and keys to the softmax."""
    found: set[str] = set()
    waiting = [softmax.input[0]]
    while waiting:
        tensor = waiting.pop()
        node = network.producer.get(tensor)
        if node is None or network.types.get(tensor) != TensorProto.FLOAT or node.name in layers:
            continue
        if node.op_type in _PRODUCTS:
            found.add(node.name)
        elif node.op_type in _LOGITS and node.name not in found:
            found.add(node.name)
            waiting += [name for name in node.input if name]
    return found
