"""Custom ONNX nodes of our kernels, each with a body of standard operators in the same file.

A torch custom op of `edge_codec.kernels.dispatch` becomes a node of the domain `edge_codec`, and
the model gets a local function of that name. So one file serves all: ONNX Runtime and TensorRT-RTX
run the body as it is, OpenVINO after `inline_functions` (its reader knows no local functions), and
TensorRT takes the Triton kernel as a plugin. TensorRT 10 prefers a body to a plugin, so
`strip_functions` takes the bodies away for it.

A body computes where the kernel does in float32, whatever comes in: a network cast to float16
keeps its tokens and its softmax. The lowest index wins a tie, as in the kernel.

The functions are added after the export: the exporter inlines those that it sees.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import onnx
import onnx.inliner
from onnx import NodeProto, TensorProto, helper

from edge_codec.errors import EngineError

DOMAIN = "edge_codec"
VERSION = 1

PLUGIN_ATTRIBUTES: Mapping[str, str | int] = {
    "plugin_namespace": DOMAIN,
    "plugin_version": str(VERSION),
    "aot": 1,
}
"""How TensorRT's parser finds the plugin of a node and its compiled kernel; bodies ignore them."""

FLOATS = ("tensor(float)", "tensor(float16)")


@dataclass(frozen=True, slots=True)
class CustomNode:
    """A node of our domain.

    Attributes
    ----------
    name : str
    inputs, outputs : mapping of str to str
        Type of each, in order: 'T' for float32 or float16, the same for all, or ONNX's name.
    body : callable
        Gives the nodes of the function body; they read the inputs and write the outputs by name.
    float32_inputs : tuple of int
        Positions of inputs that stay in float32 when the network is cast to float16.
    """

    name: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    body: Callable[[], list[NodeProto]]
    float32_inputs: tuple[int, ...] = ()


def _constant(name: str, value: float | int | list[int]) -> NodeProto:
    kind = TensorProto.FLOAT if isinstance(value, float) else TensorProto.INT64
    shape = [len(value)] if isinstance(value, list) else []
    data = value if isinstance(value, list) else [value]
    return helper.make_node(
        "Constant", [], [name], value=helper.make_tensor(name, kind, shape, data)
    )


