"""Frames with expert labels from a folder in ACDC's layout, as window codes.

Expected layout; a case may be in one of the two folders only::

    DATA/acdc/<case>/<case>_4d.nii.gz               all phases, which give the exam's window
    DATA/acdc/<case>/<case>_frame<N>.nii.gz         end-diastole and end-systole
    DATA/acdc/<case>/<case>_frame<N>_gt.nii.gz      their labels: 1 RV, 2 myocardium, 3 LV
    DATA/fullfov/<case>/<case>_frame<N>.nii.gz      one phase, full field of view, its own window
    DATA/fullfov/<case>/<case>_frame<N>_gt.nii.gz

A folder `acdc` with the challenge's own, uncropped files reads the same way.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.cine import Cine
from edge_codec.errors import SourceError
from edge_codec.io import open_source
from edge_codec.runtime.segmenter import N_CLASSES, exam_window, window_codes

GROUPS = ("acdc", "fullfov")
LABELS = "_gt.nii.gz"


@dataclass(frozen=True, slots=True, eq=False)
class LabeledVolume:
    """One phase of an exam with its labels.

    Attributes
    ----------
    case, group : str
        Patient, and `acdc` (cropped to the heart) or `fullfov`.
    name : str
        Of the file, without its suffix.
    codes : ndarray, shape (slices, rows, columns), uint8
        Window codes.
    labels : ndarray, same shape, uint8
        0 background, 1 RV, 2 myocardium, 3 LV.
    """

    case: str
    group: str
    name: str
    codes: NDArray[np.uint8]
    labels: NDArray[np.uint8]


def read_labeled(data: Path, cases: list[str] | None = None) -> list[LabeledVolume]:
    """Read all labeled volumes of a folder.

    Parameters
    ----------
    data : Path
        Folder in the layout above.
    cases : list of str, optional
        Cases to read, of which those without labels are left out; all there are without it.

    Raises
    ------
    SourceError
        If there are none, or a file is missing, damaged or does not fit its labels.
    """
    volumes = list(_volumes(data, cases))
    if not volumes:
        raise SourceError(
            f"{data} holds no labeled frames; expected acdc/<case>/<case>_frame<N>{LABELS} or "
            f"fullfov/<case>/<case>_frame<N>{LABELS}"
        )
    return volumes


def read_cases(splits: Path, part: str) -> list[str]:
    """Read the cases of a part, `train` or `test`, of a JSON file of splits.

    Raises
    ------
    SourceError
        If it cannot be read or has no such part.
    """
    try:
        return [str(case) for case in json.loads(splits.read_text(encoding="utf-8"))[part]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise SourceError(f"{splits} holds no list of '{part}' cases ({error!r})") from error


def _volumes(data: Path, cases: list[str] | None) -> Iterator[LabeledVolume]:
    for group in GROUPS:
        for folder in sorted((data / group).glob("*/")):
            if cases is None or folder.name in cases:
                yield from _case(folder, group)


def _case(folder: Path, group: str) -> Iterator[LabeledVolume]:
    case = folder.name
    window = None
    for path in sorted(folder.glob(f"{case}_frame*{LABELS}")):
        name = path.name.removesuffix(LABELS)
        voxels = _read(folder / f"{name}.nii.gz")
        labels = _read(path)
        if voxels.shape[1] != 1 or voxels.shape != labels.shape:
            raise SourceError(
                f"{path}: labels of shape {labels.shape} for a frame of shape {voxels.shape}; "
                "expected one phase, and the frame's shape"
            )
        found = np.unique(labels)
        if not np.isin(found, range(N_CLASSES)).all():
            raise SourceError(
                f"{path}: labels {found[0]} to {found[-1]}; expected whole numbers from 0 to 3"
            )
        if window is None:
            window = exam_window(_read_exam(folder / f"{case}_4d.nii.gz", group, voxels))
        codes = np.stack([window_codes(frame, window) for frame in voxels[:, 0]])
        yield LabeledVolume(case, group, name, codes, labels[:, 0].astype(np.uint8))


def _read_exam(path: Path, group: str, frame: NDArray[Any]) -> NDArray[Any]:
    """Return what gives the window: all phases, or the frame where they are not part of a group."""
    return _read(path) if group == "acdc" else frame


def _read(path: Path) -> NDArray[Any]:
    """Return voxels, shape (slices, phases, rows, columns)."""
    return Cine.from_source(open_source(path)).voxels
