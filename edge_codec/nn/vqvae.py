"""VQ-VAE of single-channel frames at one eighth of the resolution.

A frame of 8-bit codes becomes one token per 8x8 block and comes back from the tokens alone. Both
halves are plain chains of convolution and ReLU with pixel shuffles between them: no residual sums,
no normalization layers, so that every layer is one integer convolution after export (power-of-two
scales, uint8 activations, int8 weights) and all backends agree on every bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edge_codec.nn.codebook import EmaCodebook

STRIDE = 8
"""Pixels per token along each axis."""

CODE_SCALE = 2.0**-7
"""Value of one step of the 8-bit frame codes inside the network: 0..255 becomes 0..1.99."""


@dataclass(frozen=True, slots=True)
class VQVAEConfig:
    """Sizes of the network.

    Parameters
    ----------
    codes, code_dim : int
        Vectors in the codebook and their length.
    fine, coarse : int
        Channels at a quarter and at an eighth of the resolution.
    embed : int
        Length of the decoder's table entry for a token.
    encoder_depth, decoder_depth : int
        3x3 convolutions from `coarse` to `coarse` channels in each half.
    """

    codes: int = 2048
    code_dim: int = 32
    fine: int = 64
    coarse: int = 128
    embed: int = 64
    encoder_depth: int = 2
    decoder_depth: int = 2


class VQVAE(nn.Module):
    """Analysis, codebook and synthesis together, as they are trained."""

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        self.config = config
        self.analysis = Analysis(config)
        self.codebook = EmaCodebook(config.codes, config.code_dim)
        self.synthesis = Synthesis(config)

    def forward(self, frame: Tensor, quantize: bool = True) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstruct a frame through the bottleneck.

        Parameters
        ----------
        frame : Tensor, shape (n, 1, 8h, 8w), float
            Frame codes times `CODE_SCALE`.
        quantize : bool
            False leaves the codebook out, to warm the network up as a plain autoencoder.

        Returns
        -------
        output : Tensor, shape (n, 1, 8h, 8w), float
            Reconstruction in the same scale, not clipped.
        tokens : Tensor, shape (n, h, w), int64
            Zeros when the codebook is left out.
        commitment : Tensor, scalar
            Mean squared distance of latents to their codes.
        """
        latent = self.analysis(frame)
        if not quantize:
            tokens = torch.zeros(latent[:, 0].shape, dtype=torch.int64, device=latent.device)
            return self.synthesis(latent), tokens, 0.0 * latent.square().mean()
        code, tokens, commitment = self.codebook(latent)
        return self.synthesis(code), tokens, commitment

    def encode(self, frame: Tensor) -> Tensor:
        """Tokens of a frame: (n, 1, 8h, 8w) to (n, h, w) int64."""
        return self.codebook.nearest(self.analysis(frame))

    def decode(self, tokens: Tensor) -> Tensor:
        """Frame of tokens: (n, h, w) int64 to (n, 1, 8h, 8w)."""
        output: Tensor = self.synthesis(self.codebook.lookup(tokens))
        return output


class Analysis(nn.Module):
    """Frame to latents: unshuffle by 4, one stride of 2, then a 1x1 projection without ReLU."""

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        layers = [ConvUnit(16, config.fine, 3), ConvUnit(config.fine, config.coarse, 3, stride=2)]
        layers += [ConvUnit(config.coarse, config.coarse, 3) for _ in range(config.encoder_depth)]
        layers += [ConvUnit(config.coarse, config.code_dim, 1, relu=False)]
        self.layers = nn.ModuleList(layers)

    def forward(self, frame: Tensor) -> Tensor:
        """Latents of a frame: (n, 1, 8h, 8w) to (n, code_dim, h, w)."""
        x = space_to_depth(frame, 4)
        for layer in self.layers:
            x = layer(x)
        return x


class Synthesis(nn.Module):
    """Codes to frame: per-token embedding, convolutions at 1/8, shuffle, convolutions at 1/4.

    `embed` sees one code at a time, so that after training it folds with the codebook into one
    table of uint8 rows: the integer decoder starts from that table and never sees the codebook.
    """

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        self.embed = ConvUnit(config.code_dim, config.embed, 1)
        coarse = [ConvUnit(config.embed, config.coarse, 3)]
        coarse += [ConvUnit(config.coarse, config.coarse, 3) for _ in range(config.decoder_depth)]
        coarse += [ConvUnit(config.coarse, 4 * config.fine, 1)]
        self.coarse = nn.ModuleList(coarse)
        self.fine = nn.ModuleList(
            [ConvUnit(config.fine, config.fine, 3), ConvUnit(config.fine, 16, 3, relu=False)]
        )

    def forward(self, code: Tensor) -> Tensor:
        """Frame of codes: (n, code_dim, h, w) to (n, 1, 8h, 8w)."""
        return self.from_rows(self.embed(code))

    def from_rows(self, rows: Tensor) -> Tensor:
        """Frame of table rows: (n, embed, h, w) to (n, 1, 8h, 8w)."""
        x = rows
        for layer in self.coarse:
            x = layer(x)
        x = depth_to_space(x, 2)
        for layer in self.fine:
            x = layer(x)
        return depth_to_space(x, 4)


class ConvUnit(nn.Module):
    """Convolution with zero padding that keeps (or halves) the size, then ReLU unless told not to.

    Calibration replaces units one by one with quantized twins, which is why the pair is a module.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        relu: bool = True,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            inputs, outputs, kernel, stride=stride, padding=kernel // 2, groups=groups
        )
        self.relu = relu
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu" if relu else "linear")
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Apply to (n, inputs, h, w)."""
        y: Tensor = self.conv(x)
        return torch.relu(y) if self.relu else y


def space_to_depth(x: Tensor, block: int) -> Tensor:
    """Turn blocks into channels: (n, c, bh, bw) to (n, b*b*c, h, w), channel (row, column, c)."""
    n, c, height, width = x.shape
    h, w = height // block, width // block
    x = x.permute(0, 2, 3, 1).reshape(n, h, block, w, block * c).transpose(2, 3)
    return x.reshape(n, h, w, block * block * c).permute(0, 3, 1, 2)


def depth_to_space(x: Tensor, block: int) -> Tensor:
    """Invert `space_to_depth`: (n, b*b*c, h, w) to (n, c, bh, bw)."""
    n, channels, h, w = x.shape
    c = channels // (block * block)
    x = x.permute(0, 2, 3, 1).reshape(n, h, w, block, block * c).transpose(2, 3)
    return x.reshape(n, h * block, w * block, c).permute(0, 3, 1, 2)