def _lookup_body() -> list[NodeProto]:
    """Argmin over codes k of norms[k] - x . c[k], the lowest index in a tie."""
    return [
        helper.make_node("Cast", ["latents"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["codes"], ["c"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["c"], ["columns"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "columns"], ["products"]),
        helper.make_node("Sub", ["norms", "products"], ["scores"]),
        helper.make_node("ArgMin", ["scores"], ["index"], axis=-1, keepdims=0, select_last_index=0),
        helper.make_node("Cast", ["index"], ["tokens"], to=TensorProto.INT32),
    ]


def _scores() -> list[NodeProto]:
    """Products of queries and keys over the root of the head's size, as float32."""
    return [
        helper.make_node("Shape", ["query"], ["size"], start=-1),
        helper.make_node("CastLike", ["size", "query"], ["width"]),
        helper.make_node("Sqrt", ["width"], ["root"]),
        helper.make_node("Div", ["query", "root"], ["scaled"]),
        helper.make_node("Transpose", ["key"], ["columns"], perm=[0, 1, 3, 2]),
        helper.make_node("MatMul", ["scaled", "columns"], ["products"]),
        helper.make_node("Cast", ["products"], ["scores"], to=TensorProto.FLOAT),
    ]


def _weighted_mean() -> list[NodeProto]:
    """Mean of the values by weights in float32, in the type of the values."""
    return [
        helper.make_node("CastLike", ["exact", "value"], ["weights"]),
        helper.make_node("MatMul", ["weights", "value"], ["output"]),
    ]


def _attention_body() -> list[NodeProto]:
    softmax = helper.make_node("Softmax", ["scores"], ["exact"], axis=-1)
    return [*_scores(), softmax, *_weighted_mean()]


def _masked_attention_body() -> list[NodeProto]:
    """Attention to the keys whose mask is true; zero without any such key."""
    return [
        *_scores(),
        _constant("axes", [1, 2]),
        _constant("never", -1e30),
        _constant("nothing", 0.0),
        helper.make_node("Unsqueeze", ["mask", "axes"], ["visible"]),
        helper.make_node("Where", ["visible", "scores", "never"], ["masked"]),
        helper.make_node("Softmax", ["masked"], ["shares"], axis=-1),
        helper.make_node("Where", ["visible", "shares", "nothing"], ["exact"]),
        *_weighted_mean(),
    ]


CODEBOOK_LOOKUP = CustomNode(
    "CodebookLookup",
    {"latents": "T", "codes": "T", "norms": "tensor(float)"},
    {"tokens": "tensor(int32)"},
    _lookup_body,
    float32_inputs=(2,),
)
# Not "Attention": TensorRT-RTX 1.7 takes a node of that type for ONNX's own, whatever its domain.
ATTENTION = CustomNode(
    "ShortAttention", {"query": "T", "key": "T", "value": "T"}, {"output": "T"}, _attention_body
)
MASKED_ATTENTION = CustomNode(
    "MaskedShortAttention",
    {"query": "T", "key": "T", "value": "T", "mask": "tensor(bool)"},
    {"output": "T"},
    _masked_attention_body,
)
NODES = {node.name: node for node in (CODEBOOK_LOOKUP, ATTENTION, MASKED_ATTENTION)}


def translations() -> dict[Any, Callable[..., Any]]:
    """Return what `torch.onnx.export(custom_translation_table=...)` needs for our custom ops."""
    import torch  # the rest of this module is for machines without it, too

    from edge_codec.kernels import dispatch  # noqa: F401 (registers the ops)

    lookup = _operator(CODEBOOK_LOOKUP)
    attention, masked_attention = _operator(ATTENTION), _operator(MASKED_ATTENTION)

    def translate_lookup(latents: Any, codes: Any, norms: Any = None) -> Any:
        if norms is None:
            raise EngineError("codebook_lookup without norms has no ONNX node; pass zeros")
        return lookup(latents, codes, norms, **PLUGIN_ATTRIBUTES)

    def translate_attention(query: Any, key: Any, value: Any, mask: Any = None) -> Any:
        if mask is None:
            return attention(query, key, value, **PLUGIN_ATTRIBUTES)
        return masked_attention(query, key, value, mask, **PLUGIN_ATTRIBUTES)

    return {
        torch.ops.edge_codec.codebook_lookup.default: translate_lookup,
        torch.ops.edge_codec.attention.default: translate_attention,
    }


def _operator(node: CustomNode) -> Any:
    """Return an operator that the exporter can call."""
    from onnxscript import values  # slow to import, and only exporting needs it

    schema = onnx.defs.OpSchema
    kinds = {str: schema.AttrType.STRING, int: schema.AttrType.INT}
    definition = schema(
        node.name,
        DOMAIN,
        VERSION,
        inputs=[schema.FormalParameter(*item) for item in node.inputs.items()],
        outputs=[schema.FormalParameter(*item) for item in node.outputs.items()],
        type_constraints=[("T", list(FLOATS), "")],
        attributes=[
            schema.Attribute(name, kinds[type(value)]) for name, value in PLUGIN_ATTRIBUTES.items()
        ],
    )
    return values.Op(values.Opset(DOMAIN, VERSION), node.name, definition)


def add_functions(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model whose custom nodes all have their bodies.

    Raises
    ------
    EngineError
        If a node of our domain is unknown.
    """
    used = sorted({node.op_type for node in model.graph.node if node.domain == DOMAIN})
    unknown = [name for name in used if name not in NODES]
    if unknown:
        raise EngineError(f"no body for the node {DOMAIN}::{unknown[0]}; known are {sorted(NODES)}")
    copy = strip_functions(model)
    opsets = [opset for opset in copy.opset_import if opset.domain in ("", "ai.onnx")]
    for name in used:
        node = NODES[name]
        function = helper.make_function(
            DOMAIN,
            name,
            list(node.inputs),
            list(node.outputs),
            node.body(),
            opsets,
            attributes=list(PLUGIN_ATTRIBUTES),
        )
        copy.functions.append(function)
    if used and DOMAIN not in {opset.domain for opset in copy.opset_import}:
        copy.opset_import.append(helper.make_opsetid(DOMAIN, VERSION))
    return copy


def strip_functions(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model whose custom nodes have no bodies: for TensorRT with our plugins."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    others = [function for function in copy.functions if function.domain != DOMAIN]
    del copy.functions[:]
    copy.functions.extend(others)
    return copy


def inline_functions(model: bytes) -> bytes:
    """Replace the custom nodes of an ONNX file by their bodies: for OpenVINO.

    A file without local functions is returned as it is.
    """
    proto = onnx.load_model_from_string(model)
    if not proto.functions:
        return model
    data: bytes = onnx.inliner.inline_local_functions(proto).SerializeToString()
    return data
