"""One patient in ACDC's own layout, read and validated as a whole before anything is written.

    patientNNN/Info.cfg                       see `info_cfg`
    patientNNN/patientNNN_4d.nii.gz           all phases
    patientNNN/patientNNN_frameFF.nii.gz      the phases of end-diastole and end-systole, from 1
    patientNNN/patientNNN_frameFF_gt.nii.gz   their labels: 0 background, 1 RV, 2 myocardium, 3 LV

A patient has labels for both phases or for none. *Partial* patients may lack anything but voxels:
without the 4D file a single frame counts as a cine of one phase.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.cine import Cine
from edge_codec.errors import EdgeCodecError, SourceError
from edge_codec.io.nifti import NiftiSource
from edge_codec.io.statistics import Histogram
from edge_codec.training.shards.info_cfg import FILE_NAME, PatientInfo, parse_info

SUFFIXES = (".nii.gz", ".nii")
BIGGEST_LABEL = 3
LEFT_VENTRICLE = 3

_NAME = re.compile(r"[A-Za-z0-9_-]{1,60}")
_FRAME = re.compile(r"_frame(\d{2,4})")


@dataclass(frozen=True, slots=True, eq=False)
class Patient:
    """An exam with all that goes into shards.

    Attributes
    ----------
    name : str
    voxels : ndarray, shape (slices, phases, rows, columns), integer
        As stored, before rescale; little-endian.
    labels : dict of int to ndarray, shape (slices, rows, columns), uint8
        By phase, from 0; in order of phases.
    info : PatientInfo
    spacing_mm : tuple of float
        Distance of voxel centers along (slice, row, column).
    rescale : tuple of float
        Slope and intercept: physical value = slope * stored + intercept.
    window : tuple of float
        0.1th and 99.9th percentile of all voxels, as the codec chooses its window.
    sources : dict of str to str
        SHA-256 of every file read, by its name.
    """

    name: str
    voxels: NDArray[Any]
    labels: dict[int, NDArray[np.uint8]]
    info: PatientInfo
    spacing_mm: tuple[float, float, float]
    rescale: tuple[float, float]
    window: tuple[float, float]
    sources: dict[str, str]


def read_patient(folder: Path, *, partial: bool) -> Patient:
    """Read and validate one patient.

    Parameters
    ----------
    folder : Path
        Its name is the patient's, and begins the names of its files.
    partial : bool
        Whether everything but voxels may be absent.

    Raises
    ------
    SourceError
        If anything is missing, damaged or contradictory; the message begins with the patient.
    """
    try:
        return _Reader(folder, partial).read()
    except EdgeCodecError as error:
        raise SourceError(f"{folder.name}: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{folder.name}: cannot be read: {error}; copy it again") from error


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def hash_sources(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file that `read_patient` would read, by its name."""
    names = (FILE_NAME, f"{folder.name}_4d.nii", f"{folder.name}_4d.nii.gz")
    paths = [folder / name for name in names] + list(folder.glob(f"{folder.name}_frame*.nii*"))
    return {path.name: hash_file(path) for path in paths if path.is_file()}


