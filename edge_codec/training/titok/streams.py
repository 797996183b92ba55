"""Batches in which every element is a cine that goes on from step to step.

A frame of this codec depends on the decoded frame before it, so that a batch of unrelated clips
would train first frames most. Here each element is a *stream*: one cine is played, from any phase,
around and around, one frame a step, and after a *life* of some frames the next cine begins. The
decoded frame before is kept from one step to the next, without gradient. So every step trains
frames of all ages, at the price of single frames. There are more streams than a batch takes: they
are shuffled and dealt out, and all have had their turn before any has its next.

The n-th life of a stream depends on the seed, the stream's number and n alone, so that what a
checkpoint has to keep is n and how many frames of the life are over.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own convention)
from numpy.typing import NDArray
from torch import Tensor

from edge_codec.base.titok.conditions import ClinicalFacts
from edge_codec.spec import WINDOW_ONE
from edge_codec.training.augment import smooth_field
from edge_codec.training.cine_augment import CineChange, change_cine, draw_change
from edge_codec.training.titok.cines import FittedCine, Library
from edge_codec.training.titok.config import StreamOptions

STILL_PHASES = (12, 30)
STILL_MOTION_PX = 2.5
"""Of the cycle that is made out of a cine of one phase, and of its largest motion."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """One frame each of some streams.

    Attributes
    ----------
    members, turn : Tensor, shape (n,), int64
        Which streams they are, and how many turns each had before.
    frame, before : Tensor, shape (n, 1, side, side)
        The frame, and the stream's frame before it; the frame itself in a life's first step.
    cycle : Tensor, shape (n,), int64
        How many frames before this very frame was shown; 0 where it was not, in this life.
    inside, heart : Tensor, shape (n, 1, side, side)
        1 where the canvas shows the frame, and where experts say heart.
    clinical : Tensor, shape (n, 12)
        Facts, see `ClinicalFacts.vector`.
    fresh : Tensor, shape (n,), bool
        Where a life begins.
    """

    members: Tensor
    turn: Tensor
    frame: Tensor
    before: Tensor
    cycle: Tensor
    inside: Tensor
    heart: Tensor
    clinical: Tensor
    fresh: Tensor

    def to(self, device: str) -> Batch:
        """Copy to a device."""
        return Batch(*(getattr(self, name).to(device) for name in self.__slots__))


@dataclass(frozen=True, slots=True, eq=False)
class Life:
    """One cine as a stream plays it.

    `frames` and `heart` are (phases, side, side), `order` says which phase is shown when, `times`
    which phase of the cine as it was recorded each one is.
    """

    frames: Tensor
    heart: Tensor
    inside: Tensor
    order: NDArray[np.int64]
    times: NDArray[np.float64]
    facts: ClinicalFacts

    def show(self, at: int) -> dict[str, Tensor]:
        """Return a batch's fields of the frame at a position, without the batch axis."""
        phases = len(self.frames)
        moving = phases > 1 and at >= phases
        return {
            "frame": self.frames[self.order[at]][None],
            "before": self.frames[self.order[max(at - 1, 0)]][None],
            "cycle": torch.tensor(phases if moving else 0),
            "inside": self.inside[None],
            "heart": self.heart[self.order[at]][None],
            "clinical": torch.from_numpy(
                self.facts.vector(round(float(self.times[self.order[at]])))
            ),
            "fresh": torch.tensor(at == 0),
        }


