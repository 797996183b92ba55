"""Where the heart is: from an expert's labels where the exam has them, otherwise from what moves.

Labels are looked for where the ACDC data set keeps them (Bernard et al., IEEE TMI 2018): beside
`NAME_4d.nii.gz` as `NAME_frameNN_gt.nii.gz`, right ventricle 1, myocardium 2, left ventricle 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.errors import SourceError
from edge_codec.io import open_source
from edge_codec.metrics.motion import dilated, heart_region

LABEL_MARGIN = 3  # pixels around the labels: some 5 mm, the walls' blood pool borders and fat
CROP_STEP = 8
MIN_CROP = 72  # x265 gives up its largest blocks at 64
FULL_SERIES = "_4d"


@dataclass(frozen=True, slots=True, eq=False)
class Heart:
    """The region of the heart in an exam.

    Attributes
    ----------
    region : ndarray, shape (slices, rows, columns), bool
        With labels: any structure in any labelled phase, and `LABEL_MARGIN` pixels around, slice
        by slice. Without: `edge_codec.metrics.motion.heart_region`.
    found_by : str
        'labels' or 'motion'.
    """

    region: NDArray[np.bool_]
    found_by: str


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of a frame: its first row and column, and its size, in pixels."""

    top: int
    left: int
    rows: int
    columns: int

    @property
    def place(self) -> tuple[slice, slice]:
        """Index of the rectangle in (rows, columns)."""
        return (
            slice(self.top, self.top + self.rows),
            slice(self.left, self.left + self.columns),
        )


def find_heart(path: Path, voxels: NDArray[Any]) -> Heart:
    """Find the heart in an exam.

    Parameters
    ----------
    path : Path
        Where the exam was read from.
    voxels : ndarray, shape (slices, phases, rows, columns)
        Stored values of the whole exam.

    Raises
    ------
    SourceError
        If there are labels that cannot be read or are of another size.
    """
    labels = label_files(path)
    if not labels:
        return Heart(heart_region(voxels), "motion")
    marked = np.zeros((voxels.shape[0], *voxels.shape[2:]), dtype=np.bool_)
    for file in labels:
        for frame in open_source(file).frames():
            if frame.samples.shape != marked.shape[1:] or frame.slice_index >= len(marked):
                raise SourceError(
                    f"{file.name} has frames of {frame.samples.shape} and {path.name} of "
                    f"{marked.shape[1:]}; labels must be of the exam's size"
                )
            marked[frame.slice_index] |= frame.samples > 0
    return Heart(dilated(marked, LABEL_MARGIN), "labels")


def label_files(path: Path) -> list[Path]:
    """Return the label files of an exam, sorted; empty where it has none."""
    name, mark, suffix = path.name.partition(FULL_SERIES + ".nii")
    if not mark or not path.is_file():
        return []
    return sorted(path.parent.glob(f"{name}_frame*_gt.nii{suffix}"))


def heart_box(region: NDArray[np.bool_]) -> Box:
    """Return the smallest box around a region whose sides are multiples of 8 and at least 72.

    Where the frame ends before, the largest multiple of 8 that it holds.

    Parameters
    ----------
    region : ndarray, shape (slices, rows, columns), bool

    Raises
    ------
    SourceError
        If nothing is marked, or the frame is smaller than 8 pixels.
    """
    if not region.any() or min(region.shape[1:]) < CROP_STEP:
        raise SourceError("no heart was found: nothing moves and there are no labels to crop by")
    sides = []
    for axis in (0, 1):
        marked = np.flatnonzero(region.any(axis=(0, 2 - axis)))
        length = region.shape[1 + axis]
        wanted = max(MIN_CROP, int(marked[-1] - marked[0]) + 1)
        size = min(-(-wanted // CROP_STEP), length // CROP_STEP) * CROP_STEP
        middle = int(marked[0] + marked[-1] + 1) // 2
        sides.append((min(max(0, middle - size // 2), length - size), size))
    return Box(sides[0][0], sides[1][0], sides[0][1], sides[1][1])
