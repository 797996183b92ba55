"""A cine on the bench: its voxels, and what is needed to judge a decoded copy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.bench.rd.heart import Box, Heart, find_heart, heart_box
from edge_codec.cine import Cine
from edge_codec.errors import SourceError
from edge_codec.io import open_source
from edge_codec.io.samples import to_integers
from edge_codec.metrics.motion import moving_region
from edge_codec.spec import SampleFormat, SourceHeader

SUFFIXES = (".nii.gz", ".nii", ".npy", ".dcm")
CROP_MARK = "-heart"


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """What is coded, and the reference for every figure.

    Attributes
    ----------
    name : str
        Name of the file or folder, without its suffix.
    cine : Cine
        What our codec codes: voxels, geometry and the source's own headers.
    voxels : ndarray, shape (slices, phases, rows, columns), integer
        Stored integers of `cine`: what peers code and decoded voxels are compared with.
    peak, peak_p995 : float
        Maximum and 99.5th percentile of the whole exam, also where only a part of it is coded.
    region : ndarray, shape (slices, rows, columns), bool
        `edge_codec.metrics.motion.moving_region` of the whole exam's slices.
    heart : Heart
        The region of the heart, found in the whole exam.
    part : str
        Which part of the exam is coded; empty for all of it.
    """

    name: str
    cine: Cine
    voxels: NDArray[Any]
    peak: float
    peak_p995: float
    region: NDArray[np.bool_]
    heart: Heart
    part: str = ""

    @property
    def offset(self) -> int:
        """What peers, who take no negative values, subtract: the minimum if it is negative."""
        return min(0, int(self.voxels.min()))

    @property
    def bits(self) -> int:
        """Bits that hold every voxel minus `offset`, at least 1."""
        return max(1, (int(self.voxels.max()) - self.offset).bit_length())

    def describe(self) -> dict[str, Any]:
        """Return the case as fields of a record."""
        return {
            "case": self.name,
            "shape_slice_phase_row_column": list(self.voxels.shape),
            "dtype": str(self.cine.info.dtype),
            "values": [int(self.voxels.min()), int(self.voxels.max())],
            "peak": self.peak,
            "peak_p995": self.peak_p995,
            "bits": self.bits,
            "region_pixels_per_slice": int(self.region[0].sum()),
            "heart_pixels": int(self.heart.region.sum()),
            "heart_found_by": self.heart.found_by,
            "part": self.part or "whole exam",
        }


def load_case(
    path: Path,
    *,
    name: str = "",
    phases: int | None = None,
    slice_step: int = 1,
    crop: bool = False,
) -> Case:
    """Read an exam, or a part of it.

    Parameters
    ----------
    path : Path
        Anything that `edge_codec.io.open_source` reads.
    name : str
        Name of the case; by default the path's, and '-heart' behind it with `crop`.
    phases : int, optional
        Code the first so many phases only.
    slice_step : int
        Code every so many slices only, beginning with the first.
    crop : bool
        Code the box around the heart only (`edge_codec.bench.rd.heart.heart_box`), the same one in
        every slice. Peaks and regions are still those of the whole exam. A crop is no file: it has
        no source header.

    Raises
    ------
    SourceError
        If it cannot be read, or its voxels give no figure: floats that are no whole numbers have
        no stored unit, a PSNR needs a positive maximum, and a crop needs a heart that moves.
    """
    cine = Cine.from_source(open_source(path))
    if cine.info.sample_format is SampleFormat.FLOAT32_ORDERED:
        raise SourceError(
            f"{path.name} holds floats that are no whole numbers, so errors have no stored unit; "
            "bench scaled integers instead"
        )
    voxels = to_integers(cine.voxels, cine.info.sample_format)
    if int(voxels.max()) <= 0:
        raise SourceError(f"{path.name} has no positive voxel, so a PSNR has no peak")
    heart = find_heart(path, voxels)
    chosen, part = _choose(cine, phases, slice_step)
    place: tuple[slice, slice] = (slice(None), slice(None))
    if crop:
        box = heart_box(heart.region)
        chosen, place = _cropped(chosen, box), box.place
        words = f"heart crop {box.rows}x{box.columns} at row {box.top}, column {box.left}"
        part = f"{words}, {part}" if part else words
    return Case(
        name or case_name(path) + (CROP_MARK if crop else ""),
        chosen,
        to_integers(chosen.voxels, cine.info.sample_format),
        float(voxels.max()),
        float(np.percentile(voxels, 99.5)),
        moving_region(voxels)[(slice(None, None, slice_step), *place)],
        replace(heart, region=heart.region[(slice(None, None, slice_step), *place)]),
        part,
    )


def case_name(path: Path) -> str:
    """Return the name of a case: the file's or folder's, without its suffix."""
    name = path.resolve().name
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return name


def _choose(cine: Cine, phases: int | None, slice_step: int) -> tuple[Cine, str]:
    """Return the first phases of every so many slices, and words for what they are."""
    info = cine.info
    kept = min(phases or info.n_phases, info.n_phases)
    if kept == info.n_phases and slice_step == 1:
        return cine, ""
    voxels = np.ascontiguousarray(cine.voxels[::slice_step, :kept])
    places = [phase * info.n_slices + index for phase in range(kept)
              for index in range(0, info.n_slices, slice_step)]  # fmt: skip
    part = replace(
        info,
        n_slices=voxels.shape[0],
        n_phases=kept,
        trigger_time_ms=info.trigger_time_ms[:kept],
    )
    metadata = tuple(cine.metadata[place] for place in places) if cine.metadata else ()
    words = f"{kept} of {info.n_phases} phases, {voxels.shape[0]} of {info.n_slices} slices"
    return Cine(voxels, part, metadata), words


def _cropped(cine: Cine, box: Box) -> Cine:
    """Return a box of every frame, without the headers of the source, which say another size."""
    voxels = np.ascontiguousarray(cine.voxels[(slice(None), slice(None), *box.place)])
    info = replace(cine.info, rows=box.rows, columns=box.columns, source=SourceHeader())
    return Cine(voxels, info)
