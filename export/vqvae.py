"""The VQ-VAE's integer encoder and decoder as ONNX.

Encoder: `frame` uint8 (n, 1, 8h, 8w) -> `latents` int8 (n, h, w, code_dim).
Decoder: `tokens` int32 (n, h, w) -> `frame` uint8 (n, 1, 8h, 8w).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from edge_codec.calibration.power_of_two import IntegerConv, prove_bounds, quantize_conv
from edge_codec.calibration.qat import QuantUnit
from edge_codec.errors import CalibrationError
from edge_codec.export.qdq import INT8, INT32, UINT8, GraphBuilder
from edge_codec.nn.vqvae import VQVAE

UINT8_DTYPE = np.dtype(np.uint8)


@dataclass(frozen=True, slots=True, eq=False)
class IntegerVQVAE:
    """The network as integers.

    Attributes
    ----------
    analysis, coarse, fine : tuple of IntegerConv
        Layers before the codebook, at 1/8, and at 1/4 of the resolution.
    codebook : ndarray, shape (codes, code_dim), int8
        In units of the latents.
    table : ndarray, shape (codes, embed), uint8
        Decoder's row per token, the codebook folded with the decoder's first unit.
    """

    analysis: tuple[IntegerConv, ...]
    codebook: NDArray[np.int8]
    table: NDArray[np.uint8]
    coarse: tuple[IntegerConv, ...]
    fine: tuple[IntegerConv, ...]

    def bounds(self) -> dict[str, int]:
        """Prove every layer exact; return the largest possible sums by layer name."""
        return prove_bounds((*self.analysis, *self.coarse, *self.fine))

    def permute(self, order: NDArray[np.int64]) -> IntegerVQVAE:
        """Renumber the codes: new token i is old token `order[i]`, shape (codes,)."""
        return replace(self, codebook=self.codebook[order], table=self.table[order])


def integer_vqvae(twin: VQVAE) -> IntegerVQVAE:
    """Take the integers out of a quantized twin (`edge_codec.calibration.qat`)."""
    embed = _quant_unit(twin.synthesis.embed)
    with torch.no_grad():
        codes = twin.codebook.codes()
        rows = embed(codes[:, :, None, None])[:, :, 0, 0].numpy() / 2.0**embed.output_exponent
    if twin.codebook.grid is None:
        raise CalibrationError("the codebook is not on an 8-bit grid; export a quantized twin")
    return IntegerVQVAE(
        analysis=_integer_layers("analysis", twin.analysis.layers),
        codebook=(codes.numpy() / twin.codebook.grid).astype(np.int8),
        table=rows.astype(np.uint8),
        coarse=_integer_layers("coarse", twin.synthesis.coarse),
        fine=_integer_layers("fine", twin.synthesis.fine),
    )


def encoder_model(network: IntegerVQVAE) -> onnx.ModelProto:
    """Build the encoder; `edge_codec.base.lookup` finds the code nearest to each latent."""
    network.bounds()
    graph = GraphBuilder()
    exponent = network.analysis[0].input_exponent
    x = _unshuffle_frame(graph, graph.dequantize("frame", exponent, UINT8_DTYPE), block=4)
    x = graph.quantize(x, exponent, UINT8_DTYPE)
    graph.to_channels_last(graph.chain(x, network.analysis), output="latents")
    return graph.model(
        "vqvae_encoder",
        ("frame", UINT8, ["n", 1, "height", "width"]),
        ("latents", INT8, ["n", "h", "w", network.codebook.shape[1]]),
    )


def decoder_model(network: IntegerVQVAE) -> onnx.ModelProto:
    """Build the decoder: table rows, convolutions at 1/8, shuffle, convolutions at 1/4."""
    network.bounds()
    graph = GraphBuilder()
    sizes = graph.node("Shape", "tokens")
    x = graph.node("Gather", graph.constant(network.table), "tokens", axis=0)
    exponent = network.coarse[0].input_exponent
    x = graph.to_channels_first(graph.dequantize(x, exponent, UINT8_DTYPE))
    x = graph.chain(graph.quantize(x, exponent, UINT8_DTYPE), network.coarse)
    channels, exponent = network.fine[0].weight.shape[1], network.fine[0].input_exponent
    x = graph.to_channels_last(graph.dequantize(x, exponent, UINT8_DTYPE))
    x = graph.spread_blocks(x, 2, channels)
    sizes = graph.node("Mul", sizes, graph.constant(np.array([1, 2, 2], np.int64)))
    count = graph.constant(np.array([channels], np.int64))
    x = graph.node("Reshape", x, graph.node("Concat", sizes, count, axis=0))
    x = graph.quantize(graph.to_channels_first(x), exponent, UINT8_DTYPE)
    x = graph.chain(x, network.fine)
    x = graph.spread_blocks(graph.to_channels_last(x), 4, 1)
    sizes = graph.node("Mul", sizes, graph.constant(np.array([1, 4, 4], np.int64)))
    x = graph.node("Reshape", x, sizes)
    graph.node("Unsqueeze", x, graph.constant(np.array([1], np.int64)), output="frame")
    return graph.model(
        "vqvae_decoder",
        ("tokens", INT32, ["n", "h", "w"]),
        ("frame", UINT8, ["n", 1, "height", "width"]),
    )


def _unshuffle_frame(graph: GraphBuilder, frame: str, block: int) -> str:
    """Turn blocks of a one-channel frame into channels: (n, 1, bh, bw) to (n, b*b, h, w)."""
    shape = graph.node("Shape", frame)
    sizes = graph.node("Div", shape, graph.constant(np.array([1, 1, block, block], np.int64)))
    n, h, w = (graph.node("Slice", sizes, *_range(graph, axis)) for axis in (0, 2, 3))
    edge = graph.constant(np.array([block], np.int64))
    x = graph.node("Reshape", frame, graph.node("Concat", n, h, edge, w, edge, axis=0))
    x = graph.node("Transpose", x, perm=[0, 1, 3, 2, 4])
    merged = graph.constant(np.array([0, 0, 0, block * block], np.int64))
    return graph.to_channels_first(graph.node("Reshape", x, merged))


def _range(graph: GraphBuilder, axis: int) -> tuple[str, str]:
    """Start and end of a Slice that picks one element."""
    start, end = (graph.constant(np.array([i], np.int64)) for i in (axis, axis + 1))
    return start, end


def _integer_layers(name: str, layers: nn.ModuleList) -> tuple[IntegerConv, ...]:
    return tuple(
        _integer_conv(f"{name}.{index}", _quant_unit(unit)) for index, unit in enumerate(layers)
    )


def _integer_conv(name: str, unit: QuantUnit) -> IntegerConv:
    bias = unit.conv.bias
    if unit.input_exponent is None or bias is None:
        raise CalibrationError(f"{name}: a unit without input scale or bias is no integer layer")
    return quantize_conv(
        name,
        unit.conv.weight.detach().numpy(),
        bias.detach().numpy(),
        unit.input_exponent,
        unit.output_exponent,
        np.dtype(np.int8 if unit.low < 0 else np.uint8),
        stride=unit.conv.stride[0],
        weight_exponents=unit.weight_exponents,
    )


def _quant_unit(module: nn.Module) -> QuantUnit:
    if not isinstance(module, QuantUnit):
        raise CalibrationError(f"{type(module).__name__} is not quantized; calibrate it first")
    return module
