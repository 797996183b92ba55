"""Random squares of labeled frames: place, shape, intensity and noise as another scanner's.

The heart may lie anywhere and at any angle, since a slice is planned by hand, so places are changed
more than a codec's training changes them (`edge_codec.training.augment`). Images are resampled
bilinearly, labels by the nearest pixel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own convention)
from numpy.typing import NDArray
from torch import Tensor

from edge_codec.nn.vqvae import CODE_SCALE
from edge_codec.training.segmentation_data import LabeledVolume

TOP = 255 * CODE_SCALE
"""Largest value of a frame in the network."""


@dataclass(frozen=True, slots=True)
class AugmentOptions:
    """The `augment` section of a configuration; spreads are standard deviations.

    Attributes
    ----------
    size : int
        Rows and columns of a square, a multiple of 16.
    margin : float
        Side of what is cut out of a frame, over `size`: it shrinks to `size` on average.
    fullfov_redraw : float
        Chance to draw once more where a frame of `fullfov` came.
    heart_chance, heart_spread_px : float
        Chance that a square is centered on the heart, and how far off.
    turn, any_turn_chance : float
        Spread of the angle in radians, and chance of one around the whole circle on top.
    zoom, aspect : float
        Spreads of their logarithms.
    deform : float
        Spread of smooth displacements, over half the side.
    gamma, gain, field : float
        Spreads of their logarithms; the field is a smooth gain.
    offset, noise : float
        Spread of the offset, and largest spread of the noise, in values of the network.
    blur_chance : float
        Chance of a batch to be blurred by a mean of 3x3.
    """

    size: int
    margin: float
    fullfov_redraw: float
    heart_chance: float
    heart_spread_px: float
    turn: float
    any_turn_chance: float
    zoom: float
    aspect: float
    deform: float
    gamma: float
    gain: float
    field: float
    offset: float
    noise: float
    blur_chance: float


@dataclass(frozen=True, slots=True, eq=False)
class LabeledFrame:
    """One slice of a `LabeledVolume`.

    Attributes
    ----------
    group : str
    codes, labels : ndarray, shape (rows, columns), uint8
    """

    group: str
    codes: NDArray[np.uint8]
    labels: NDArray[np.uint8]


def frames_of(volumes: list[LabeledVolume]) -> list[LabeledFrame]:
    """Return all slices of volumes."""
    return [
        LabeledFrame(volume.group, codes, labels)
        for volume in volumes
        for codes, labels in zip(volume.codes, volume.labels, strict=True)
    ]


def draw_batch(
    frames: list[LabeledFrame], options: AugmentOptions, count: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Draw a batch.

    Returns
    -------
    images : Tensor, shape (count, 1, size, size), float32
        Window codes times `CODE_SCALE`, rounded as codes are.
    labels : Tensor, shape (count, size, size), int64
    """
    squares = [cut(_pick(frames, options, rng), options, rng) for _ in range(count)]
    images = torch.from_numpy(np.stack([codes for codes, _ in squares]))[:, None]
    labels = torch.from_numpy(np.stack([found for _, found in squares]))[:, None]
    grid = random_grid(options, count, images.shape[-1], rng)
    warped = F.grid_sample(
        images.float() * CODE_SCALE, grid, padding_mode="border", align_corners=False
    )
    moved = F.grid_sample(labels.float(), grid, mode="nearest", align_corners=False)
    return vary(warped, options, rng), moved[:, 0].round().long()


def _pick(
    frames: list[LabeledFrame], options: AugmentOptions, rng: np.random.Generator
) -> LabeledFrame:
    frame = frames[rng.integers(len(frames))]
    if frame.group == "fullfov" and rng.random() < options.fullfov_redraw:
        frame = frames[rng.integers(len(frames))]
    return frame


def cut(
    frame: LabeledFrame, options: AugmentOptions, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Cut a square of `size * margin` out of a frame, often around the heart.

    A frame that is too small is extended by its edges or by black, whichever comes.
    """
    side = int(options.size * options.margin)
    codes, labels = frame.codes, frame.labels
    if min(codes.shape) < side:
        wider = [max(0, side - length) for length in codes.shape]
        sides = [(extra // 2, extra - extra // 2) for extra in wider]
        codes = np.pad(codes, sides, mode="edge") if rng.random() < 0.5 else np.pad(codes, sides)
        labels = np.pad(labels, sides)
    extent = np.array(codes.shape)
    center = rng.uniform(0, extent)
    if rng.random() < options.heart_chance and labels.any():
        middle = np.argwhere(labels).mean(axis=0)
        center = middle + rng.normal(0, options.heart_spread_px, 2)
    row, column = np.clip(center - side // 2, 0, extent - side).astype(int)
    place = np.s_[row : row + side, column : column + side]
    return codes[place], labels[place]


def random_grid(options: AugmentOptions, count: int, side: int, rng: np.random.Generator) -> Tensor:
    """Draw where to sample squares of `side`, shape (count, size, size, 2), for `grid_sample`."""
    turn = rng.normal(0, options.turn, count)
    anywhere = rng.random(count) < options.any_turn_chance
    turn += anywhere * rng.uniform(-math.pi, math.pi, count)
    zoom = np.exp(rng.normal(0, options.zoom, count)) * options.size / side
    aspect = np.exp(rng.normal(0, options.aspect, count))
    along, across = np.cos(turn) * zoom, np.sin(turn) * zoom
    none = np.zeros(count)
    rows = [[along * aspect, -across, none], [across, along / aspect, none]]
    theta = torch.from_numpy(np.array(rows, np.float32)).permute(2, 0, 1)
    shape = (count, 1, options.size, options.size)
    grid = F.affine_grid(theta, list(shape), align_corners=False)
    return grid + _smooth(options.deform, (count, 2, 5, 5), options.size, rng).permute(0, 2, 3, 1)


def vary(images: Tensor, options: AugmentOptions, rng: np.random.Generator) -> Tensor:
    """Change gamma, gain and offset, add a smooth gain and noise, blur some, and round to codes."""
    count, size = len(images), images.shape[-1]

    def one_each(values: NDArray[np.float64]) -> Tensor:
        return torch.from_numpy(values.astype(np.float32)).view(-1, 1, 1, 1)

    gamma = one_each(np.exp(rng.normal(0, options.gamma, count)))
    gain = one_each(np.exp(rng.normal(0, options.gain, count)))
    offset = one_each(rng.normal(0, options.offset, count))
    field = _smooth(options.field, (count, 1, 3, 3), size, rng).exp()
    varied = ((images / 2).clamp(0, 1) ** gamma * 2 * gain + offset) * field
    noise = torch.from_numpy(rng.standard_normal(images.shape, np.float32))
    varied = varied + noise * one_each(rng.uniform(0, options.noise, count))
    if rng.random() < options.blur_chance:
        varied = F.avg_pool2d(F.pad(varied, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return (varied.clamp(0, TOP) / CODE_SCALE).round() * CODE_SCALE


def _smooth(
    spread: float, shape: tuple[int, int, int, int], size: int, rng: np.random.Generator
) -> Tensor:
    """Draw a smooth random field from a few knots, shape (n, c, size, size)."""
    knots = torch.from_numpy(rng.standard_normal(shape, np.float32)) * spread
    return F.interpolate(knots, (size, size), mode="bicubic", align_corners=False)
