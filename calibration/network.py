"""A float ONNX network as calibration sees it: its layers, and the tensors between them.

A layer is a Conv, ConvTranspose, Gemm or MatMul with constant weights, with the bias and the
activation behind it. Everything else is kept as it is. Operators that only move values (Reshape,
Transpose, Slice, ...) have no scale of their own: a tensor's `root` is where its values come from
through such operators, and scales belong to roots.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edge_codec.calibration.borders import (
    SIGNED,
    UNSIGNED,
    Exact,
    Rounding,
    clip_bounds,
    find_exact,
    find_roundings,
)
from edge_codec.calibration.onnx_file import (
    Node,
    attributes,
    element_types,
    read_constants,
    read_model,
)
from edge_codec.errors import CalibrationError

MOVES = frozenset((
    "DepthToSpace", "Expand", "Flatten", "Gather", "Identity", "MaxPool", "Reshape", "Slice",
    "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze",
))  # fmt: skip
"""Operators whose output holds values of their first input and nothing else."""

LAYERS = frozenset(("Conv", "ConvTranspose", "Gemm", "MatMul"))
NONNEGATIVE = frozenset(("Abs", "Exp", "Relu", "Sigmoid", "Softmax", "Sqrt"))


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One layer.

    Attributes
    ----------
    name : str
        The module's name in torch where the weight's name tells it, else the node's.
    node : NodeProto
        The operator that multiplies.
    source : str
        Tensor that it reads.
    weight : ndarray, float32
        Output channels first: (outputs, inputs, ...).
    bias : ndarray, shape (outputs,), float32
        Zeros where the layer has none.
    sums : str
        Tensor of the sums, bias included.
    output : str
        Tensor behind the activation; `sums` where there is none.
    activation : str
        Operator of the activation, empty where there is none.
    adder : NodeProto or None
        The Add that holds the bias of a MatMul.
    """

    name: str
    node: Node
    source: str
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    sums: str
    output: str
    activation: str
    adder: Node | None


