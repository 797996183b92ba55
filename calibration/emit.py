"""Writes the quantized network: the float graph with Q/DQ around int8, and Casts around fp16.

Inputs and outputs keep their names and types. A quantized tensor is rounded where it is made, so
that a backend can fuse the rounding with the layer before; behind operators that move values it is
rounded once more, which changes nothing and lets a backend move integers. Weights are int8 with a
scale per channel, biases are float constants (exact multiples of the sum's unit), since TensorRT
refuses integer ones. Float layers and outputs read the tensor before the rounding.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge_codec.calibration.attention import attention_groups
from edge_codec.calibration.borders import LIMITS
from edge_codec.calibration.network import (
    Layer,
    Network,
    channel_axis,
    channels_first,
)
from edge_codec.calibration.onnx_file import Node
from edge_codec.calibration.plan import integer_layer
from edge_codec.calibration.power_of_two import IntegerConv, quantize_array
from edge_codec.calibration.table import Precision, Table, TensorScale
from edge_codec.errors import CalibrationError

HALF_MAX = 65504.0
"""Largest finite number of fp16."""


def emit(network: Network, table: Table) -> bytes:
    """Return the quantized network as an ONNX file.

    Parameters
    ----------
    network : Network
        The float network, equalized as the table says (`equalize.equalized`).
    table : Table
        All choices.

    Raises
    ------
    CalibrationError
        If the table does not fit the network.
    """
    names = {layer.name for layer in network.layers}
    if names != table.layers.keys():
        odd = ", ".join(sorted(names ^ table.layers.keys()))[:200]
        raise CalibrationError(f"the table is of other layers than the network's: {odd}")
    proto = _Emitter(network, table).run()
    onnx.checker.check_model(proto, full_check=not proto.functions)
    data: bytes = proto.SerializeToString()
    return data


class _Emitter:
    """Copies the graph node by node; knows under which name each tensor is to be read."""

    def __init__(self, network: Network, table: Table) -> None:
        self._network = network
        self._table = table
        self._constants = dict(network.constants)
        self._taken = {*network.inputs, *network.constants, *network.producer}
        self._nodes: list[Node] = []
        self._rounded: dict[str, str] = {}  # tensor -> its rounded twin
        self._halves: dict[str, str] = {}  # tensor -> its fp16 twin
        self._layers: dict[str, Layer] = {}  # by the node of the product, and of the bias
        for layer in network.layers:
            self._layers[layer.node.name] = layer
            if layer.adder is not None:
                self._layers[layer.adder.name] = layer
        self._half, self._raw = self._float_nodes()
        self._needed = self._needed_roundings()
        self._roundings = {item.output: item for item in network.roundings}

    def run(self) -> Any:
        """Emit every node, and keep what the outputs need."""
        for name in (*self._network.inputs, *self._table.tensors):
            if name in self._network.inputs or name in self._network.constants:
                self._round(name)
        for node in self._network.nodes:
            self._emit(node)
            for name in node.output:
                self._round(name)
        return self._model()

    def _float_nodes(self) -> tuple[set[str], set[str]]:
        """Names of the nodes in fp16, and of others that read tensors before the rounding."""
        half: set[str] = set()
        raw: set[str] = set()
        for layer in self._network.layers:
            precision = self._table.layers[layer.name].precision
            if precision is Precision.FP16:
                half |= {node.name for node in self._parts(layer)}
            elif precision is Precision.FP32:
                raw.add(layer.node.name)
        for softmax, group in attention_groups(self._network).items():
            chosen = half if self._table.attention.get(softmax) is Precision.FP16 else raw
            chosen |= group
        return half, raw

    def _needed_roundings(self) -> set[str]:
        """Tensors that int8 layers come from, or the network's own roundings."""
        layers = self._table.layers.values()
        needed = {layer.source for layer in layers if layer.precision is Precision.INT8}
        needed |= {self._network.root(item.source) for item in self._network.roundings}
        return needed - self._network.exact.keys()

    def _parts(self, layer: Layer) -> list[Node]:
        """Nodes of a layer: product, bias and activation."""
        parts = [layer.node]
        if layer.adder is not None:
            parts.append(layer.adder)
        if layer.activation:
            parts.append(self._network.producer[layer.output])
        return parts

    def _emit(self, node: Node) -> None:
        output = node.output[0] if node.output else ""
        layer = self._layers.get(node.name)
        if output in self._roundings:
            rounding = self._roundings[output]
            source = self._rounded.get(rounding.source, rounding.source)
            self._quantize(source, rounding.exponent, rounding.dtype, output)
        elif output in self._network.exact:
            exact = self._network.exact[output]
            self._dequantize(exact.integers, exact.exponent, exact.dtype, output)
        elif node.name in self._half:
            self._emit_half(node)
        elif layer is None or self._table.layers[layer.name].precision is not Precision.INT8:
            self._copy(node)
        elif layer.adder is not None and node.name == layer.adder.name:
            bias = self._bias(layer, self._integer(layer))
            self._copy(node, {name: bias for name in node.input if name in self._constants})
        else:
            self._emit_integer(node, layer)

    def _copy(self, node: Node, inputs: Mapping[str, str] | None = None) -> Node:
        """Emit a node that reads the rounded twins, or what `inputs` says by tensor name."""
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        for index, name in enumerate(node.input):
            read = name if node.name in self._raw else self._rounded.get(name, name)
            copy.input[index] = (inputs or {}).get(name, read)
        _tidy(copy)
        self._nodes.append(copy)
        return copy

    def _emit_half(self, node: Node) -> None:
        """Emit a node in fp16, with its outputs cast back for whoever needs them."""
        copy = self._copy(node, {name: self._as_half(name) for name in node.input})
        for index, name in enumerate(node.output):
            if self._network.types.get(name) == TensorProto.FLOAT:
                copy.output[index] = self._halves[name] = self._free(f"{name}.half")
                self._node("Cast", copy.output[index], output=name, to=TensorProto.FLOAT)

    def _as_half(self, name: str) -> str:
        """Return the fp16 twin of a float tensor, made where there is none; others as they are."""
        if name in self._halves:
            return self._halves[name]
        value = self._constants.get(name)
        if value is not None and value.dtype == np.float32:
            limited = np.where(np.isfinite(value), np.clip(value, -HALF_MAX, HALF_MAX), value)
            self._halves[name] = self._constant(limited.astype(np.float16), f"{name}.half")
        elif value is None and self._network.types.get(name) == TensorProto.FLOAT:
            self._halves[name] = self._node("Cast", name, to=TensorProto.FLOAT16)
        return self._halves.get(name, name)

    def _integer(self, layer: Layer) -> IntegerConv:
        return integer_layer(layer, self._table.layers[layer.name], self._table.tensors)

    def _bias(self, layer: Layer, integer: IntegerConv) -> str:
        unit = np.exp2((integer.input_exponent + integer.weight_exponents).astype(np.float64))
        return self._constant((integer.bias * unit).astype(np.float32), f"{layer.name}.bias")

    def _emit_integer(self, node: Node, layer: Layer) -> None:
        """Emit a layer that multiplies integers."""
        integer = self._integer(layer)
        exponents = integer.weight_exponents
        weight = self._node(
            "DequantizeLinear",
            self._constant(channels_first(node, integer.weight), f"{layer.name}.weight"),
            self._constant(np.exp2(exponents).astype(np.float32), f"{layer.name}.scale"),
            self._constant(np.zeros(len(exponents), np.int8), f"{layer.name}.zero"),
            axis=channel_axis(node),
        )
        source = self._layer_input(layer)
        copy = self._copy(node, {node.input[0]: source, node.input[1]: weight})
        if node.op_type != "MatMul":
            del copy.input[2:]
            copy.input.append(self._bias(layer, integer))
        elif layer.adder is None and integer.bias.any():
            copy.output[0] = self._free(f"{layer.name}.products")
            bias = self._bias(layer, integer)
            self._node("Add", copy.output[0], bias, output=node.output[0])

    def _layer_input(self, layer: Layer) -> str:
        """Return the rounded input of an int8 layer, rounded once more behind moves."""
        read = self._rounded.get(layer.source, layer.source)
        if layer.source in self._rounded or layer.source in self._network.exact:
            return read
        scale = self._table.tensors[self._table.layers[layer.name].source]
        return self._round_trip(read, scale)

    def _round(self, name: str) -> None:
        """Make the rounded twin of a tensor that has a scale."""
        scale = self._table.tensors.get(name)
        if scale is None or name not in self._needed or name in self._rounded:
            return
        if name not in self._network.constants:
            self._rounded[name] = self._round_trip(name, scale)
            return
        values = quantize_array(self._constants[name], scale.exponent, *LIMITS[scale.dtype])
        integers = self._constant(values.astype(scale.dtype), f"{name}.integers")
        self._rounded[name] = self._dequantize(integers, scale.exponent, scale.dtype)

    def _round_trip(self, name: str, scale: TensorScale) -> str:
        integers = self._quantize(name, scale.exponent, scale.dtype)
        return self._dequantize(integers, scale.exponent, scale.dtype)

    def _quantize(self, name: str, exponent: int, dtype: str, output: str = "") -> str:
        return self._node("QuantizeLinear", name, *self._scale(exponent, dtype), output=output)

    def _dequantize(self, name: str, exponent: int, dtype: str, output: str = "") -> str:
        return self._node("DequantizeLinear", name, *self._scale(exponent, dtype), output=output)

    def _scale(self, exponent: int, dtype: str) -> tuple[str, str]:
        """Constants of a scale and its zero point, shared by all that use them."""
        step, zero = f"edge_codec.scale.{exponent}", f"edge_codec.zero.{dtype}"
        self._constants[step] = np.array(2.0**exponent, np.float32)
        self._constants[zero] = np.zeros((), dtype)
        return step, zero

    def _constant(self, value: NDArray[Any], name: str) -> str:
        name = self._free(name)
        self._constants[name] = np.ascontiguousarray(value)
        return name

    def _node(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        output = output or self._free(f"{inputs[0]}.{operator}")
        name = self._free(f"{output}.made")
        self._nodes.append(helper.make_node(operator, inputs, [output], name=name, **attributes))
        return output

    def _free(self, wanted: str) -> str:
        """Return a name that nothing else has."""
        name, number = wanted, 1
        while name in self._taken:
            number += 1
            name = f"{wanted}.{number}"
        self._taken.add(name)
        return name

    def _model(self) -> Any:
        proto = onnx.ModelProto()
        proto.CopyFrom(self._network.proto)
        proto.producer_name = "edge-codec"
        graph = proto.graph
        inputs = [item for item in graph.input if item.name in self._network.inputs]
        nodes = needed_nodes(self._nodes, self._network.outputs)
        used = {name for node in nodes for name in node.input} | set(self._network.outputs)
        constants = [
            numpy_helper.from_array(value, name)
            for name, value in self._constants.items()
            if name in used
        ]
        for part in (graph.input, graph.node, graph.initializer, graph.value_info):
            del part[:]
        graph.input.extend(inputs)
        graph.node.extend(nodes)
        graph.initializer.extend(constants)
        return proto


def needed_nodes(nodes: Sequence[Node], outputs: Iterable[str]) -> list[Node]:
    """Return the nodes that some outputs depend on, in their order."""
    wanted = set(outputs)
    kept = []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(node.input)
    return kept[::-1]


def _tidy(node: Node) -> None:
    """Drop attributes at their default, which exporters write and few readers expect."""
    kept = [item for item in node.attribute if not _is_default(item)]
    del node.attribute[:]
    node.attribute.extend(kept)


def _is_default(item: Any) -> bool:
    if item.name == "dilations":
        return set(item.ints) <= {1}
    if item.name == "auto_pad":
        return bool(item.s == b"NOTSET")
    return item.name in ("group", "allowzero") and item.i == (item.name == "group")
