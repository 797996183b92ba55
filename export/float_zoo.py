"""The zoo's networks in float, as modules that the exporter of `edge_codec.export.graph` takes.

They stand where the integer networks do: frames are uint8 window codes, tokens int32, latents
channels last, and the scaling between codes and values is part of the graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.export import Dim

from edge_codec.kernels.dispatch import codebook_lookup
from edge_codec.nn.vqvae import CODE_SCALE, STRIDE, VQVAE


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """One network to export.

    Attributes
    ----------
    name : str
        Stem of its file.
    module : nn.Module
        In evaluation mode.
    inputs : mapping of str to Tensor
        An example of every input, by name, in order; at least 2 along every dynamic axis.
    dynamic : mapping of str to mapping of int to Dim
        By input: the axes that may have any size, and what the sizes are multiples of.
    outputs : tuple of str
        Names of the outputs.
    """

    name: str
    module: nn.Module
    inputs: Mapping[str, Tensor]
    dynamic: Mapping[str, Mapping[int, object]]
    outputs: tuple[str, ...]


class LatentEncoder(nn.Module):
    """Frame to latents, before the codebook."""

    def __init__(self, model: VQVAE) -> None:
        super().__init__()
        self.analysis = model.analysis

    def forward(self, frame: Tensor) -> Tensor:
        """Latents of a frame: (n, 1, 8h, 8w) uint8 to (n, h, w, code_dim) float."""
        latents: Tensor = self.analysis(frame.float() * CODE_SCALE)
        return latents.permute(0, 2, 3, 1)


class TokenEncoder(nn.Module):
    """Frame to tokens, with the codebook lookup as a node of its own."""

    codes: Tensor
    norms: Tensor

    def __init__(self, model: VQVAE) -> None:
        super().__init__()
        self.latents = LatentEncoder(model)
        codes = model.codebook.codes().detach().clone()
        self.register_buffer("codes", codes)
        self.register_buffer("norms", 0.5 * codes.square().sum(1))

    def forward(self, frame: Tensor) -> Tensor:
        """Tokens of a frame: (n, 1, 8h, 8w) uint8 to (n, h, w) int32."""
        tokens: Tensor = codebook_lookup(self.latents(frame), self.codes, self.norms)
        return tokens


class FrameDecoder(nn.Module):
    """Tokens to frame."""

    def __init__(self, model: VQVAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        """Frame of tokens: (n, h, w) int32 to (n, 1, 8h, 8w) uint8, rounded half to even."""
        codes = self.model.decode(tokens) * (1.0 / CODE_SCALE)
        return codes.round().clamp(0.0, 255.0).to(torch.uint8)


def vqvae_networks(model: VQVAE) -> tuple[Network, ...]:
    """Both halves of a float VQ-VAE, and the encoder without its codebook.

    Returns
    -------
    tuple of Network
        `encoder` (frame to latents), `tokens` (frame to tokens) and `decoder` (tokens to frame),
        with any number of frames whose sides are any multiples of 8.
    """
    return (
        frame_network("encoder", LatentEncoder(model), "latents"),
        frame_network("tokens", TokenEncoder(model), "tokens"),
        token_network("decoder", FrameDecoder(model)),
    )


def frame_network(name: str, module: nn.Module, output: str) -> Network:
    """Describe a network that takes frames."""
    example = torch.zeros(2, 1, 3 * STRIDE, 5 * STRIDE, dtype=torch.uint8)
    axes = {0: Dim("n"), 2: STRIDE * Dim("h"), 3: STRIDE * Dim("w")}
    return Network(name, module.eval(), {"frame": example}, {"frame": axes}, (output,))


def token_network(name: str, module: nn.Module) -> Network:
    """Describe a network that takes tokens and gives frames."""
    example = torch.zeros(2, 3, 5, dtype=torch.int32)
    axes = {0: Dim("n"), 1: Dim("h"), 2: Dim("w")}
    return Network(name, module.eval(), {"tokens": example}, {"tokens": axes}, ("frame",))
