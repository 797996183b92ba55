"""Rewrites an integer network of the zoo so that TensorRT takes it and gives the same integers.

The zoo's activations are uint8 with zero point 0; TensorRT quantizes to symmetric int8 only. An
activation `a` (0..255, scale s) is therefore held as `a - 128`, so that a float tensor `x` of the
old graph is `x' + 128 s` of the new one:

- A convolution of `x` is the convolution of `x'` with `128 s sum(w)` added to its bias. The zeros
  around `x` are `-128 s` around `x'`: an explicit Pad in front of the quantization, which TensorRT
  computes in the same kernel. (It takes no int8 constant, so the Pad cannot follow; behind the
  dequantization it would make the convolution a float one.)
- Quantizing `y` to uint8 is quantizing `y - 128 s` to int8, and `-128 s` joins the bias, too.
  Rounding half to even is the same, since 128 is even, and int8 saturates at -128 where uint8
  saturates at 0: the ReLU in front has nothing left to do and goes.
- Reshape, Transpose, Slice, Unsqueeze and Gather move values and keep the offset.
- uint8 inputs and outputs stay uint8: TensorRT casts between them and float.

All of it is exact arithmetic as long as every sum stays below 2**24 in units of its last bit. That
is proven for each convolution of the new graph, or the network is refused. Convolutions in float32
with explicit Round and Clip would be exact as well, without the int8 tensor cores; in float16 the
sums do not fit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from edge_codec.calibration.power_of_two import EXACT_FLOAT32
from edge_codec.errors import EngineError
from edge_codec.export.trt_graph import GraphEditor, activation_scale, constants_of

OFFSET = 128
"""What a uint8 activation is lowered by, to be an int8 one."""


def tensorrt_network(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Rewrite a network for TensorRT; one that quantizes nothing to uint8 is returned as it is.

    Parameters
    ----------
    proto : onnx.ModelProto
        Not changed.

    Returns
    -------
    onnx.ModelProto
        The same inputs and outputs, int8 activations, and the same integers.

    Raises
    ------
    EngineError
        If an operator that reads uint8 activations has no rule here, or the sums of a convolution
        are not proven exact.
    """
    if not _quantizes_to_uint8(proto.graph):
        return proto
    result = onnx.ModelProto()
    result.CopyFrom(proto)
    _Rewriter(result.graph).run()
    if _quantizes_to_uint8(result.graph):
        raise EngineError("a uint8 constant is used in a way that there is no rule for")
    onnx.checker.check_model(result, full_check=True)
    return result


def _quantizes_to_uint8(graph: onnx.GraphProto) -> bool:
    """Whether a constant is uint8, zero points among them, or a zero point is left out."""
    default = any(n.op_type == "QuantizeLinear" and len(n.input) < 3 for n in graph.node)
    return default or any(values.dtype == np.uint8 for values in constants_of(graph).values())


@dataclass(frozen=True, slots=True)
class _Lowered:
    """A tensor of the old graph that the new one holds lowered.

    Attributes
    ----------
    name : str
        Its name in the new graph.
    offset : float
        What to add to get the old values.
    quantized : bool
        Whether it was uint8: then the offset is `OFFSET`, in units of its scale.
    integer : bool
        Whether the new one is int8 and not float.
    """

    name: str
    offset: float
    quantized: bool = False
    integer: bool = False


@dataclass(slots=True)
class _Convolution:
    """A convolution of the new graph, whose bias is not final yet.

    Attributes
    ----------
    node : onnx.NodeProto
    weight : ndarray, int64
    unit : ndarray, shape (outputs,), float64
        Value of the last bit of its sums.
    bias : ndarray, shape (outputs,), float64
    """

    node: onnx.NodeProto
    weight: NDArray[np.int64]
    unit: NDArray[np.float64]
    bias: NDArray[np.float64]

    def prove(self) -> None:
        """Refuse sums that float32 does not hold exactly."""
        mantissa, _ = np.frexp(self.unit)
        bias = self.bias / self.unit
        largest = float((_row_sums(np.abs(self.weight)) * OFFSET + np.abs(bias)).max())
        if (mantissa != 0.5).any() or (bias != np.rint(bias)).any():
            raise EngineError(
                f"{self.node.name}: its scales are not powers of two, or its bias is no multiple "
                "of them; quantize to symmetric int8 if the network need not be exact"
            )
        if largest >= EXACT_FLOAT32:
            raise EngineError(
                f"{self.node.name}: sums can reach {largest:.0f}, and float32 is exact below "
                f"{EXACT_FLOAT32}; use smaller weights"
            )


