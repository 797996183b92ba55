"""A VQ-VAE of few channels, its quantized twin, and their exported networks, made once."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from edge_codec.calibration.qat import calibrate, quantized_twin
from edge_codec.export.float_zoo import Network, vqvae_networks
from edge_codec.export.graph import export_network
from edge_codec.export.integer_zoo import integer_networks
from edge_codec.nn.vqvae import CODE_SCALE, VQVAE, VQVAEConfig

TINY = VQVAEConfig(
    codes=64, code_dim=8, fine=8, coarse=16, embed=16, encoder_depth=1, decoder_depth=1
)
SHAPES = ((1, 1, 1), (2, 3, 5), (3, 4, 2))
"""Frames, and tokens down and across: the exporter saw only the second."""


@cache
def model() -> VQVAE:
    """A network whose biases are not zero and whose codebook fits its latents."""
    torch.manual_seed(0)
    network = VQVAE(TINY).eval()
    batch = (255 * torch.rand(4, 1, 32, 32)).round()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter.normal_(0.0, 0.05)
        latent = network.analysis(batch * CODE_SCALE)
        network.codebook.initialize(latent.permute(0, 2, 3, 1).reshape(-1, 8)[:256])
    return network


@cache
def twin() -> VQVAE:
    torch.manual_seed(1)
    batch = (255 * torch.rand(4, 1, 32, 32)).round()
    return quantized_twin(model(), calibrate(model(), [batch])).eval()


@cache
def float_networks() -> dict[str, Network]:
    return {network.name: network for network in vqvae_networks(model())}


@cache
def float_onnx(name: str) -> onnx.ModelProto:
    """An exported float network; do not change it."""
    return export_network(float_networks()[name])


@cache
def integer_onnx(name: str) -> onnx.ModelProto:
    """An exported integer network; do not change it."""
    return export_network(next(n for n in integer_networks(twin()) if n.name == name))


def random_input(name: str, shape: tuple[int, int, int], seed: int = 0) -> NDArray[np.generic]:
    """Frames or tokens, whichever the network takes."""
    rng = np.random.default_rng(seed)
    n, h, w = shape
    if name == "decoder":
        return rng.integers(0, TINY.codes, shape).astype(np.int32)
    return rng.integers(0, 256, (n, 1, 8 * h, 8 * w)).astype(np.uint8)


def torch_output(name: str, tensor: NDArray[np.generic]) -> NDArray[np.generic]:
    """What PyTorch computes for the float network."""
    with torch.no_grad():
        return float_networks()[name].module(torch.from_numpy(tensor)).numpy()
