"""A graph that is rewritten node by node, in its order, into a new one of the same results."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge_codec.errors import EngineError


class GraphEditor:
    """Collects the new nodes and constants of a graph, then puts them in.

    Parameters
    ----------
    graph : onnx.GraphProto
        Its nodes are sorted, as ONNX asks.

    Attributes
    ----------
    constants : dict of str to ndarray
        By name.
    nodes : list of onnx.NodeProto
        The old nodes but constants.
    producers : dict of str to onnx.NodeProto
        New nodes by the names of their outputs.
    """

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, NDArray[Any]] = constants_of(graph)
        self.nodes = [n for n in graph.node if not self.constants.keys() & set(n.output)]
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        self.producers: dict[str, onnx.NodeProto] = {}

    @property
    def results(self) -> list[str]:
        """Names of the graph's outputs."""
        return [value.name for value in self._graph.output]

    @property
    def uint8_inputs(self) -> list[str]:
        """Names of the graph's inputs that are uint8."""
        return [
            value.name
            for value in self._graph.input
            if value.type.tensor_type.elem_type == TensorProto.UINT8
        ]

    def readers(self, name: str) -> list[onnx.NodeProto]:
        """Return the old nodes that read a tensor of the old graph."""
        return self._readers.get(name, [])

    def read_once(self, name: str) -> bool:
        """Whether one old node reads a tensor, and it is no result."""
        return len(self.readers(name)) == 1 and name not in self.results

    def constant(self, values: Any) -> str:
        """Add a constant and return its name."""
        name = f"lowered_constant_{len(self.constants)}"
        self.constants[name] = np.asarray(values)
        return name

    def node(self, operator: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        """Add a node and return its output, which gets a new name unless one is given."""
        name = f"lowered_{len(self._nodes)}_{operator.lower()}"
        output = output or name
        self.append(helper.make_node(operator, inputs, [output], name, **attributes))
        return output

    def quantize(self, operator: str, tensor: str, scale: float, output: str = "") -> str:
        """Add a QuantizeLinear to int8, or a DequantizeLinear from it."""
        constants = [self.constant(np.float32(scale)), self.constant(np.int8(0))]
        return self.node(operator, [tensor, *constants], output)

    def append(self, node: onnx.NodeProto) -> None:
        """Add a node."""
        self._nodes.append(node)
        self.producers.update(dict.fromkeys(node.output, node))

    def rename(self, old: str, new: str) -> None:
        """Give a tensor of the new nodes another name."""
        for node in self._nodes:
            node.input[:] = [new if name == old else name for name in node.input]
            node.output[:] = [new if name == old else name for name in node.output]

    def replace(self) -> None:
        """Put the new nodes, and what constants they use, in place of the old; drop the unused."""
        needed, kept = set(self.results), []
        for node in reversed(self._nodes):
            if needed.intersection(node.output):
                kept.append(node)
                needed.update(node.input)
        constants = [
            numpy_helper.from_array(values, name)
            for name, values in self.constants.items()
            if name in needed
        ]
        for field in (self._graph.node, self._graph.initializer, self._graph.value_info):
            del field[:]
        self._graph.node.extend(reversed(kept))
        self._graph.initializer.extend(constants)


def constants_of(graph: onnx.GraphProto) -> dict[str, NDArray[Any]]:
    """Return the constants of a graph by name, initializers and nodes alike."""
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        values = [a.t for a in node.attribute if a.name == "value"]
        if node.op_type == "Constant" and values:
            found[node.output[0]] = numpy_helper.to_array(values[0])
    return found


def activation_scale(node: onnx.NodeProto, constants: dict[str, NDArray[Any]]) -> float:
    """Return the one scale of a node that quantizes or dequantizes activations.

    Raises
    ------
    EngineError
        If it has several, none that is constant, or a zero point other than 0.
    """
    scale = constants.get(node.input[1])
    zero = constants.get(node.input[2]) if len(node.input) > 2 else np.uint8(0)
    if scale is None or scale.size != 1 or zero is None or np.any(zero):
        raise EngineError(
            f"{node.op_type} {node.name}: uint8 activations need one constant scale and zero "
            "point 0; quantize to symmetric int8 otherwise"
        )
    return float(scale.reshape(()))