class Streams:
    """Endless batches out of a library.

    Parameters
    ----------
    library : Library
    options : StreamOptions
    seed : int
    """

    def __init__(self, library: Library, options: StreamOptions, seed: int) -> None:
        self._library = library
        self._options = options
        self._seed = seed
        self._count = options.batch * options.rounds
        self._steps = 0
        self._numbers = [0] * self._count
        self._positions = [0] * self._count
        self._lives: list[Life | None] = [None] * self._count

    def next(self) -> Batch:
        """Return the next frames of the streams whose turn it is."""
        turn, part = divmod(self._steps, self._options.rounds)
        self._steps += 1
        members = self._dealt(turn)[part :: self._options.rounds]
        shown = [self._advance(stream) for stream in members.tolist()]
        return Batch(
            members=torch.from_numpy(members),
            turn=torch.full((len(members),), turn),
            **{name: torch.stack([one[name] for one in shown]) for name in shown[0]},
        )

    def state(self) -> dict[str, Any]:
        """Give what `load` needs to go on."""
        return {
            "steps": self._steps,
            "numbers": list(self._numbers),
            "positions": list(self._positions),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a saved `state`."""
        self._steps = int(state["steps"])
        self._numbers, self._positions = list(state["numbers"]), list(state["positions"])
        self._lives = [None] * self._count

    def _dealt(self, turn: int) -> NDArray[np.int64]:
        """Return all streams in the order in which they have this turn."""
        if self._options.rounds == 1:
            return np.arange(self._count)
        return np.random.default_rng([self._seed, turn]).permutation(self._count)

    def _advance(self, stream: int) -> dict[str, Tensor]:
        life = self._lives[stream] or self._begin(stream)
        if self._positions[stream] >= len(life.order):
            self._numbers[stream] += 1
            self._positions[stream] = 0
            life = self._begin(stream)
        self._positions[stream] += 1
        return life.show(self._positions[stream] - 1)

    def _begin(self, stream: int) -> Life:
        rng = np.random.default_rng([self._seed, stream, self._numbers[stream]])
        life = self._lives[stream] = draw_life(self._library, self._options, rng)
        return life


def draw_life(library: Library, options: StreamOptions, rng: np.random.Generator) -> Life:
    """Draw a cine, its change, and the way through its phases."""
    cine = library[int(rng.integers(len(library)))]
    still = len(cine.codes) == 1
    frames, heart = _tensors(cine)
    if still:
        frames, heart = _beating(frames, heart, rng)
    change = draw_change(rng, options.limits)
    if rng.random() >= options.change_chance:
        change = CineChange()
    every = tuple(range(len(frames)))
    changed = change_cine(frames, change, heart, every)
    labels = torch.zeros_like(changed.frames) if changed.labels is None else changed.labels.float()
    moved = torch.cat([changed.frames, labels])
    moved = _shift(moved, options.shift, rng)
    inside = torch.from_numpy(cine.inside)
    if rng.random() < options.mirror_chance:
        moved, inside = moved.flip(2), inside.flip(1)
    phases = len(changed.times)
    length = int(rng.integers(options.life[0], options.life[1] + 1))
    step = -1 if rng.random() < options.reverse_chance else 1
    order = (rng.integers(phases) + step * np.arange(length)) % phases
    return Life(moved[:phases], moved[phases:], inside, order, changed.times, cine.facts)


def _tensors(cine: FittedCine) -> tuple[Tensor, Tensor]:
    """Return frames in the network's units, and the heart as labels 0 and 1."""
    frames = torch.from_numpy(cine.codes).float() / WINDOW_ONE
    if cine.heart is None:
        return frames, torch.zeros(frames.shape, dtype=torch.uint8)
    return frames, torch.from_numpy(cine.heart.astype(np.uint8))


def _beating(frame: Tensor, heart: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Make a cycle out of one phase by a smooth motion that comes back."""
    side = frame.shape[-1]
    phases = int(rng.integers(STILL_PHASES[0], STILL_PHASES[1] + 1))
    swing = torch.sin(torch.arange(phases) * (2 * math.pi / phases))[:, None, None, None]
    motion = swing * smooth_field(side, STILL_MOTION_PX, rng).permute(0, 2, 3, 1) * (2 / side)
    grid = F.affine_grid(torch.eye(2, 3)[None], [1, 1, side, side], align_corners=False) + motion

    def moved(stack: Tensor, mode: str) -> Tensor:
        source = stack[None].expand(phases, -1, -1, -1)
        return F.grid_sample(source, grid, mode, "border", align_corners=False)[:, 0]

    low, high = frame.min(), frame.max()
    beating = moved(frame, "bicubic").clamp(low, high)
    return beating, moved(heart.float(), "nearest").to(torch.uint8)


def _shift(stack: Tensor, part: float, rng: np.random.Generator) -> Tensor:
    """Move all of a stack (n, side, side) by whole pixels; its edges are repeated."""
    side = stack.shape[-1]
    most = int(part * side)
    down, right = (int(rng.integers(-most, most + 1)) for _ in range(2))
    if down == right == 0:
        return stack
    rows = (torch.arange(side) - down).clamp(0, side - 1)
    columns = (torch.arange(side) - right).clamp(0, side - 1)
    return stack[:, rows][:, :, columns]