def _row_sums(weight: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sum the weights of each output channel."""
    sums: NDArray[np.int64] = weight.reshape(len(weight), -1).sum(1)
    return sums


class _Rewriter:
    """Rewrites a graph in place."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._editor = GraphEditor(graph)
        self._lowered: dict[str, _Lowered] = {}
        self._convolutions: dict[str, _Convolution] = {}

    def run(self) -> None:
        """Rewrite, and prove that the result is exact."""
        editor = self._editor
        for name in editor.uint8_inputs:
            whole = editor.node("Cast", [name], to=TensorProto.FLOAT)
            lowered = editor.node("Add", [whole, editor.constant(np.float32(-OFFSET))])
            self._lowered[name] = _Lowered(lowered, OFFSET, quantized=True)
        for node in editor.nodes:
            RULES.get(node.op_type, _Rewriter._other)(self, node)
        for name in editor.results:
            if name in self._lowered:
                self._close(self._lowered[name])
        for convolution in self._convolutions.values():
            convolution.prove()
            convolution.node.input.append(editor.constant(convolution.bias.astype(np.float32)))
        editor.replace()

    def _close(self, result: _Lowered) -> None:
        """Give a result that was uint8 as uint8 again."""
        if not result.quantized:
            raise EngineError(f"output '{result.name}' of an integer network is float")
        inner = f"lowered_{result.name}"
        self._editor.rename(result.name, inner)
        if result.integer:
            inner = self._editor.quantize("DequantizeLinear", inner, 1.0)
        whole = self._editor.node("Add", [inner, self._editor.constant(np.float32(OFFSET))])
        self._editor.node("Cast", [whole], result.name, to=TensorProto.UINT8)

    def _held(self, name: str) -> _Lowered:
        return self._lowered.get(name, _Lowered(name, 0.0))

    def _copy(self, node: onnx.NodeProto) -> onnx.NodeProto:
        """Return a node of the old graph that reads what its inputs are now."""
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = [self._held(name).name for name in node.input]
        return copy

    def _keep(self, node: onnx.NodeProto) -> None:
        """Add a node of the old graph as it is; it does not care about offsets."""
        self._editor.append(self._copy(node))

    def _move(self, node: onnx.NodeProto) -> None:
        """Add a node that only moves the values of its first input."""
        self._keep(node)
        held, output = self._lowered.get(node.input[0]), node.output[0]
        if held is not None:
            self._lowered[output] = _Lowered(output, held.offset, held.quantized, held.integer)

    def _other(self, node: onnx.NodeProto) -> None:
        """Add a node that there is no rule for, unless it reads what is lowered."""
        if any(name in self._lowered for name in node.input):
            raise EngineError(
                f"{node.op_type} {node.name}: there is no rule for uint8 activations in it; known "
                f"are {', '.join(sorted(RULES))}"
            )
        self._keep(node)

    def _dequantize(self, node: onnx.NodeProto) -> None:
        source, output = self._lowered.get(node.input[0]), node.output[0]
        if source is None:
            self._keep(node)
            return
        scale = activation_scale(node, self._editor.constants)
        if source.integer:
            self._editor.quantize("DequantizeLinear", source.name, scale, output)
        else:
            factor = self._editor.constant(np.float32(scale))
            self._editor.node("Mul", [source.name, factor], output)
        self._lowered[output] = _Lowered(output, OFFSET * scale)

    def _quantize(self, node: onnx.NodeProto) -> None:
        if not self._to_uint8(node):
            self._other(node)
            return
        editor, (source, output) = self._editor, (node.input[0], node.output[0])
        scale = activation_scale(node, editor.constants)
        held = self._held(source)
        difference, name = OFFSET * scale - held.offset, held.name
        if name in self._convolutions and editor.read_once(name) and editor.read_once(source):
            self._convolutions[name].bias -= difference
        elif difference:
            name = editor.node("Add", [name, editor.constant(np.float32(-difference))])
        editor.quantize("QuantizeLinear", name, scale, output)
        self._lowered[output] = _Lowered(output, OFFSET, quantized=True, integer=True)

    def _to_uint8(self, node: onnx.NodeProto) -> bool:
        """Whether a QuantizeLinear makes uint8, which is also its default."""
        if len(node.input) < 3:
            return True
        zero = self._editor.constants.get(node.input[2])
        return zero is not None and zero.dtype == np.uint8

    def _relu(self, node: onnx.NodeProto) -> None:
        output = node.output[0]
        readers = self._editor.readers(output)
        if output not in self._editor.results and all(
            reader.op_type == "QuantizeLinear" and self._to_uint8(reader) for reader in readers
        ):
            self._lowered[output] = self._held(node.input[0])
        else:
            self._other(node)

    def _convolve(self, node: onnx.NodeProto) -> None:
        weight, scale = self._weight(node)
        held = self._held(node.input[0])
        copy = self._copy(node)
        if held.offset:
            copy.input[0] = self._padded(held, copy)
        bias = self._bias(node, len(weight)) + held.offset * scale * _row_sums(weight)
        unit = scale * self._input_scale(copy)
        del copy.input[2:]
        self._editor.append(copy)
        self._convolutions[node.output[0]] = _Convolution(copy, weight, unit, bias)

    def _weight(self, node: onnx.NodeProto) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return a convolution's integers, and their scale per output channel."""
        source = self._editor.producers.get(node.input[1])
        if source is None or source.op_type != "DequantizeLinear":
            raise EngineError(f"{node.name}: its weights are not quantized; quantize all layers")
        values, scale = (self._editor.constants.get(name) for name in source.input[:2])
        if values is None or scale is None or values.dtype != np.int8:
            raise EngineError(f"{node.name}: its weights are not constant int8")
        scales = np.broadcast_to(scale.astype(np.float64).reshape(-1), len(values))
        return values.astype(np.int64), scales

    def _bias(self, node: onnx.NodeProto, outputs: int) -> NDArray[np.float64]:
        if len(node.input) < 3:
            return np.zeros(outputs)
        values = self._editor.constants.get(node.input[2])
        if values is None:
            raise EngineError(f"{node.name}: its bias is not constant")
        return values.astype(np.float64)

    def _input_scale(self, node: onnx.NodeProto) -> float:
        producer = self._editor.producers.get(node.input[0])
        if producer is None or producer.op_type not in ("DequantizeLinear", "Mul"):
            raise EngineError(f"{node.name}: its input is not quantized; quantize all layers")
        scale = self._editor.constants.get(producer.input[1])
        if scale is None or scale.size != 1:
            raise EngineError(f"{node.name}: its input has no single constant scale")
        return float(scale.reshape(()))

    def _padded(self, held: _Lowered, node: onnx.NodeProto) -> str:
        """Take the padding out of a convolution; return its input with it, quantized."""
        attributes = {a.name: a for a in node.attribute}
        if "auto_pad" in attributes and attributes["auto_pad"].s != b"NOTSET":
            raise EngineError(f"{node.name}: pads automatically; export it with explicit pads")
        if "pads" not in attributes or not any(attributes["pads"].ints):
            return held.name
        pads = list(attributes["pads"].ints)
        attributes["pads"].ints[:] = [0] * len(pads)
        half, scale, editor = len(pads) // 2, held.offset / OFFSET, self._editor
        amounts = np.array([0, 0, *pads[:half], 0, 0, *pads[half:]], np.int64)
        value = editor.constant(np.float32(-held.offset))
        source = self._before_quantization(held.name)
        wider = editor.node("Pad", [source, editor.constant(amounts), value])
        wider = editor.quantize("QuantizeLinear", wider, scale)
        return editor.quantize("DequantizeLinear", wider, scale)

    def _before_quantization(self, name: str) -> str:
        """Return what was quantized to `name` at the same scale; `name` if that is not known."""
        dequantizer = self._editor.producers[name]
        if dequantizer.op_type != "DequantizeLinear":
            return name
        quantizer = self._editor.producers.get(dequantizer.input[0])
        if quantizer is None or quantizer.op_type != "QuantizeLinear":
            return name
        scales = [self._editor.constants[node.input[1]] for node in (quantizer, dequantizer)]
        return str(quantizer.input[0]) if scales[0] == scales[1] else name

    def _gather(self, node: onnx.NodeProto) -> None:
        values = self._editor.constants.get(node.input[0])
        if values is None or values.dtype != np.uint8:
            self._move(node)
            return
        copy = self._copy(node)
        # Float: TensorRT takes no int8 constant but what is dequantized at once.
        copy.input[0] = self._editor.constant(values.astype(np.float32) - OFFSET)
        self._editor.append(copy)
        self._lowered[node.output[0]] = _Lowered(node.output[0], OFFSET, quantized=True)


RULES: dict[str, Callable[[Any, onnx.NodeProto], None]] = {
    "Conv": _Rewriter._convolve,
    "DequantizeLinear": _Rewriter._dequantize,
    "Gather": _Rewriter._gather,
    "QuantizeLinear": _Rewriter._quantize,
    "Relu": _Rewriter._relu,
    "Reshape": _Rewriter._move,
    "Shape": _Rewriter._keep,
    "Slice": _Rewriter._move,
    "Transpose": _Rewriter._move,
    "Unsqueeze": _Rewriter._move,
}
"""What is done with the operators that integer networks are made of."""
