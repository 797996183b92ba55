"""Clips of consecutive frames to train a video codec on, drawn from packed sequences.

A cine shows one heart beat, which repeats: a clip may begin at any phase, run backward, and go
round as often as it is long. A step's clips depend on the seed and the number of the step alone, so
that training resumes where it stopped with the data it would have seen.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own convention)
from numpy.typing import NDArray
from torch import Tensor

from edge_codec.errors import SourceError
from edge_codec.training.augment import add_noise, vary_intensity, warp
from edge_codec.training.pack import CineSequence

HEART_MARGIN_PX = 4
STILL_MOTION_PX = 2.5  # of the motion given to single frames
MOVING_MOTION_PX = 1.0  # of the motion added to cines that are warped


@dataclass(frozen=True, slots=True)
class ClipOptions:
    """How clips are drawn.

    Attributes
    ----------
    size : int
        Rows and columns, a multiple of 8.
    batch : int
    frames : tuple of int
        Lengths to choose from, one per batch.
    shares : dict of str to float
        Probability of each data set; within one, sequences are equally likely.
    interest_chance : float
        Probability that a clip's middle is drawn where the image changes over time.
    warp_chance, intensity_chance, noise_chance, skip_chance : float
        Probability of each change per clip; `skip` takes every second phase.
    heart_weight : float
        Added to the weight of errors where labels say heart; the rest weighs 1.
    """

    size: int = 96
    batch: int = 8
    frames: tuple[int, ...] = (4,)
    shares: dict[str, float] = field(
        default_factory=lambda: {"sunnybrook": 0.45, "acdc": 0.4, "fullfov": 0.15}
    )
    interest_chance: float = 0.5
    warp_chance: float = 0.25
    intensity_chance: float = 0.4
    noise_chance: float = 0.15
    skip_chance: float = 0.15
    heart_weight: float = 0.5


class ClipSource:
    """Draws batches of clips.

    Parameters
    ----------
    sequences : sequence of CineSequence
    options : ClipOptions
    seed : int

    Raises
    ------
    SourceError
        If no data set that has a share has a sequence.
    """

    def __init__(self, sequences: Sequence[CineSequence], options: ClipOptions, seed: int) -> None:
        self.options = options
        self.seed = seed
        self._groups = {
            group: [_Drawable(one) for one in sequences if one.group == group]
            for group, share in options.shares.items()
            if share > 0
        }
        self._groups = {group: found for group, found in self._groups.items() if found}
        if not self._groups:
            raise SourceError(
                f"no sequence belongs to {', '.join(options.shares)}; check the pack and the shares"
            )
        shares = np.array([options.shares[group] for group in self._groups])
        self._shares = shares / shares.sum()

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Draw the batch of a step.

        Returns
        -------
        frames : Tensor, shape (batch, t, size, size), float32
            In units of the window.
        weights : Tensor, shape (batch, 1, size, size), float32
            Of the squared errors.
        """
        rng = np.random.default_rng([self.seed, step])
        length = int(rng.choice(self.options.frames))
        clips = [self._clip(length, rng) for _ in range(self.options.batch)]
        return torch.stack([clip[0] for clip in clips]), torch.stack([clip[1] for clip in clips])

    def _clip(self, length: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Draw one clip (length, size, size) and its weights (1, size, size)."""
        options = self.options
        group = list(self._groups)[rng.choice(len(self._groups), p=self._shares)]
        found = self._groups[group]
        drawn = found[rng.integers(len(found))]
        phases = _phases(len(drawn.sequence.voxels), length, rng, options.skip_chance)
        center = drawn.center(rng, options.interest_chance)
        units = drawn.sequence.voxels[phases].astype(np.float32) / np.float32(drawn.sequence.width)
        heart = drawn.heart[None].astype(np.float32)
        stack = torch.from_numpy(np.concatenate((units, heart)))
        still = len(drawn.sequence.voxels) == 1
        if still or rng.random() < options.warp_chance:
            motion = STILL_MOTION_PX if still else MOVING_MOTION_PX
            stack = warp(stack, center, options.size, rng, motion)
        else:
            stack = _window(stack, center, options.size)
        stack = _turn(stack, rng)
        frames, heart_part = stack[:-1], stack[-1:].clamp(0.0, 1.0)
        if rng.random() < options.intensity_chance:
            frames = vary_intensity(frames, rng)
        if rng.random() < options.noise_chance:
            frames = add_noise(frames, rng)
        return frames, 1.0 + options.heart_weight * heart_part


def batches(
    source: ClipSource, first: int, last: int, workers: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches of steps `first` up to `last`, drawn ahead by threads if there are any.

    Threads help where the training itself runs on a GPU: they change no batch.
    """
    if workers == 0:
        yield from map(source.batch, range(first, last))
        return
    with ThreadPoolExecutor(workers) as pool:
        ahead: deque[Future[tuple[Tensor, Tensor]]] = deque()
        for step in range(first, last):
            while len(ahead) < workers and step + len(ahead) < last:
                ahead.append(pool.submit(source.batch, step + len(ahead)))
            yield ahead.popleft().result()


class _Drawable:
    """A sequence with what drawing from it needs."""

    def __init__(self, sequence: CineSequence) -> None:
        self.sequence = sequence
        self.heart = _grow(sequence.heart, HEART_MARGIN_PX)
        change = sequence.voxels.astype(np.float32).std(axis=0)
        if len(sequence.voxels) == 1:
            change = self.heart.astype(np.float32)
        total = np.cumsum(change.astype(np.float64))
        self._interest = total / total[-1] if total[-1] > 0 else None

    def center(self, rng: np.random.Generator, interest_chance: float) -> tuple[int, int]:
        """Draw the middle of a clip: anywhere, or where the image changes."""
        rows, columns = self.sequence.voxels.shape[1:]
        if self._interest is not None and rng.random() < interest_chance:
            place = int(np.searchsorted(self._interest, rng.random()))
            return min(place, rows * columns - 1) // columns, place % columns
        return int(rng.integers(rows)), int(rng.integers(columns))


def _grow(mask: NDArray[np.bool_], margin: int) -> NDArray[np.bool_]:
    """Add all pixels within a square of `margin` around the mask."""
    source = torch.from_numpy(mask.astype(np.float32))[None, None]
    grown = F.max_pool2d(source, 2 * margin + 1, 1, margin)[0, 0].numpy() > 0
    return np.asarray(grown)


def _phases(
    available: int, length: int, rng: np.random.Generator, skip_chance: float
) -> NDArray[np.int64]:
    """Draw consecutive phases of a cycle, forward or backward, perhaps every second one."""
    stride = 2 if rng.random() < skip_chance else 1
    stride *= 1 if rng.random() < 0.5 else -1
    start = rng.integers(available)
    phases: NDArray[np.int64] = (start + stride * np.arange(length)) % available
    return phases


def _window(stack: Tensor, center: tuple[int, int], size: int) -> Tensor:
    """Cut a square as near to `center` as the frame allows; extend smaller frames by their edge."""
    rows, columns = stack.shape[1:]
    below, right = max(0, size - rows), max(0, size - columns)
    if below or right:
        stack = F.pad(stack[:, None], (0, right, 0, below), mode="replicate")[:, 0]
    top = min(max(center[0] - size // 2, 0), max(rows - size, 0))
    left = min(max(center[1] - size // 2, 0), max(columns - size, 0))
    return stack[:, top : top + size, left : left + size]


def _turn(stack: Tensor, rng: np.random.Generator) -> Tensor:
    """Mirror and transpose at random."""
    mirrored = [axis for axis in (1, 2) if rng.random() < 0.5]
    stack = stack.flip(mirrored) if mirrored else stack
    return stack.transpose(1, 2) if rng.random() < 0.5 else stack
