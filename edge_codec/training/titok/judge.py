"""The frozen segmentation network that terms of the loss look through."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own convention)
from torch import Tensor

from edge_codec.nn.segmentation import SegmentationNetwork
from edge_codec.nn.vqvae import CODE_SCALE
from edge_codec.spec import WINDOW_ONE

BRIGHTEST = 255 / WINDOW_ONE


@dataclass(frozen=True, slots=True, eq=False)
class Judgment:
    """What the network sees in frames.

    Attributes
    ----------
    maps : list of Tensor
        Of its encoder, at 1/2 to 1/16 of the resolution.
    logits : Tensor, shape (n, 4, side, side)
    """

    maps: list[Tensor]
    logits: Tensor

    @property
    def probabilities(self) -> Tensor:
        """Of the four classes, shape (n, 4, side, side)."""
        return self.logits.softmax(1)

    @property
    def labels(self) -> Tensor:
        """The likeliest class, shape (n, side, side), int64."""
        return self.logits.argmax(1)

    @property
    def heart(self) -> Tensor:
        """1 where the likeliest class is not the background, shape (n, 1, side, side)."""
        return (self.labels > 0).float()[:, None]


class Judge:
    """Looks at frames on the canvas; gradients pass through it, its weights stay.

    Parameters
    ----------
    network : SegmentationNetwork
    """

    def __init__(self, network: SegmentationNetwork) -> None:
        self._network = network.eval().requires_grad_(False)

    def to(self, device: str) -> Judge:
        """Move to a device."""
        self._network.to(device)
        return self

    def __call__(self, frame: Tensor) -> Judgment:
        """Look at frames (n, 1, side, side) where 1 is the window."""
        codes = frame.clamp(0.0, BRIGHTEST) * (WINDOW_ONE * CODE_SCALE)
        maps = self._network.features(codes)
        return Judgment(maps, self._network.upward(maps))


def feature_distance(first: list[Tensor], second: list[Tensor]) -> Tensor:
    """Distance of feature maps, each position's features brought to length 1, shape (n,).

    Zhang et al., CVPR 2018, "The unreasonable effectiveness of deep features as a perceptual
    metric", eq. 1 without learned weights, averaged over the scales.
    """
    distances = [
        (F.normalize(one, dim=1) - F.normalize(other, dim=1)).square().sum(1).mean((1, 2))
        for one, other in zip(first, second, strict=True)
    ]
    return torch.stack(distances).mean(0)
