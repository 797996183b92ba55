"""Building of Q/DQ ONNX graphs from integer layers.

Every tensor between convolutions is QuantizeLinear then DequantizeLinear with a power-of-two scale
and zero point 0. Biases stay in float (exact multiples of the sum's unit): TensorRT rejects int32
DequantizeLinear biases. Blocks move by Reshape and Transpose in channels-last order, which ONNX
Runtime runs as copies of whole rows; its DepthToSpace took longer than a convolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge_codec.calibration.power_of_two import IntegerConv

OPSET = 19
IR_VERSION = 9


class GraphBuilder:
    """Collects nodes and constants; methods append and return the name of their result."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._names: dict[bytes, str] = {}

    def constant(self, values: NDArray[Any] | np.generic) -> str:
        """Add a constant, or reuse an equal one."""
        array = np.ascontiguousarray(values).reshape(np.shape(values))
        key = f"{array.dtype.str}{array.shape}".encode() + array.tobytes()
        if key not in self._names:
            self._names[key] = f"constant_{len(self._constants)}"
            self._constants.append(numpy_helper.from_array(array, self._names[key]))
        return self._names[key]

    def node(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add a node with one output."""
        output = output or f"{operator.lower()}_{len(self._nodes)}"
        self._nodes.append(
            helper.make_node(operator, list(inputs), [output], name=f"make_{output}", **attributes)
        )
        return output

    def quantize(self, x: str, exponent: int, dtype: np.dtype[Any]) -> str:
        """Round a float tensor to integers times 2**exponent."""
        scale = self.constant(np.float32(2.0**exponent))
        return self.node("QuantizeLinear", x, scale, self.constant(dtype.type(0)))

    def dequantize(self, x: str, exponent: int, dtype: np.dtype[Any]) -> str:
        """Invert `quantize`."""
        scale = self.constant(np.float32(2.0**exponent))
        return self.node("DequantizeLinear", x, scale, self.constant(dtype.type(0)))

    def integer_conv(self, x: str, layer: IntegerConv) -> str:
        """Convolve a dequantized tensor; the result is quantized, dtype `layer.output_dtype`."""
        outputs, _, kernel, _ = layer.weight.shape
        scale = np.exp2(layer.weight_exponents).astype(np.float32)
        weight = self.node(
            "DequantizeLinear",
            self.constant(layer.weight),
            self.constant(scale),
            self.constant(np.zeros(outputs, np.int8)),
            axis=0,
        )
        unit = np.exp2((layer.input_exponent + layer.weight_exponents).astype(np.float64))
        bias = self.constant((layer.bias * unit).astype(np.float32))
        pad, stride = kernel // 2, layer.stride
        y = self.node(
            "Conv",
            x,
            weight,
            bias,
            kernel_shape=[kernel, kernel],
            pads=[pad] * 4,
            strides=[stride, stride],
        )
        if layer.output_dtype == np.uint8:
            # Saturation alone is the same; the ReLU lets every backend fuse the layer.
            y = self.node("Relu", y)
        return self.quantize(y, layer.output_exponent, layer.output_dtype)

    def chain(self, x: str, layers: Sequence[IntegerConv]) -> str:
        """Apply layers to a quantized tensor; the result is quantized."""
        dtype: np.dtype[Any] = np.dtype(np.uint8)
        for layer in layers:
            x = self.integer_conv(self.dequantize(x, layer.input_exponent, dtype), layer)
            dtype = layer.output_dtype
        return x

    def to_channels_last(self, x: str, output: str = "") -> str:
        """Transpose (n, c, h, w) to (n, h, w, c)."""
        return self.node("Transpose", x, perm=[0, 2, 3, 1], output=output)

    def to_channels_first(self, x: str) -> str:
        """Transpose (n, h, w, c) to (n, c, h, w)."""
        return self.node("Transpose", x, perm=[0, 3, 1, 2])

    def spread_blocks(self, x: str, block: int, channels: int) -> str:
        """Swap rows within blocks: (n, h, w, b*b*c) to (n, h, b, w, b*c)."""
        sizes = np.array([0, 0, 0, block, block * channels], np.int64)  # 0: size of the input
        x = self.node("Reshape", x, self.constant(sizes))
        return self.node("Transpose", x, perm=[0, 1, 3, 2, 4])

    def model(
        self,
        name: str,
        source: tuple[str, int, Sequence[int | str]],
        result: tuple[str, int, Sequence[int | str]],
    ) -> onnx.ModelProto:
        """Finish and check; `source` and `result` are name, element type and shape."""
        graph = helper.make_graph(
            self._nodes,
            name,
            [helper.make_tensor_value_info(*source)],
            [helper.make_tensor_value_info(*result)],
            self._constants,
        )
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        model.producer_name = "edge-codec"
        onnx.checker.check_model(model, full_check=True)
        return model


UINT8 = TensorProto.UINT8
INT32 = TensorProto.INT32
INT8 = TensorProto.INT8
