"""The block that every part of the conditional codec is made of.

Two residual steps as in the blocks of fast video codecs (Jia et al., "Towards practical real-time
neural video compression", CVPR 2025): pointwise and depthwise convolution mix positions, two
pointwise ones mix channels. ReLU is the only activation and nothing is normalized, so that each
convolution is one integer convolution after export and the sums add integers of one scale.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edge_codec.nn.vqvae import ConvUnit

RESIDUAL_GAIN = 0.1
"""Scale of a residual branch's last layer at the start: deep stacks begin close to identity."""


class DepthUnit(nn.Module):
    """Residual unit of (n, channels, h, w): mixes 3x3 positions, then channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.expand = ConvUnit(channels, channels, 1)
        self.depth = ConvUnit(channels, channels, 3, groups=channels)
        self.project = faint(ConvUnit(channels, channels, 1, relu=False))
        self.widen = ConvUnit(channels, 2 * channels, 1)
        self.narrow = faint(ConvUnit(2 * channels, channels, 1, relu=False))

    def forward(self, x: Tensor) -> Tensor:
        """Apply to (n, channels, h, w)."""
        x = x + self.project(self.depth(self.expand(x)))
        y: Tensor = x + self.narrow(self.widen(x))
        return y


def depth_units(channels: int, count: int) -> nn.Sequential:
    """Stack `count` units."""
    return nn.Sequential(*(DepthUnit(channels) for _ in range(count)))


def faint(unit: ConvUnit) -> ConvUnit:
    """Make a unit that ends a residual branch start small."""
    with torch.no_grad():
        unit.conv.weight.mul_(RESIDUAL_GAIN)
    return unit


def silent(unit: ConvUnit) -> ConvUnit:
    """Make a unit start with output zero: what it adds is learned from nothing."""
    with torch.no_grad():
        unit.conv.weight.zero_()
    return unit
