"""The segmentation network in integers: static scales, measured on training frames.

Every tensor between layers is 8 bits with a power-of-two scale by one of the rules of
`edge_codec.calibration.observers`, weights are 7 bits with a scale per output channel, and batch
normalization is folded into them. Between two convolutions, sums and bilinear interpolation are
float operators on multiples of powers of two, and exact. So is all of the network: every backend
gives the same logits, bit for bit.

`edge-codec calibrate` quantizes what convolutions read and leaves residual sums to float layers;
here the results of convolutions are rounded too, which is what lets a backend run them in integers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_codec.calibration.observers import Observer, rule
from edge_codec.calibration.power_of_two import IntegerConv, prove_bound, quantize_conv
from edge_codec.errors import CalibrationError
from edge_codec.export.qdq import UINT8, GraphBuilder
from edge_codec.nn.segmentation import (
    CLASSES,
    ConvNorm,
    ResidualBlock,
    SegmentationNetwork,
    frame_of_codes,
)

INPUT_EXPONENT = -7
"""Window codes stand for multiples of 2**-7: `CODE_SCALE`."""

BYTE = np.dtype(np.uint8)
SIGNED = np.dtype(np.int8)
LOGIT_ZERO = 128
"""Byte of the logit 0: ONNX Runtime keeps a layer in integers whose input and output are uint8."""

SUM = ".sum"
"""Behind a block's name: what it reads in the decoder, the encoder's map plus the one below."""


@dataclass(frozen=True, slots=True)
class Quantized:
    """A tensor of the graph: name of its integers, exponent and type."""

    name: str
    exponent: int
    dtype: np.dtype[Any]


def observe(
    network: SegmentationNetwork, frames: Iterable[NDArray[np.uint8]]
) -> dict[str, Observer]:
    """Look at all tensors between layers.

    Parameters
    ----------
    network : SegmentationNetwork
        In evaluation mode.
    frames : iterable of ndarray, shape (16 h, 16 w), uint8
        Window codes.

    Returns
    -------
    dict of str to Observer
        By the name of the module that makes the tensor, with `SUM` behind it where it is what the
        module reads.
    """
    observers: dict[str, Observer] = {}

    def see(name: str, tensor: Tensor) -> None:
        observers.setdefault(name, Observer()).update(tensor.numpy())

    def hook(name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if name.startswith("decoder.") and isinstance(module, ResidualBlock):
            see(name + SUM, inputs[0])
        see(name, output)

    handles = [
        module.register_forward_hook(partial(hook, name))
        for name, module in network.named_modules()
        if isinstance(module, ConvNorm | ResidualBlock) or name == "head"
    ]
    try:
        with torch.no_grad():
            for codes in frames:
                network.logits(frame_of_codes(torch.from_numpy(codes)[None, None]))
    finally:
        for handle in handles:
            handle.remove()
    return observers


def exponents_of(
    network: SegmentationNetwork, observers: dict[str, Observer], name: str
) -> dict[str, int]:
    """Choose the exponent of every tensor by a rule of `edge_codec.calibration.observers`."""
    choose = rule(name)
    ranges = {BYTE: (0, 255), SIGNED: (-127, 127)}
    return {
        tensor: choose(observer, *ranges[dtype_of(network, tensor)])
        for tensor, observer in observers.items()
    }


def dtype_of(network: SegmentationNetwork, tensor: str) -> np.dtype[Any]:
    """Return the type of a tensor: uint8 behind a ReLU, and of sums of such."""
    if tensor.endswith(SUM):
        return BYTE
    module = network.get_submodule(tensor)
    signed = tensor == "head" or (isinstance(module, ConvNorm) and not module.relu)
    return SIGNED if signed else BYTE


def folded(module: nn.Module) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return weight and bias of a convolution with its normalization in them."""
    if isinstance(module, ConvNorm):
        norm = module.norm
        factor = (norm.weight / torch.sqrt(norm.running_var + norm.eps)).detach().double()  # type: ignore[operator, arg-type]
        weight = module.conv.weight.detach().double() * factor[:, None, None, None]
        bias = norm.bias.detach().double() - norm.running_mean.double() * factor  # type: ignore[union-attr]
        return weight.numpy(), bias.numpy()
    if isinstance(module, nn.Conv2d) and module.bias is not None:
        return module.weight.detach().double().numpy(), module.bias.detach().double().numpy()
    raise CalibrationError(f"a {type(module).__name__} is no layer of the segmentation network")


