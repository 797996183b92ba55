"""Float16 versions of float networks, for engines that are typed as their ONNX is written.

TensorRT 11 knows no FP16 flag any more: the types in the file are the types that run. The cast
itself is ONNX Runtime's `convert_float_to_float16`. Around it stand what it leaves open: constants
that float16 cannot hold keep the nodes that read them in float32, two neighbors in float32 do not
round what passes between them, and the result is in order, without duplicates, and checked.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from graphlib import TopologicalSorter

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge_codec.errors import EngineError
from edge_codec.export.custom_ops import DOMAIN, NODES

log = logging.getLogger(__name__)

LARGEST = float(np.finfo(np.float16).max)
SMALLEST_NORMAL = float(np.finfo(np.float16).tiny)

TO_FLOAT32, TO_FLOAT16 = "_cast_to_fp32_node", "_cast_to_fp16_node"
"""How ONNX Runtime's converter ends the names of the casts around a node left in float32."""


def to_float16(model: onnx.ModelProto, keep: Collection[str] = ()) -> onnx.ModelProto:
    """Cast a float32 network to float16.

    Parameters
    ----------
    model : onnx.ModelProto
        Left as it is. Function bodies stay as they are, too: those of `custom_ops` say themselves
        in what type they compute.
    keep : collection of str
        Names of nodes that stay in float32. Nodes that read a constant beyond 65,504 or one whose
        every value is below 2**-14, where float16 loses digits, are added to them.

    Returns
    -------
    onnx.ModelProto
        Inputs and outputs keep their types.

    Raises
    ------
    EngineError
        If there is no node of a name in `keep`, or the network is quantized: its sums need more
        than the 11 bits of float16.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    names = {node.name for node in model.graph.node}
    unknown = sorted(set(keep) - names)
    if unknown:
        raise EngineError(f"no node is named {unknown[0]}; names are like {min(names, default='')}")
    if any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in model.graph.node):
        raise EngineError("the network is quantized; cast the float network it was made from")
    _require_unique_names(model)
    kept = set(keep) | _unfit(model.graph)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    detached = _detach_float32_inputs(copy.graph)
    converted: onnx.ModelProto = convert_float_to_float16(
        copy, keep_io_types=True, node_block_list=sorted(kept), op_block_list=[]
    )
    graph = converted.graph
    _attach(graph, detached)
    _remove_duplicates(graph)
    _join_neighbors(graph)
    _sort(graph)
    # Types of inner tensors have changed; what follows infers them anew, strictly.
    del graph.value_info[:]
    onnx.checker.check_model(converted, full_check=True)
    return converted


def _require_unique_names(model: onnx.ModelProto) -> None:
    names = [node.name for node in model.graph.node]
    if "" in names or len(set(names)) != len(names):
        raise EngineError("two nodes have the same name or none; give every node one of its own")


def _constants(graph: onnx.GraphProto) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield every float32 constant with the name of its tensor."""
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            yield tensor.name, numpy_helper.to_array(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t") and attribute.t.data_type == TensorProto.FLOAT:
                yield node.output[0], numpy_helper.to_array(attribute.t)


def _unfit(graph: onnx.GraphProto) -> set[str]:
    """Names of the nodes that make or read a constant that float16 cannot hold."""
    tensors = {name for name, values in _constants(graph) if not _fits(values)}
    nodes = [n for n in graph.node if tensors.intersection((*n.input, *n.output))]
    for node in nodes:
        log.warning("%s stays in float32: float16 cannot hold its constant", node.name)
    return {node.name for node in nodes}


def _fits(values: NDArray[np.float32]) -> bool:
    magnitudes = np.abs(values[np.isfinite(values)])
    largest = float(magnitudes.max(initial=0.0))
    # Small values beside large ones lose nothing that counts; a tensor of nothing but small ones
    # (an epsilon, a scale) loses its digits.
    return largest <= LARGEST and (largest == 0.0 or largest >= SMALLEST_NORMAL)


def _detach_float32_inputs(graph: onnx.GraphProto) -> dict[tuple[str, int], str]:
    """Hide from the converter what our nodes read in float32; return (node, position) -> name."""
    hidden = {}
    for node in graph.node:
        if node.domain == DOMAIN and node.op_type in NODES:
            for position in NODES[node.op_type].float32_inputs:
                hidden[node.name, position] = node.input[position]
                node.input[position] = ""
    return hidden


def _attach(graph: onnx.GraphProto, hidden: dict[tuple[str, int], str]) -> None:
    """Give the nodes their float32 inputs back: constants as they were, the rest cast."""
    float32 = {t.name for t in graph.initializer if t.data_type == TensorProto.FLOAT}
    nodes = {node.name: node for node in graph.node}
    for (name, position), source in hidden.items():
        target = source
        if source not in float32:
            target = f"{source}_cast_to_fp32"
            cast = helper.make_node(
                "Cast", [source], [target], name=f"{source}{TO_FLOAT32}", to=TensorProto.FLOAT
            )
            graph.node.append(cast)
        nodes[name].input[position] = target


def _remove_duplicates(graph: onnx.GraphProto) -> None:
    """Keep the first of casts that the converter wrote once for every reader."""
    seen: set[str] = set()
    for node in list(graph.node):
        if node.name in seen and node.name.endswith((TO_FLOAT32, TO_FLOAT16)):
            graph.node.remove(node)
        seen.add(node.name)


def _join_neighbors(graph: onnx.GraphProto) -> None:
    """Let a float32 node read its float32 neighbor without rounding to float16 between them."""
    rounded = {n.output[0]: n.input[0] for n in graph.node if n.name.endswith(TO_FLOAT16)}
    exact = {
        n.output[0]: rounded[n.input[0]]
        for n in graph.node
        if n.name.endswith(TO_FLOAT32) and n.input[0] in rounded
    }
    for node in graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = exact.get(name, name)
    used = {name for node in graph.node for name in node.input} | {v.name for v in graph.output}
    for node in list(graph.node):
        is_cast = node.name.endswith((TO_FLOAT32, TO_FLOAT16))
        if is_cast and node.output[0] not in used:
            graph.node.remove(node)


def _sort(graph: onnx.GraphProto) -> None:
    """Put every node after those that it reads: the converter appends its casts at the end."""
    nodes = list(graph.node)
    maker = {name: index for index, node in enumerate(nodes) for name in node.output}
    reads = {
        index: [maker[name] for name in node.input if name in maker]
        for index, node in enumerate(nodes)
    }
    order = list(TopologicalSorter(reads).static_order())
    del graph.node[:]
    graph.node.extend(nodes[index] for index in order)
