"""Changes of a labeled cine that leave its anatomy possible.

One change is drawn for a whole cine: a rotation of at most 5 degrees, a scale of 0.9 to 1.1 along
rows and along columns, a heart that beats at 0.8 to 1.2 times the pace, and a contrast of 0.8 to
1.2. All frames are resampled alike, and their labels with them. There are no flips and no free
deformations: the heart stays on its side, and its walls stay walls.

A pixel's new label is that which has the largest share in it, each class resampled linearly as a
picture of its own: no class comes up between two others, and contours stay where the image has
them. The label of the nearest pixel would shift whole contours by up to half a pixel.

The pace changes by resampling in time, linearly, from the first phase to the last: no phase is made
up between the last and the first, as not every cine covers the whole cycle. *Marked* phases, such
as end-diastole and end-systole, keep their very frame, which is never mixed with its neighbors;
their labels move with them. Labels of every phase go by the nearest one.

PyTorch's own `affine_grid` and `grid_sample` do the work. docs/data.md says why not a library of
augmentations. `augment.py` has the stronger changes that the video codec trains on; it has no
labels to keep.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own convention)
from numpy.typing import NDArray
from torch import Tensor

from edge_codec.errors import FrameError, SpecError

MAX_ROTATION_DEGREES = 5.0
SCALE_RANGE = (0.9, 1.1)
TEMPO_RANGE = (0.8, 1.2)
CONTRAST_RANGE = (0.8, 1.2)

_ROUNDING = 1e-9  # of products such as 10 * 1.2


@dataclass(frozen=True, slots=True)
class CineLimits:
    """How far changes may go: at most as far as is safe, 1 or 0 for not at all.

    Attributes
    ----------
    rotation_degrees : float
        Largest angle to either side.
    scale, tempo, contrast : tuple of float
        Smallest and largest factor. Tempo is the number of phases after to that before.

    Raises
    ------
    SpecError
        If a limit goes beyond what is safe for anatomy.
    """

    rotation_degrees: float = MAX_ROTATION_DEGREES
    scale: tuple[float, float] = SCALE_RANGE
    tempo: tuple[float, float] = TEMPO_RANGE
    contrast: tuple[float, float] = CONTRAST_RANGE

    def __post_init__(self) -> None:
        """Compare with what is safe."""
        if not 0.0 <= self.rotation_degrees <= MAX_ROTATION_DEGREES:
            raise SpecError(
                f"rotation of up to {self.rotation_degrees} degrees; 0 to {MAX_ROTATION_DEGREES} "
                "is safe for anatomy"
            )
        for name, (low, high), (least, most) in (
            ("scale", self.scale, SCALE_RANGE),
            ("tempo", self.tempo, TEMPO_RANGE),
            ("contrast", self.contrast, CONTRAST_RANGE),
        ):
            if not least <= low <= 1.0 <= high <= most:
                raise SpecError(
                    f"{name} of {low} to {high}; expected a range about 1 within {least} to "
                    f"{most}, which is safe for anatomy"
                )


@dataclass(frozen=True, slots=True)
class CineChange:
    """What is done to a cine.

    Attributes
    ----------
    rotation_degrees : float
        Counterclockwise as images are shown, rows downward.
    scale : tuple of float
        Factors along rows and columns; above 1 enlarges.
    tempo : float
        Number of phases after to that before, before rounding.
    contrast : float
        Factor of differences to the cine's mean.
    """

    rotation_degrees: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    tempo: float = 1.0
    contrast: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class ChangedCine:
    """A cine after a change.

    Attributes
    ----------
    frames : Tensor, shape (phases, rows, columns), float32
    labels : Tensor, shape (labeled phases, rows, columns), uint8, or None
    label_phases : tuple of int
        Which of the new phases each of `labels` belongs to.
    phase_of : dict of int to int
        New number of each marked phase.
    times : ndarray, shape (phases,), float64
        Of the new phases, in old phases.
    """

    frames: Tensor
    labels: Tensor | None
    label_phases: tuple[int, ...]
    phase_of: dict[int, int]
    times: NDArray[np.float64]


def draw_change(rng: np.random.Generator, limits: CineLimits) -> CineChange:
    """Draw a change: every part evenly within its limits."""
    return CineChange(
        float(rng.uniform(-limits.rotation_degrees, limits.rotation_degrees)),
        (float(rng.uniform(*limits.scale)), float(rng.uniform(*limits.scale))),
        float(rng.uniform(*limits.tempo)),
        float(rng.uniform(*limits.contrast)),
    )


def change_cine(
    frames: Tensor,
    change: CineChange,
    labels: Tensor | None = None,
    label_phases: Sequence[int] = (),
    marked: Collection[int] = (),
) -> ChangedCine:
    """Change a cine and its labels.

    Parameters
    ----------
    frames : Tensor, shape (phases, rows, columns), float32
        In any unit; the range of values is kept.
    change : CineChange
    labels : Tensor, shape (labeled phases, rows, columns), uint8, optional
    label_phases : sequence of int
        Which phase each of `labels` belongs to, increasing.
    marked : collection of int
        Phases whose new number is wanted. Those with labels are marked, too, unless all are.

    Returns
    -------
    ChangedCine

    Raises
    ------
    FrameError
        If labels and frames do not fit, or a marked phase is not there.
    """
    _check(frames, labels, label_phases, marked)
    every_phase = tuple(label_phases) == tuple(range(len(frames)))
    kept = sorted({*marked, *(() if every_phase else label_phases)})
    times, places = resample_times(len(frames), change.tempo, kept)
    phase_of = dict(zip(kept, places, strict=True))
    moved = _move(_at_times(frames, times), change, "bicubic")
    low, high = frames.min(), frames.max()
    changed = _scale_contrast(moved.clamp(low, high), change.contrast).clamp(low, high)
    if labels is None:
        return ChangedCine(changed, None, (), phase_of, times)
    if every_phase:
        labels = labels[torch.from_numpy(np.rint(times).astype(np.int64))]
        new_phases = tuple(range(len(times)))
    else:
        new_phases = tuple(phase_of[phase] for phase in label_phases)
    return ChangedCine(changed, _move_labels(labels, change), new_phases, phase_of, times)


def resample_times(
    count: int, tempo: float, kept: Sequence[int]
) -> tuple[NDArray[np.float64], list[int]]:
    """Return when the new phases are, in old ones, and where phases to keep come to lie.

    Parameters
    ----------
    count : int
        Phases of the cine.
    tempo : float
        Wanted ratio of new to old phases; the number is rounded, but not beyond `TEMPO_RANGE`.
    kept : sequence of int
        Phases that stay whole frames, increasing.

    Returns
    -------
    times : ndarray, shape (new phases,), float64
        Increasing from 0 to `count - 1`. Where two kept phases would fall on one, nothing changes.
    places : list of int
        Of `kept` among the new phases.
    """
    least = math.ceil(count * TEMPO_RANGE[0] - _ROUNDING)
    most = math.floor(count * TEMPO_RANGE[1] + _ROUNDING)
    new = min(max(round(count * tempo), least), most)
    anchors = np.array(sorted({0, count - 1, *kept}))
    places = np.rint(anchors * (new - 1) / max(count - 1, 1)).astype(np.int64)
    if new == count or np.any(np.diff(places) < 1):
        return np.arange(count, dtype=np.float64), list(kept)
    times = np.interp(np.arange(new), places, anchors)
    return times, [int(places[np.searchsorted(anchors, phase)]) for phase in kept]


def _at_times(frames: Tensor, times: NDArray[np.float64]) -> Tensor:
    """Interpolate linearly between neighboring phases."""
    before = np.floor(times).astype(np.int64)
    after = np.minimum(before + 1, len(frames) - 1)
    share = torch.from_numpy((times - before).astype(np.float32))[:, None, None]
    return torch.lerp(frames[torch.from_numpy(before)], frames[torch.from_numpy(after)], share)


def _move(stack: Tensor, change: CineChange, mode: str) -> Tensor:
    """Scale along the axes, then turn about the middle; edges are extended."""
    if not _moves(change):
        return stack
    rows, columns = stack.shape[1:]
    angle = math.radians(change.rotation_degrees)
    cosine, sine = math.cos(angle), math.sin(angle)
    by_rows, by_columns = change.scale
    # From places in the result to those in the source, in half widths and half heights.
    matrix = torch.tensor((
        (cosine / by_columns, -sine / by_columns * rows / columns, 0.0),
        (sine / by_rows * columns / rows, cosine / by_rows, 0.0),
    ))  # fmt: skip
    grid = F.affine_grid(matrix[None], [1, 1, rows, columns], align_corners=False)
    return F.grid_sample(
        stack[None], grid, mode=mode, padding_mode="border", align_corners=False
    )[0]  # fmt: skip


def _move_labels(labels: Tensor, change: CineChange) -> Tensor:
    """Give each pixel the class that has the largest share in it."""
    if not _moves(change):
        return labels
    classes = torch.from_numpy(np.unique(labels.numpy()))
    pictures = (labels == classes[:, None, None, None]).float().flatten(0, 1)
    shares = _move(pictures, change, "bilinear").reshape(len(classes), *labels.shape)
    winners: Tensor = classes[shares.argmax(dim=0)]
    return winners


def _moves(change: CineChange) -> bool:
    return change.rotation_degrees != 0.0 or change.scale != (1.0, 1.0)


def _scale_contrast(frames: Tensor, contrast: float) -> Tensor:
    mean = frames.mean()
    return mean + contrast * (frames - mean)


def _check(
    frames: Tensor,
    labels: Tensor | None,
    label_phases: Sequence[int],
    marked: Collection[int],
) -> None:
    if frames.ndim != 3 or frames.dtype != torch.float32:
        raise FrameError(
            f"a cine of shape {tuple(frames.shape)} and {frames.dtype}; expected (phases, rows, "
            "columns) of float32"
        )
    expected = (len(label_phases), *frames.shape[1:])
    found = (0, *frames.shape[1:]) if labels is None else tuple(labels.shape)
    if found != expected:
        raise FrameError(f"labels of shape {found}, expected {expected}")
    if list(label_phases) != sorted(set(label_phases)):
        raise FrameError(f"labels of phases {tuple(label_phases)}; put them in order")
    outside = [phase for phase in (*label_phases, *marked) if not 0 <= phase < len(frames)]
    if outside:
        raise FrameError(f"phase {outside[0]} is outside the cine's {len(frames)} phases")