class IntegerSegmentation:
    """Builds the graph.

    Parameters
    ----------
    network : SegmentationNetwork
    exponents : dict of str to int
        From `exponents_of`.

    Attributes
    ----------
    bounds : dict of str to int
        Largest possible magnitude of each layer's sums; below 2**24, so that they are exact.
    """

    def __init__(self, network: SegmentationNetwork, exponents: dict[str, int]) -> None:
        self._network = network
        self._exponents = exponents
        self._graph = GraphBuilder()
        self.bounds: dict[str, int] = {}

    def model(self) -> onnx.ModelProto:
        """Return the network: (n, 1, 16 h, 16 w) uint8 to (n, 4, 16 h, 16 w) float32 logits."""
        network = self._network
        # A block's only channel has its pixels row by row, as those of a pixel unshuffle.
        halved = self._graph.node("SpaceToDepth", "frame", blocksize=2)
        x = self._conv("stem", Quantized(halved, INPUT_EXPONENT, BYTE))
        maps = []
        for index, stage in enumerate(network.encoder):
            for block in range(len(stage)):  # type: ignore[arg-type]
                x = self._block(f"encoder.{index}.{block}", x)
            maps.append(x)
        for index, side in enumerate(maps[-2::-1]):
            up = self._up(self._conv(f"narrow.{index}", x))
            block_name = f"decoder.{index}"
            joined = self._graph.node("Add", self._float(side), up)
            x = self._block(block_name, self._round(joined, block_name + SUM))
        logits = self._conv("head", x)
        # Bytes are moved, then turned into floats.
        full = self._full_size(logits.name)
        scale = self._graph.constant(np.float32(2.0**logits.exponent))
        zero = self._graph.constant(BYTE.type(LOGIT_ZERO))
        self._graph.node("DequantizeLinear", full, scale, zero, output="logits")
        return self._graph.model(
            "segmentation",
            ("frame", UINT8, ["n", 1, "rows", "columns"]),
            ("logits", onnx.TensorProto.FLOAT, ["n", len(CLASSES), "rows", "columns"]),
        )

    def _full_size(self, x: str) -> str:
        """Shuffle pixels: (n, 16, h, w), classes last in the channels, to (n, 4, 2 h, 2 w).

        Rows of classes are moved first: DepthToSpace takes ONNX Runtime several times as long.
        """
        graph, classes = self._graph, len(CLASSES)
        rows = graph.spread_blocks(graph.to_channels_last(x), 2, classes)
        pixels = graph.node("Reshape", rows, graph.constant(np.array([0, -1, classes])))
        planes = graph.node("Transpose", pixels, perm=[0, 2, 1])
        size = graph.node("Shape", "frame", start=2)
        start = graph.constant(np.array([0, classes]))
        return graph.node("Reshape", planes, graph.node("Concat", start, size, axis=0))

    def _block(self, name: str, x: Quantized) -> Quantized:
        branch = self._conv(f"{name}.second", self._conv(f"{name}.first", x))
        plain = isinstance(self._network.get_submodule(f"{name}.shortcut"), nn.Identity)
        shortcut = x if plain else self._conv(f"{name}.shortcut", x)
        total = self._graph.node("Add", self._float(branch), self._float(shortcut))
        return self._round(self._graph.node("Relu", total), name)

    def _up(self, x: Quantized) -> str:
        scales = self._graph.constant(np.array([1, 1, 2, 2], np.float32))
        return self._graph.node(
            "Resize",
            self._float(x),
            "",
            scales,
            mode="linear",
            coordinate_transformation_mode="half_pixel",
        )

    def _conv(self, name: str, x: Quantized) -> Quantized:
        layer = self.layer(name, x)
        self.bounds[name] = prove_bound(layer, 255 if x.dtype == BYTE else 128)
        output = self._graph.integer_conv(self._float(x), layer)
        return Quantized(output, layer.output_exponent, layer.output_dtype)

    def layer(self, name: str, x: Quantized) -> IntegerConv:
        """Return the integer layer of a module that reads a tensor."""
        module = self._network.get_submodule(name)
        weight, bias = folded(module)
        stride = module.conv.stride[0] if isinstance(module, ConvNorm) else 1
        exponent, dtype = self._exponents[name], dtype_of(self._network, name)
        if name == "head":
            order = np.arange(len(bias)).reshape(len(CLASSES), -1).T.ravel()  # classes last
            weight, bias = weight[order], bias[order] + LOGIT_ZERO * 2.0**exponent
            dtype = BYTE
        return quantize_conv(name, weight, bias, x.exponent, exponent, dtype, stride)

    def _float(self, x: Quantized) -> str:
        return self._graph.dequantize(x.name, x.exponent, x.dtype)

    def _round(self, x: str, name: str) -> Quantized:
        exponent, dtype = self._exponents[name], dtype_of(self._network, name)
        return Quantized(self._graph.quantize(x, exponent, dtype), exponent, dtype)
