"""One network for all rates: what depends on the quality index, 0 (smallest) to 63 (best).

The index enters in two ways only, both of which stay integer after export: tables of quantization
steps, and tables of biases that are added before a ReLU. Both are learned at a few anchors and
interpolated linearly between them.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

MAX_QUALITY = 63
ANCHORS = 10
"""Learned entries per table: one every 7 indices."""

LOWEST_TRADE_OFF = 16.0
INDICES_PER_OCTAVE = 6.0


def trade_off(quality: Tensor) -> Tensor:
    """Bits per pixel that a unit of mean squared error is worth at a quality index.

    It doubles every 6 indices, as in video coding (H.264 and later); a frame's unit is the width
    of its exam's intensity window.
    """
    return LOWEST_TRADE_OFF * torch.exp2(quality / INDICES_PER_OCTAVE)


def best_step(quality: float) -> float:
    """Step of a uniform quantizer whose slope at high rate is the index's trade-off.

    D = step^2 / 12 per sample and R = -log2(D) / 2 + const. give -dR/dD = 6 / (ln 2 step^2).
    """
    value = LOWEST_TRADE_OFF * 2.0 ** (quality / INDICES_PER_OCTAVE)
    return math.sqrt(6.0 / (math.log(2.0) * value))


class QualityTable(nn.Module):
    """Learned values per channel, interpolated over the quality index.

    Parameters
    ----------
    start : Tensor, shape (ANCHORS, channels), float
    """

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.table = nn.Parameter(start.clone())

    def forward(self, quality: Tensor) -> Tensor:
        """Values at indices (n,), 0..63, fractions allowed: shape (n, channels, 1, 1)."""
        position = quality.clamp(0, MAX_QUALITY) * ((ANCHORS - 1) / MAX_QUALITY)
        below = position.floor().clamp(max=ANCHORS - 2)
        part = (position - below)[:, None]
        index = below.long()
        values = torch.lerp(self.table[index], self.table[index + 1], part)
        return values[:, :, None, None]


def bias_table(channels: int) -> QualityTable:
    """Table of biases, zero at the start."""
    return QualityTable(torch.zeros(ANCHORS, channels))


class _Bounded(torch.autograd.Function):
    """Clip; outside, the gradient passes where it leads back inside."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.low, ctx.high = low, high
        return x.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        gradient = gradients[0]
        stuck = ((x < ctx.low) & (gradient > 0)) | ((x > ctx.high) & (gradient < 0))
        return gradient.masked_fill(stuck, 0.0), None, None


def bounded(x: Tensor, low: float, high: float) -> Tensor:
    """Clip to `low`..`high`; what lies outside still learns to come back."""
    y: Tensor = _Bounded.apply(x, low, high)  # type: ignore[no-untyped-call]
    return y


def hard_gate(x: Tensor) -> Tensor:
    """Clip to 0..1, so that a gate can close entirely, and still learn to open again."""
    return bounded(x, 0.0, 1.0)