class Network:
    """A parsed network; the file it was read from stays as it is.

    Parameters
    ----------
    model : bytes
        ONNX file with its weights inside.
    unsigned : bool
        Whether activations may be uint8. Where they may not, 8-bit inputs and outputs of the
        network are like any other tensors.

    Attributes
    ----------
    proto : onnx.ModelProto
        A copy with a name for every node.
    constants : dict of str to ndarray
    layers : tuple of Layer
        In the order of execution.
    exact : dict of str to Exact
        Float tensors that are integers times a power of two from the start.
    roundings : tuple of Rounding
    inputs, outputs : tuple of str

    Raises
    ------
    CalibrationError
        If it is no valid ONNX file, is too old, branches, or lacks its weights.
    """

    def __init__(self, model: bytes, unsigned: bool = True) -> None:
        self.unsigned = unsigned
        self.proto = read_model(model)
        graph = self.proto.graph
        self.constants = read_constants(self.proto)
        self.nodes: list[Node] = [node for node in graph.node if node.op_type != "Constant"]
        self.inputs = tuple(i.name for i in graph.input if i.name not in self.constants)
        self.outputs = tuple(item.name for item in graph.output)
        self.types = element_types(self.proto)
        self.producer = {name: node for node in self.nodes for name in node.output if name}
        self.consumers: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.input):
                self.consumers.setdefault(name, []).append(node)
        self.layers = self._find_layers()
        self.exact: dict[str, Exact] = find_exact(self) if unsigned else {}
        self.roundings: tuple[Rounding, ...] = find_roundings(self) if unsigned else ()

    def root(self, tensor: str) -> str:
        """Return the tensor whose values `tensor` holds, through operators that move values."""
        while (node := self.producer.get(tensor)) is not None and node.op_type in MOVES:
            tensor = node.input[0]
        return tensor

    def dtype(self, tensor: str) -> str:
        """Return `uint8` for a tensor that cannot be negative and may be unsigned, else `int8`."""
        if not self.unsigned:
            return SIGNED
        root = self.root(tensor)
        if root in self.exact:
            return self.exact[root].dtype
        if root in self.constants:
            return UNSIGNED if (self.constants[root] >= 0).all() else SIGNED
        node = self.producer.get(root)
        if node is None:
            return SIGNED
        clipped = node.op_type == "Clip" and clip_bounds(self, node)[0] >= 0
        return UNSIGNED if clipped or node.op_type in NONNEGATIVE else SIGNED

    def only_consumer(self, tensor: str) -> Node | None:
        """Return the node that reads a tensor, None if there are several, or it is an output."""
        found = self.consumers.get(tensor, [])
        return found[0] if len(found) == 1 and tensor not in self.outputs else None

    def scalar(self, name: str) -> float | None:
        """Return a constant of one element, None for anything else."""
        value = self.constants.get(name)
        return None if value is None or value.size != 1 else float(value.reshape(-1)[0])

    def with_constants(self, changed: Mapping[str, NDArray[Any]]) -> Network:
        """Return the network with other values for some constants."""
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        for item in proto.graph.initializer:
            if item.name in changed:
                item.CopyFrom(numpy_helper.from_array(changed[item.name], item.name))
        for node in proto.graph.node:
            if node.op_type == "Constant" and node.output[0] in changed:
                value = numpy_helper.from_array(changed[node.output[0]])
                del node.attribute[:]
                node.attribute.append(helper.make_attribute("value", value))
        return Network(proto.SerializeToString(), self.unsigned)

    def _find_layers(self) -> tuple[Layer, ...]:
        layers: list[Layer] = []
        names: set[str] = set()
        for node in self.nodes:
            if node.op_type in LAYERS and self._is_layer(node):
                layer = self._layer(node, names)
                names.add(layer.name)
                layers.append(layer)
        return tuple(layers)

    def _is_layer(self, node: Node) -> bool:
        """Whether weights and bias are constant and of a kind that is understood here."""
        weight = self.constants.get(node.input[1])
        if weight is None or weight.dtype != np.float32 or node.input[0] in self.constants:
            return False
        if len(node.input) > 2 and node.input[2] and node.input[2] not in self.constants:
            return False
        values = attributes(node)
        if node.op_type == "MatMul":
            return weight.ndim == 2
        if node.op_type == "Gemm":
            plain = values.get("alpha", 1.0) == values.get("beta", 1.0) == 1.0
            return bool(plain) and not values.get("transA", 0)
        return bool(node.op_type == "Conv" or values.get("group", 1) == 1)

    def _layer(self, node: Node, taken: set[str]) -> Layer:
        weight = channels_first(node, self.constants[node.input[1]])
        outputs = len(weight)
        sums, adder = node.output[0], None
        bias = np.zeros(outputs, np.float32)
        if len(node.input) > 2 and node.input[2]:
            bias = _bias(node.name, self.constants[node.input[2]], outputs)
        elif node.op_type == "MatMul" and (found := self._adder(sums, outputs)) is not None:
            # Behind a Conv, a vector would be added along the rows, not the channels.
            adder, bias = found
            sums = adder.output[0]
        output, activation = sums, ""
        after = self.only_consumer(sums)
        if after is not None and after.op_type in ("Relu", "Clip"):
            output, activation = after.output[0], after.op_type
        name = _layer_name(node, node.input[1])
        if name in taken:
            name = node.name
        return Layer(name, node, node.input[0], weight, bias, sums, output, activation, adder)

    def _adder(self, sums: str, outputs: int) -> tuple[Node, NDArray[np.float32]] | None:
        """Find the Add behind a MatMul whose other operand is a bias of constants."""
        node = self.only_consumer(sums)
        if node is None or node.op_type != "Add":
            return None
        other = next((name for name in node.input if name != sums), "")
        value = self.constants.get(other)
        if value is None or value.shape != (outputs,) or value.dtype != np.float32:
            return None
        return node, value


def channel_axis(node: Node) -> int:
    """Axis of the output channels in a layer's weight as the file stores it."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm":
        return 0 if attributes(node).get("transB", 0) else 1
    return 1


def output_axis(node: Node) -> int:
    """Axis of the channels in a layer's output: 1, or the last of a MatMul's."""
    return -1 if node.op_type == "MatMul" else 1


def channels_first(node: Node, weight: NDArray[Any]) -> NDArray[Any]:
    """Return a layer's weight with its output channels first; its own inverse."""
    axis = channel_axis(node)
    return weight if axis == 0 else np.swapaxes(weight, 0, 1)


def _bias(name: str, bias: NDArray[Any], outputs: int) -> NDArray[np.float32]:
    flat = np.broadcast_to(bias, (outputs,)) if bias.size == 1 else bias.reshape(-1)
    if flat.shape != (outputs,):
        raise CalibrationError(f"{name}: a bias of shape {bias.shape} for {outputs} channels")
    return flat.astype(np.float32)


def _layer_name(node: Node, weight: str) -> str:
    """Name of the torch module that a weight belongs to: `a.0.conv.weight` is of `a.0`."""
    if not weight.endswith(".weight"):
        return str(node.name)
    return weight.removesuffix(".weight").removesuffix(".conv")
