"""The zoo's integer networks as modules that export to Q/DQ ONNX by PyTorch's exporter.

The shipped files come from `edge_codec.export.vqvae`, not from here: streams name the files by
their SHA-256, and what the exporter writes changes with the versions of PyTorch and onnxscript,
while `GraphBuilder` writes the same bytes for ever (and moves blocks as rows, which is faster).
What this path is for: its graph comes out of `edge_codec.nn.vqvae` itself, with nothing replaced
but the convolution units, so it checks that the graph written by hand is the network that was
trained. `verify` compares the two.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own convention)
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_codec.calibration.power_of_two import IntegerConv
from edge_codec.errors import EngineError
from edge_codec.export.float_zoo import Network, frame_network, token_network
from edge_codec.export.qdq import OPSET
from edge_codec.export.vqvae import IntegerVQVAE, decoder_model, encoder_model, integer_vqvae
from edge_codec.nn.vqvae import STRIDE, VQVAE
from edge_codec.runtime.integer_reference import IntegerReference
from edge_codec.runtime.ort_backend import OrtEngine

DTYPES = {np.dtype(np.uint8): torch.uint8, np.dtype(np.int8): torch.int8}


def quantize(x: Tensor, exponent: int, dtype: torch.dtype) -> Tensor:
    """Node that rounds a float tensor to integers times 2**exponent; only its shape is computed."""
    scale, zero = torch.tensor(2.0**exponent), torch.tensor(0, dtype=dtype)
    return torch.onnx.ops.symbolic(
        "::QuantizeLinear", (x, scale, zero), dtype=dtype, shape=x.shape, version=OPSET
    )


def dequantize(x: Tensor, exponent: int) -> Tensor:
    """Node that inverts `quantize`; only its shape is computed."""
    return _dequantize(x, torch.tensor(2.0**exponent), torch.tensor(0, dtype=x.dtype), axis=0)


def _dequantize(x: Tensor, scale: Tensor, zero: Tensor, axis: int) -> Tensor:
    return torch.onnx.ops.symbolic(
        "::DequantizeLinear",
        (x, scale, zero),
        {"axis": axis},  # counts where there is a scale for each channel
        dtype=torch.float32,
        shape=x.shape,
        version=OPSET,
    )


class IntegerUnit(nn.Module):
    """One `IntegerConv`: dequantized tensor in, dequantized tensor out."""

    weight: Tensor
    scale: Tensor
    zero: Tensor
    bias: Tensor

    def __init__(self, layer: IntegerConv) -> None:
        super().__init__()
        self.stride, self.padding = layer.stride, layer.weight.shape[2] // 2
        self.exponent, self.dtype = layer.output_exponent, DTYPES[layer.output_dtype]
        unit = np.exp2((layer.input_exponent + layer.weight_exponents).astype(np.float64))
        scale = np.exp2(layer.weight_exponents).astype(np.float32)
        self.register_buffer("weight", torch.from_numpy(layer.weight))
        self.register_buffer("scale", torch.from_numpy(scale))
        self.register_buffer("zero", torch.zeros(len(scale), dtype=torch.int8))
        self.register_buffer("bias", torch.from_numpy((layer.bias * unit).astype(np.float32)))

    def forward(self, x: Tensor) -> Tensor:
        """Apply to (n, inputs, h, w)."""
        weight = _dequantize(self.weight, self.scale, self.zero, axis=0)
        y = F.conv2d(x, weight, self.bias, self.stride, self.padding)
        if self.dtype == torch.uint8:
            y = torch.relu(y)
        return dequantize(quantize(y, self.exponent, self.dtype), self.exponent)


class IntegerEncoder(nn.Module):
    """Frame to int8 latents, through the analysis that was trained."""

    def __init__(self, twin: VQVAE, network: IntegerVQVAE) -> None:
        super().__init__()
        self.analysis = copy.deepcopy(twin.analysis)
        self.analysis.layers = nn.ModuleList(map(IntegerUnit, network.analysis))
        self.input_exponent = network.analysis[0].input_exponent
        self.output_exponent = network.analysis[-1].output_exponent

    def forward(self, frame: Tensor) -> Tensor:
        """Latents of a frame: (n, 1, 8h, 8w) uint8 to (n, h, w, code_dim) int8."""
        latents = self.analysis(dequantize(frame, self.input_exponent))
        return quantize(latents, self.output_exponent, torch.int8).permute(0, 2, 3, 1)


class IntegerDecoder(nn.Module):
    """Tokens to frame, through the synthesis that was trained."""

    table: Tensor

    def __init__(self, twin: VQVAE, network: IntegerVQVAE) -> None:
        super().__init__()
        self.synthesis = copy.deepcopy(twin.synthesis)
        self.synthesis.coarse = nn.ModuleList(map(IntegerUnit, network.coarse))
        self.synthesis.fine = nn.ModuleList(map(IntegerUnit, network.fine))
        self.input_exponent = network.coarse[0].input_exponent
        self.output_exponent = network.fine[-1].output_exponent
        self.register_buffer("table", torch.from_numpy(network.table))

    def forward(self, tokens: Tensor) -> Tensor:
        """Frame of tokens: (n, h, w) int32 to (n, 1, 8h, 8w) uint8."""
        rows = dequantize(F.embedding(tokens, self.table), self.input_exponent)
        frame = self.synthesis.from_rows(rows.permute(0, 3, 1, 2))
        return quantize(frame, self.output_exponent, torch.uint8)


def integer_networks(twin: VQVAE) -> tuple[Network, ...]:
    """Both halves of a quantized VQ-VAE (`edge_codec.calibration.qat.load_quantized`)."""
    network = integer_vqvae(twin)
    return (
        frame_network("encoder", IntegerEncoder(twin, network), "latents"),
        token_network("decoder", IntegerDecoder(twin, network)),
    )


def verify(name: str, exported: onnx.ModelProto, twin: VQVAE, seed: int = 0) -> int:
    """Compare an exported integer network with the definition of the one written by hand.

    Parameters
    ----------
    name : {'encoder', 'decoder'}
    exported : onnx.ModelProto
        Run by ONNX Runtime as written, without optimizations.
    twin : VQVAE
        The quantized network it was exported from.
    seed : int
        Of the random input.

    Returns
    -------
    int
        Number of values compared, in batches of three sizes.

    Raises
    ------
    EngineError
        If one value differs.
    """
    network = integer_vqvae(twin)
    written = encoder_model(network) if name == "encoder" else decoder_model(network)
    reference = IntegerReference(written.SerializeToString())
    engine = OrtEngine(exported.SerializeToString(), threads=1, optimize=False)
    rng, compared = np.random.default_rng(seed), 0
    for shape in ((1, 1, 1), (2, 3, 5), (3, 6, 7)):
        tensor = _random_input(name, shape, len(network.codebook), rng)
        expected, found = reference.run(tensor), engine.run(tensor)
        if found.dtype != expected.dtype or not np.array_equal(found, expected):
            raise EngineError(
                f"the exported {name} is not the network of edge_codec.export.vqvae: it differs "
                f"on {tensor.shape}; one of the two graphs is wrong"
            )
        compared += expected.size
    return compared


def _random_input(
    name: str, shape: tuple[int, int, int], codes: int, rng: np.random.Generator
) -> NDArray[Any]:
    n, h, w = shape
    if name == "encoder":
        return rng.integers(0, 256, (n, 1, STRIDE * h, STRIDE * w)).astype(np.uint8)
    return rng.integers(0, codes, shape).astype(np.int32)
