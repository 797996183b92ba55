"""What an expert has said about an exam: labels of some phases, and which phases those are.

Where the ACDC data set keeps it (Bernard et al., IEEE TMI 2018): beside `NAME_4d.nii.gz` the files
`NAME_frameNN_gt.nii.gz`, frame 1 the first phase, and `Info.cfg` with the frames of end-diastole
(ED) and end-systole (ES).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_codec.bench.rd.heart import label_files
from edge_codec.errors import SourceError
from edge_codec.io import open_source
from edge_codec.metrics.clinical import LV, phases_of_curve

Labels = NDArray[np.uint8]
INFO = "Info.cfg"
_FRAME = re.compile(r"_frame(\d+)_gt\.nii(\.gz)?$")


@dataclass(frozen=True, slots=True)
class Phases:
    """Which phases of a cine are end-diastole and end-systole, counted from 0.

    Attributes
    ----------
    ed, es : int
    found_by : str
        'Info.cfg', 'expert labels' (the larger left ventricle is end-diastole) or 'network'
        (largest and smallest left ventricle of the labels of the original frames).
    """

    ed: int
    es: int
    found_by: str

    def named(self) -> dict[str, int]:
        """Return the phases by their names."""
        return {"ed": self.ed, "es": self.es}


def read_labels(path: Path, shape: tuple[int, int, int, int]) -> dict[int, Labels]:
    """Read the expert's labels of an exam.

    Parameters
    ----------
    path : Path
        Where the exam was read from.
    shape : tuple of int
        Of the exam: (slices, phases, rows, columns).

    Returns
    -------
    dict of int to ndarray, shape (slices, rows, columns), uint8
        By phase, counted from 0; empty where the exam has none.

    Raises
    ------
    SourceError
        If a file cannot be read, is of another size, or belongs to no phase.
    """
    found: dict[int, Labels] = {}
    slices, phases, *frame = shape
    for file in label_files(path):
        number = _FRAME.search(file.name)
        phase = int(number.group(1)) - 1 if number else -1
        if not 0 <= phase < phases:
            raise SourceError(f"{file.name} belongs to none of the {phases} phases of {path.name}")
        labels = np.zeros((slices, *frame), np.uint8)
        seen = 0
        for item in open_source(file).frames():
            if item.samples.shape != tuple(frame) or item.slice_index >= slices:
                raise SourceError(
                    f"{file.name} has frames of {item.samples.shape} and {path.name} of "
                    f"{tuple(frame)}; labels must be of the exam's size"
                )
            labels[item.slice_index] = item.samples
            seen += 1
        if seen != slices:
            raise SourceError(f"{file.name} has {seen} slices and {path.name} {slices}")
        found[phase] = labels
    return found


def read_info(path: Path) -> dict[str, str]:
    """Read `Info.cfg` beside an exam named as ACDC does; empty where there is none.

    Raises
    ------
    SourceError
        If it cannot be read.
    """
    file = path.parent / INFO
    if "_4d.nii" not in path.name or not file.is_file():
        return {}
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{INFO} beside {path.name} cannot be read: {error}") from error
    pairs = (line.partition(":") for line in lines)
    return {name.strip(): value.strip() for name, colon, value in pairs if colon}


def find_phases(
    info: Mapping[str, str],
    expert: Mapping[int, Labels],
    curve: NDArray[np.float64],
) -> Phases:
    """Say which phases are end-diastole and end-systole.

    Parameters
    ----------
    info : mapping of str to str
        `Info.cfg`, or nothing.
    expert : mapping of int to ndarray
        Labels by phase; without `Info.cfg` at least two phases are needed.
    curve : ndarray, shape (phases,)
        Volume of the left ventricle by the network, for exams without either.

    Raises
    ------
    SourceError
        If `Info.cfg` names a phase that does not exist.
    """
    if "ED" in info and "ES" in info:
        numbers = [info[name] for name in ("ED", "ES")]
        phases = [int(number) - 1 if number.isdecimal() else -1 for number in numbers]
        if not all(0 <= phase < len(curve) for phase in phases):
            raise SourceError(
                f"{INFO} says ED {numbers[0]}, ES {numbers[1]}; expected frames 1 to {len(curve)}"
            )
        return Phases(phases[0], phases[1], INFO)
    if len(expert) > 1:
        sizes = {phase: np.count_nonzero(labels == LV) for phase, labels in expert.items()}
        return Phases(max(sizes, key=lambda phase: sizes[phase]),
                      min(sizes, key=lambda phase: sizes[phase]), "expert labels")  # fmt: skip
    return Phases(*phases_of_curve(curve), "network")
