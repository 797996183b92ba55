"""Reading of ONNX files: what is checked before anything is believed, and small helpers."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge_codec.errors import CalibrationError

MIN_OPSET = 13
"""From here on a DequantizeLinear may have a scale per channel."""

Node = Any
"""onnx.NodeProto, of a package without types."""


def read_model(model: bytes) -> Any:
    """Parse an ONNX file and give every node a name of its own.

    Raises
    ------
    CalibrationError
        If it is no valid ONNX file, is too old, branches, or lacks its weights.
    """
    proto = _parse(model)
    seen: set[str] = set()
    for index, node in enumerate(proto.graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.op_type}_{index}"
        seen.add(node.name)
        if any(a.type in (a.GRAPH, a.GRAPHS) for a in node.attribute):
            raise CalibrationError(
                f"{node.name} ({node.op_type}) branches or loops; export the network with "
                "torch.export, which leaves one way through it"
            )
    return proto


def read_constants(proto: Any) -> dict[str, NDArray[Any]]:
    """Return initializers and the outputs of Constant nodes by name."""
    constants = {item.name: numpy_helper.to_array(item) for item in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type == "Constant":
            constants[node.output[0]] = _constant(node)
    return constants


def _parse(model: bytes) -> Any:
    try:
        proto = onnx.load_model_from_string(model)
        onnx.checker.check_model(proto)
    except Exception as error:  # protobuf's and the checker's errors have no common base
        first = str(error).strip().split("\n")[0]
        raise CalibrationError(f"the model is no valid ONNX file: {first}") from error
    versions = [item.version for item in proto.opset_import if item.domain in ("", "ai.onnx")]
    if not versions or max(versions) < MIN_OPSET:
        raise CalibrationError(
            f"the model has opset {versions}; export it with opset {MIN_OPSET} or later"
        )
    for item in proto.graph.initializer:
        if item.data_location == TensorProto.EXTERNAL:
            raise CalibrationError(
                f"the weights ({item.name}, ...) lie outside of the file; save it with "
                "external_data=False"
            )
    return proto


def element_types(proto: Any) -> dict[str, int]:
    """Element type of every tensor that shape inference can tell."""
    inferred = onnx.shape_inference.infer_shapes(proto).graph
    values = (*inferred.input, *inferred.value_info, *inferred.output)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return types | {item.name: item.data_type for item in inferred.initializer}


def _constant(node: Node) -> NDArray[Any]:
    (name, value), *_ = attributes(node).items()
    if name == "value":
        array: NDArray[Any] = numpy_helper.to_array(value)
        return array
    dtype = np.float32 if "float" in name else np.int64
    return np.array(value, dtype)


def sha256(data: bytes) -> str:
    """SHA-256 as hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def attributes(node: Node) -> dict[str, Any]:
    """Return a node's attributes as Python values."""
    return {item.name: helper.get_attribute_value(item) for item in node.attribute}


def power_of_two(value: float | None) -> int | None:
    """Return the exponent of a positive power of two, None for any other value."""
    if value is None or not math.isfinite(value) or value <= 0:
        return None
    mantissa, exponent = math.frexp(value)
    return exponent - 1 if mantissa == 0.5 else None
