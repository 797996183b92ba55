"""The trainable spatial filter behind the synthesis, inside the loop.

It works at half the resolution on 2x2 blocks of the decoded frame and of its prediction, sees what
the synthesis knows about each position, and adds a correction through a gate. Where the gate is
closed the frame passes untouched: a filter that ran over static content again with every frame
would wear it away.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edge_codec.nn.depth_unit import silent
from edge_codec.nn.quality import bias_table
from edge_codec.nn.vqvae import ConvUnit, depth_to_space, space_to_depth

HINTS = 8  # channels of the synthesis that the filter sees
BLOCK = 2


class SpatialFilter(nn.Module):
    """Correct a decoded frame.

    Parameters
    ----------
    width : int
        Channels at half the resolution.
    features : int
        Channels of the synthesis at an eighth of the resolution.
    """

    def __init__(self, width: int, features: int) -> None:
        super().__init__()
        self.hint = ConvUnit(features, HINTS, 1)
        self.enter = ConvUnit(2 * BLOCK * BLOCK, width, 3, relu=False)
        self.spread = nn.Conv2d(HINTS, width, 1)
        self.bias = bias_table(width)
        self.middle = ConvUnit(width, width, 3)
        self.leave = silent(ConvUnit(width, BLOCK * BLOCK, 3, relu=False))

    def forward(
        self, frame: Tensor, prediction: Tensor, features: Tensor, gate: Tensor, quality: Tensor
    ) -> Tensor:
        """Filter a frame.

        Parameters
        ----------
        frame, prediction : Tensor, shape (n, 1, 8h, 8w), float
        features : Tensor, shape (n, features, h, w), float
        gate : Tensor, shape (n, 1, h, w), float
            0 keeps the block as it is, 1 corrects it in full.
        quality : Tensor, shape (n,), float

        Returns
        -------
        Tensor, shape (n, 1, 8h, 8w), float
        """
        pair = space_to_depth(frame, BLOCK), space_to_depth(frame - prediction, BLOCK)
        hint = _enlarge(self.spread(self.hint(features)) + self.bias(quality))
        x = (self.enter(torch.cat(pair, dim=1)) + hint).relu()
        correction = self.leave(self.middle(x)).float() * _enlarge(gate)
        return frame + depth_to_space(correction, BLOCK)


def _enlarge(x: Tensor) -> Tensor:
    """Repeat each position four times along both axes: an eighth to half the resolution."""
    return x.repeat_interleave(4, dim=-2).repeat_interleave(4, dim=-1)
