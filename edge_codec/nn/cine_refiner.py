"""A whole decoded cine at once: what later phases show is put back into earlier ones.

A frame of `titok` is painted from what came before it, so that the first ones of a group are the
worst, though what does not move is shown well twenty frames later, and the heart is back where it
was after a cycle. A file is not live: when all its frames are there, this network goes over them
together. Its convolutions see the frame; the way along time are channels taken from frames before
and after (Lin et al., 2019, "TSM: Temporal shift module for efficient video understanding"), around
the cycle, 1, 2, 4 and 8 phases away.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own convention)
from torch import Tensor, nn

from edge_codec.base.titok.refining import AGES, STEPS
from edge_codec.nn.vqvae import depth_to_space, space_to_depth

PLANES = 4
SHIFTED = 4
"""One of so many channels comes from later frames, and as many from earlier ones."""


@dataclass(frozen=True, slots=True)
class RefinerConfig:
    """Sizes of the network.

    Attributes
    ----------
    fine, middle : int
        Channels at 1/4 and 1/8 of the resolution.
    """

    fine: int = 64
    middle: int = 128


class CineRefiner(nn.Module):
    """Decoded frames of one slice to better ones.

    Parameters
    ----------
    config : RefinerConfig
    """

    def __init__(self, config: RefinerConfig) -> None:
        super().__init__()
        self.config = config
        fine, middle = config.fine, config.middle
        self.trust = nn.Parameter(0.3 * torch.arange(AGES, dtype=torch.float32).clamp(max=12))
        self.stem = nn.Conv2d(16 * PLANES, fine, 3, padding=1)
        self.age = nn.Parameter(torch.zeros(AGES, fine))
        self.enter = nn.ModuleList(_AlongTime(fine) for _ in STEPS[:2])
        self.down = nn.Conv2d(fine, middle, 3, stride=2, padding=1)
        self.within = nn.ModuleList(_AlongTime(middle) for _ in STEPS)
        self.up = nn.Conv2d(middle, 4 * fine, 1)
        self.leave = nn.ModuleList(_AlongTime(fine) for _ in STEPS[:2])
        self.change = nn.Conv2d(fine, 16, 3, padding=1)
        nn.init.zeros_(self.change.weight)
        nn.init.zeros_(self.change.bias)  # type: ignore[arg-type]

    def forward(self, frames: Tensor, inside: Tensor, age: Tensor, near: Tensor) -> Tensor:
        """Refine a slice.

        Parameters
        ----------
        frames : Tensor, shape (phases, 1, side, side)
            As decoded, 0..1 is the window; the side is a multiple of 8.
        inside : Tensor, shape (1, 1, side, side)
            1 where the canvas shows the frame.
        age : Tensor, shape (phases,), int64
            Frames since the group began, at most `AGES` - 1.
        near : Tensor, shape (len(STEPS), 2, phases), int64
            For each step along time, which frame is so many later, and which so many earlier.

        Returns
        -------
        Tensor, shape (phases, 1, side, side)
        """
        x = self.stem(space_to_depth(self._planes(frames, inside, age), 4))
        x = x + self.age[age][:, :, None, None]
        for block, places in zip(self.enter, near, strict=False):
            x = block(x, places)
        y = self.down(F.gelu(x))
        for block, places in zip(self.within, near, strict=True):
            y = block(y, places)
        x = x + depth_to_space(self.up(F.gelu(y)), 2)
        for block, places in zip(self.leave, near, strict=False):
            x = block(x, places)
        refined: Tensor = frames + depth_to_space(self.change(F.gelu(x)), 4)
        return refined

    def _planes(self, frames: Tensor, inside: Tensor, age: Tensor) -> Tensor:
        """Beside each frame, the mean of all, the older weighing more, and the difference to it."""
        weights = torch.softmax(self.trust[age], 0)[:, None, None, None]
        mean = (weights * frames).sum(0, keepdim=True)
        still = mean.expand_as(frames)
        return torch.cat([frames, frames - still, still, inside.expand_as(frames)], 1)


class _AlongTime(nn.Module):
    """Two 3x3 convolutions and the way past them, before which some channels change frames.

    Parameters
    ----------
    channels : int
        Of input and output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        """Apply to (phases, channels, h, w); `places` are later and earlier frames, (2, phases)."""
        part = x.shape[1] // SHIFTED
        y = F.gelu(x)
        later, earlier = y[:, :part][places[0]], y[:, part : 2 * part][places[1]]
        y = self.first(torch.cat([later, earlier, y[:, 2 * part :]], 1))
        z: Tensor = x + self.second(F.gelu(y))
        return z
