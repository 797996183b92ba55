"""The networks that `edge_codec.nn.dwt_cal` joins into a codec: contexts, analyses, synthesis."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edge_codec.nn.cross_attention import SCORES, SubbandAttention
from edge_codec.nn.depth_unit import depth_units, silent
from edge_codec.nn.lifting import COEFFICIENTS, coefficient_balance
from edge_codec.nn.quality import ANCHORS, QualityTable, bias_table, bounded, hard_gate
from edge_codec.nn.vqvae import ConvUnit

GATE_START = 0.5
"""Gates start half open."""

FEATURE_RANGE = (-8.0, 8.0)
"""Bounds of the synthesis' features, which a frame leaves to the next one."""


class KeyContext(nn.Module):
    """Stands for the context of a key frame: a learned value per channel and quality."""

    def __init__(self, features: int) -> None:
        super().__init__()
        # Not zero: without a signal no ReLU behind it would ever pass a gradient.
        self.bias = QualityTable(torch.randn(1, features).expand(ANCHORS, features))

    def forward(self, before: Tensor, features: Tensor | None, quality: Tensor) -> Tensor:
        """Give the context (n, features, h, w)."""
        n, _, h, w = before.shape
        context: Tensor = self.bias(quality).expand(n, -1, h, w)
        return context


class Context(nn.Module):
    """Features of the previous frame for all that follows."""

    balance: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.enter = ConvUnit(COEFFICIENTS + features, features, 1, relu=False)
        self.bias = bias_table(features)
        self.units = depth_units(features, 1)
        self.register_buffer("balance", coefficient_balance(), persistent=False)

    def forward(self, before: Tensor, features: Tensor, quality: Tensor) -> Tensor:
        """Context (n, features, h, w) of coefficients (n, 64, h, w) and the synthesis' features."""
        x = self.enter(torch.cat((before * self.balance, features), dim=1)) + self.bias(quality)
        y: Tensor = self.units(x.relu())
        return y


class SideAnalysis(nn.Module):
    """Finds the side latents; runs in the encoder alone."""

    balance: Tensor

    def __init__(self, features: int, side: int, inter: bool) -> None:
        super().__init__()
        inputs = 2 * COEFFICIENTS + features + (SCORES if inter else 0)
        self.enter = ConvUnit(inputs, features, 1)
        self.units = depth_units(features, 1)
        self.leave = ConvUnit(features, side, 3, stride=2, relu=False)
        self.register_buffer("balance", coefficient_balance(), persistent=False)

    def forward(
        self, change: Tensor, before: Tensor, context: Tensor, scores: Tensor | None
    ) -> Tensor:
        """Side latents (n, side, ceil(h / 2), ceil(w / 2)), not quantized."""
        parts = [change * self.balance, before * self.balance, context]
        if scores is not None:
            parts.append(scores)
        y: Tensor = self.leave(self.units(self.enter(torch.cat(parts, dim=1))))
        return y


class Analysis(nn.Module):
    """Corrects the latents; runs in the encoder alone."""

    balance: Tensor

    def __init__(self, features: int, depth: int) -> None:
        super().__init__()
        self.attention = SubbandAttention(features)
        self.enter = ConvUnit(2 * COEFFICIENTS + features, features, 1, relu=False)
        self.units = depth_units(features, depth)
        self.leave = silent(ConvUnit(features, COEFFICIENTS, 1, relu=False))
        self.register_buffer("balance", coefficient_balance(), persistent=False)

    def forward(self, residual: Tensor, known: Tensor, features: Tensor) -> Tensor:
        """Correction (n, 64, h, w) of the residual's coefficients.

        Its inputs get no gradient: through the encoder's choices alone one would grow from frame to
        frame on its way back.
        """
        residual, known = residual.detach() * self.balance, known.detach() * self.balance
        features = features.detach()
        x = self.enter(torch.cat((residual, known, features), dim=1))
        x = (x + self.attention(residual, known)).relu()
        y: Tensor = self.leave(self.units(x))
        return y.float() / self.balance


class Synthesis(nn.Module):
    """Turns decoded latents into the change of the coefficients, and features for later."""

    balance: Tensor

    def __init__(self, features: int, depth: int) -> None:
        super().__init__()
        self.enter = ConvUnit(2 * COEFFICIENTS + features, features, 1, relu=False)
        self.bias = bias_table(features)
        self.units = depth_units(features, depth)
        self.leave = silent(ConvUnit(features, COEFFICIENTS + 2, 1, relu=False))
        self.register_buffer("balance", coefficient_balance(), persistent=False)

    def forward(
        self, latents: Tensor, known: Tensor, features: Tensor, quality: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Apply to decoded latents and the prediction's coefficients, both (n, 64, h, w).

        Returns
        -------
        change : Tensor, shape (n, 64, h, w), float
            What to add to the prediction's coefficients.
        gate : Tensor, shape (n, 1, h, w), float
            Of the spatial filter.
        trunk : Tensor, shape (n, features, h, w), float
        """
        parts = latents * self.balance, known * self.balance, features
        x = self.enter(torch.cat(parts, dim=1)) + self.bias(quality)
        trunk = bounded(self.units(x.relu()), *FEATURE_RANGE)
        out = self.leave(trunk).float()
        gates = hard_gate(GATE_START + out[:, COEFFICIENTS:])
        correction = out[:, :COEFFICIENTS] / self.balance
        return latents + gates[:, :1] * correction, gates[:, 1:], trunk