class _Reader:
    """Reads the files of a patient and keeps account of them."""

    def __init__(self, folder: Path, partial: bool) -> None:
        self._folder = folder
        self._partial = partial
        self._sources: dict[str, str] = {}

    def read(self) -> Patient:
        if not self._folder.is_dir():
            raise SourceError(f"{self._folder} is no folder; check the name and the source")
        if not _NAME.fullmatch(self._folder.name):
            raise SourceError(
                "its name would end the key of a sample too early; use letters, digits, - and _"
            )
        info = self._read_info()
        cine, first = self._read_cine(info)
        info = _count_from(info, first, cine.info.n_phases)
        voxels = _as_integers(cine.voxels, "voxels")
        if voxels.min() == voxels.max():
            raise SourceError(f"all its voxels are {voxels.flat[0]}; the images are lost")
        _check_spacing(cine.info.spacing_mm)
        labels = self._read_labels(info, voxels, first)
        _check_contraction(info, labels)
        return Patient(
            self._folder.name,
            voxels,
            labels,
            info,
            cine.info.spacing_mm,
            (cine.info.rescale_slope, cine.info.rescale_intercept),
            _window(voxels),
            self._sources,
        )

    def _read_info(self) -> PatientInfo:
        path = self._folder / FILE_NAME
        if not path.is_file():
            if self._partial:
                return PatientInfo()
            raise SourceError(f"{FILE_NAME} is missing; copy it, or go without with --partial")
        self._account(path)
        return parse_info(path.read_text(encoding="utf-8"), partial=self._partial)

    def _read_cine(self, info: PatientInfo) -> tuple[Cine, int]:
        """Return the cine, and which phase of the exam its first one is."""
        path = self._find("_4d")
        if path is None:
            return self._read_still()
        cine = self._load(path)
        if info.n_phases is not None and cine.info.n_phases != info.n_phases:
            raise SourceError(
                f"{path.name} has {cine.info.n_phases} phases, {FILE_NAME} says "
                f"NbFrame: {info.n_phases}; one of them is of another exam"
            )
        return cine, 0

    def _read_still(self) -> tuple[Cine, int]:
        frames = self._frames(labels=False)
        if not self._partial or len(frames) != 1:
            hint = "a single frame alone is taken with --partial"
            if len(frames) > 1:
                hint = f"the {len(frames)} frames that are there are no cine"
            raise SourceError(f"{self._folder.name}_4d.nii.gz is missing; copy it ({hint})")
        [(number, path)] = frames.items()
        cine = self._load(path)
        _check_single(cine, path)
        return cine, number - 1

    def _read_labels(
        self, info: PatientInfo, voxels: NDArray[Any], first: int
    ) -> dict[int, NDArray[np.uint8]]:
        named = {"ED": info.ed_phase, "ES": info.es_phase}
        frames, found = self._frames(labels=False), self._frames(labels=True)
        if not self._partial:
            wanted = {name: phase + 1 for name, phase in named.items() if phase is not None}
            _refuse_absent(wanted, frames, self._folder.name, "")
            if found:
                _refuse_absent(wanted, found, self._folder.name, "_gt")
        labels = {}
        for number in sorted(frames | found):
            phase = number - 1 - first
            if not 0 <= phase < voxels.shape[1]:
                raise SourceError(
                    f"frame {number} is outside the {voxels.shape[1]} phases of the cine; "
                    "it belongs to another exam"
                )
            if number in frames:
                self._compare(frames[number], voxels[:, phase], number)
            if number in found:
                labels[phase] = self._load_labels(found[number], voxels[:, phase].shape)
        return labels

    def _compare(self, path: Path, expected: NDArray[Any], number: int) -> None:
        """Refuse a frame that is not the phase of the 4D file that its name says."""
        cine = self._load(path)
        _check_single(cine, path)
        voxels = cine.voxels[:, 0]
        if voxels.shape != expected.shape:
            raise SourceError(
                f"{path.name} has shape {voxels.shape} (slices, rows, columns), the cine "
                f"{expected.shape}; they are not of one exam"
            )
        if not np.array_equal(voxels, expected):
            raise SourceError(
                f"{path.name} differs from phase {number} of the 4D file; find out which is right"
            )

    def _load_labels(self, path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        cine = self._load(path)
        _check_single(cine, path)
        values = _as_integers(cine.voxels[:, 0], f"labels of {path.name}")
        if values.shape != shape:
            raise SourceError(
                f"{path.name} has shape {values.shape} (slices, rows, columns), its images "
                f"{shape}; labels must cover every voxel"
            )
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > BIGGEST_LABEL:
            raise SourceError(
                f"{path.name} holds labels {low} to {high}, expected 0 to {BIGGEST_LABEL} "
                "(background, RV, myocardium, LV)"
            )
        if high == 0:
            raise SourceError(f"{path.name} labels no voxel; remove it if there are no labels")
        return np.ascontiguousarray(values, np.uint8)

    def _load(self, path: Path) -> Cine:
        self._account(path)
        try:
            return Cine.from_source(NiftiSource(path))
        except EdgeCodecError as error:
            text = str(error)
            named = text if path.name in text else f"{path.name}: {text}"
            raise SourceError(f"{named}; copy or fetch the file again") from error

    def _find(self, ending: str) -> Path | None:
        for suffix in SUFFIXES:
            path = self._folder / f"{self._folder.name}{ending}{suffix}"
            if path.is_file():
                return path
        return None

    def _frames(self, *, labels: bool) -> dict[int, Path]:
        """Return the files of single frames, or of their labels, by number from 1."""
        found: dict[int, Path] = {}
        name = self._folder.name
        ending = "_gt" if labels else ""
        for path in sorted(self._folder.glob(f"{name}_frame*")):
            for suffix in SUFFIXES:
                if not path.name.endswith(ending + suffix):
                    continue
                match = _FRAME.fullmatch(path.name[len(name) : -len(ending + suffix)])
                if match:
                    found.setdefault(int(match[1]), path)
        return found

    def _account(self, path: Path) -> None:
        self._sources[path.name] = hash_file(path)


def _count_from(info: PatientInfo, first: int, n_phases: int) -> PatientInfo:
    """Count phases from the first one that is there; None for those that are not."""

    def place(phase: int | None) -> int | None:
        there = phase is not None and 0 <= phase - first < n_phases
        return phase - first if phase is not None and there else None

    if first == 0 and info.n_phases is None:
        for name, phase in (("ED", info.ed_phase), ("ES", info.es_phase)):
            if phase is not None and phase >= n_phases > 1:
                raise SourceError(
                    f"{FILE_NAME} says {name}: {phase + 1}, the cine has {n_phases} phases"
                )
    return replace(info, ed_phase=place(info.ed_phase), es_phase=place(info.es_phase))


def _as_integers(voxels: NDArray[Any], name: str) -> NDArray[Any]:
    """Return voxels of an integer dtype, little-endian; floats must be whole numbers."""
    if voxels.dtype.kind in "iu":
        return voxels.astype(voxels.dtype.newbyteorder("<"), copy=False)
    if not np.isfinite(voxels).all():
        count = int(np.count_nonzero(~np.isfinite(voxels)))
        raise SourceError(f"{count} {name} are infinite or not a number; export the exam again")
    low, high = float(voxels.min()), float(voxels.max())
    if np.any(voxels != np.rint(voxels)) or low < -(2**31) or high >= 2**31:
        raise SourceError(f"{name} are fractions; export the integers that the scanner stored")
    fits = next(dtype for dtype in ("<i2", "<u2", "<i4") if _fits(low, high, np.dtype(dtype)))
    return voxels.astype(fits)


def _window(voxels: NDArray[Any]) -> tuple[float, float]:
    histogram = Histogram()
    for part in voxels:  # slice by slice, as counting takes eight bytes a voxel
        histogram.add(part)
    summary = histogram.summary()
    return float(summary.p001), float(summary.p999)


def _fits(low: float, high: float, dtype: np.dtype[Any]) -> bool:
    return bool(np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max)


def _check_single(cine: Cine, path: Path) -> None:
    if cine.info.n_phases != 1:
        raise SourceError(f"{path.name} has {cine.info.n_phases} phases, expected 1")


def _check_spacing(spacing_mm: tuple[float, float, float]) -> None:
    if not all(np.isfinite(spacing_mm)) or min(spacing_mm) <= 0:
        raise SourceError(
            f"its voxels are {spacing_mm} mm apart (slice, row, column), expected numbers above 0; "
            "volumes cannot be measured without: correct the header"
        )


def _refuse_absent(
    wanted: dict[str, int], found: dict[int, Path], patient: str, ending: str
) -> None:
    for name, number in wanted.items():
        if number not in found:
            raise SourceError(
                f"{patient}_frame{number:02d}{ending}.nii.gz is missing, and {FILE_NAME} says "
                f"{name}: {number}; copy it, or go without with --partial"
            )


def _check_contraction(info: PatientInfo, labels: dict[int, NDArray[np.uint8]]) -> None:
    """Refuse exams whose left ventricle is larger at end-systole: the two are swapped."""
    sizes = [
        int(np.count_nonzero(labels[phase] == LEFT_VENTRICLE))
        for phase in (info.ed_phase, info.es_phase)
        if phase is not None and phase in labels
    ]
    if len(sizes) < 2:
        return
    filled, contracted = sizes
    if contracted > filled:
        raise SourceError(
            f"the left ventricle has {filled} voxels at ED (end-diastole) and {contracted} at ES "
            f"(end-systole); a heart is smaller at ES: correct {FILE_NAME} or the labels"
        )
