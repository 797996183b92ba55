"""Where the heart is: a light residual U-Net that names each pixel of a short-axis frame.

The encoder is a ResNet-18 (He et al., CVPR 2016, Section 4.1) made narrow, with two residual blocks
a scale; the decoder goes back up by bilinear interpolation and adds the encoder's map of each scale
(Ronneberger et al., MICCAI 2015, concatenates it). A pixel shuffle by 2 at both ends keeps every
convolution at half the resolution or below, which is what makes a frame cheap on a CPU.

Batch normalization folds into the convolutions on export.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own convention)
from torch import Tensor, nn

from edge_codec.nn.vqvae import CODE_SCALE

STRIDE = 16
"""Sides of the frames inside the network are multiples of it."""

CLASSES = ("background", "RV", "myocardium", "LV")
"""Names of the labels 0 to 3."""


@dataclass(frozen=True, slots=True)
class SegmentationConfig:
    """Sizes of the network.

    Parameters
    ----------
    widths : tuple of int
        Channels at 1/2, 1/4, 1/8 and 1/16 of the resolution.
    """

    widths: tuple[int, ...] = (20, 40, 72, 112)


class SegmentationNetwork(nn.Module):
    """Frame to logits of the four `CLASSES`, for frames of any size.

    Parameters
    ----------
    config : SegmentationConfig
    """

    def __init__(self, config: SegmentationConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.widths
        self.stem = ConvNorm(4, widths[0], 3)
        stages = [nn.Sequential(ResidualBlock(widths[0], widths[0]))]
        for inputs, outputs in pairwise(widths):
            first = ResidualBlock(inputs, outputs, stride=2)
            stages.append(nn.Sequential(first, ResidualBlock(outputs, outputs)))
        self.encoder = nn.ModuleList(stages)
        upward = list(pairwise(widths[::-1]))
        self.narrow = nn.ModuleList([ConvNorm(i, o, 1) for i, o in upward])
        self.decoder = nn.ModuleList([ResidualBlock(o, o) for _, o in upward])
        self.head = nn.Conv2d(widths[0], 4 * len(CLASSES), 3, padding=1)

    def forward(self, frame: Tensor) -> Tensor:
        """Classify each pixel of frames of any size, extended by their edges inside.

        Parameters
        ----------
        frame : Tensor, shape (n, 1, rows, columns), float
            Window codes times `CODE_SCALE`.

        Returns
        -------
        Tensor, shape (n, 4, rows, columns), float
            Logits.
        """
        rows, columns = frame.shape[-2:]
        below, right = -rows % STRIDE, -columns % STRIDE
        padded = F.pad(frame, (0, right, 0, below), mode="replicate")
        return self.logits(padded)[..., :rows, :columns]

    def logits(self, frame: Tensor) -> Tensor:
        """Classify each pixel of frames whose sides are multiples of `STRIDE`."""
        return self.upward(self.features(frame))

    def upward(self, maps: list[Tensor]) -> Tensor:
        """Turn the maps of `features` into logits."""
        x = maps[-1]
        for narrow, block, side in zip(self.narrow, self.decoder, maps[-2::-1], strict=True):
            up = F.interpolate(narrow(x), scale_factor=2.0, mode="bilinear", align_corners=False)
            x = block(side + up)
        return F.pixel_shuffle(self.head(x), 2)

    def features(self, frame: Tensor) -> list[Tensor]:
        """Return the maps of the encoder, which serve feature losses too.

        Parameters
        ----------
        frame : Tensor, shape (n, 1, 16 h, 16 w), float

        Returns
        -------
        list of Tensor
            At 1/2, 1/4, 1/8 and 1/16 of the resolution, with `widths` channels.
        """
        x = self.stem(F.pixel_unshuffle(frame, 2))
        maps = []
        for stage in self.encoder:
            x = stage(x)
            maps.append(x)
        return maps


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is 1x1 where the shape changes.

    Parameters
    ----------
    inputs, outputs : int
        Channels.
    stride : int
        Of the first convolution and the shortcut.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.first = ConvNorm(inputs, outputs, 3, stride)
        self.second = ConvNorm(outputs, outputs, 3, relu=False)
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else ConvNorm(inputs, outputs, 1, stride, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, inputs, h, w) to (n, outputs, h / stride, w / stride)."""
        return torch.relu(self.second(self.first(x)) + self.shortcut(x))


class ConvNorm(nn.Module):
    """Convolution with zero padding, batch normalization, then ReLU unless told not to.

    Parameters
    ----------
    inputs, outputs, kernel, stride : int
    relu : bool
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, relu: bool = True
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, inputs, h, w) to (n, outputs, h / stride, w / stride)."""
        y: Tensor = self.norm(self.conv(x))
        return torch.relu(y) if self.relu else y


def frame_of_codes(codes: Tensor) -> Tensor:
    """Turn window codes (any dtype, 0 to 255) into what the network takes."""
    return codes.float() * CODE_SCALE
