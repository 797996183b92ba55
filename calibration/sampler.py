"""Frames to calibrate on, drawn so that every kind of frame there is has its share.

Strata are: where in the heart (thirds of the slices), when in the beat (thirds of the phases), and
which data set and scanner (the folder below the data, and for DICOM the vendor and the field
strength; NIfTI and npy do not tell these). Every stratum gives the same number of frames, from as
many exams as it can. The same folder, number and seed give the same frames, and `Sample.sha256`
says whether they are the same: it is taken over the window codes, the very input of the networks.

The thirds of the slices are named after the heart, `base` first. Files keep slices from base to
apex or from apex to base; for an even share it makes no difference which end is which.
"""

from __future__ import annotations

import hashlib
import logging
import struct
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_codec.calibration.sources import find_sources, scanner
from edge_codec.errors import CalibrationError, EdgeCodecError
from edge_codec.io import FrameSource, open_source
from edge_codec.io.statistics import scan
from edge_codec.spec import CineInfo, SampleFormat, StreamSpec
from edge_codec.window import Window

log = logging.getLogger(__name__)

FRAMES = 48
"""Frames drawn where nobody says how many, if there are so many."""

POSITIONS = ("base", "mid", "apex")
PHASES = ("early", "middle", "late")
ANY = "any"
"""Where there are fewer than three slices, or phases: no thirds."""

MIN_RANGE = 8
"""Least distance of the window's ends: below it is a label map, or an empty exam."""


class Place(NamedTuple):
    """Where a frame comes from."""

    file: str
    slice_index: int
    phase_index: int


class Stratum(NamedTuple):
    """What kind of frame it is."""

    group: str
    position: str
    phase: str


@dataclass(frozen=True, slots=True, eq=False)
class SampleFrame:
    """One frame of the sample.

    Attributes
    ----------
    place : Place
        The file is relative to the data folder.
    stratum : Stratum
    samples : ndarray, shape (rows, columns), uint32
        Stored values minus the exam's lowest.
    codes : ndarray, shape (rows, columns), uint8
        Window codes.
    window : Window
        Of the exam.
    peak : float
        Largest stored value of the exam: the peak of its PSNR.
    """

    place: Place
    stratum: Stratum
    samples: NDArray[np.uint32]
    codes: NDArray[np.uint8]
    window: Window
    peak: float


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """The frames drawn.

    Attributes
    ----------
    frames : tuple of SampleFrame
    sha256 : str
        Over shapes and window codes in their order.
    left : int
        Frames that were there and not drawn.
    skipped : dict of str to str
        Files that could not be read, and why.
    """

    frames: tuple[SampleFrame, ...]
    sha256: str
    left: int = 0
    skipped: dict[str, str] = field(default_factory=dict)

    def strata(self) -> dict[Stratum, int]:
        """Return how many frames each stratum gave."""
        counts: dict[Stratum, int] = {}
        for frame in self.frames:
            counts[frame.stratum] = counts.get(frame.stratum, 0) + 1
        return counts

    def places(self) -> frozenset[Place]:
        """Return where the frames come from."""
        return frozenset(frame.place for frame in self.frames)


@dataclass(frozen=True, slots=True)
class _Exam:
    path: Path
    name: str
    group: str
    info: CineInfo

    def frames(self) -> Iterator[tuple[Stratum, Place]]:
        for slice_index in range(self.info.n_slices):
            for phase_index in range(self.info.n_phases):
                stratum = Stratum(
                    self.group,
                    _third(slice_index, self.info.n_slices, POSITIONS),
                    _third(phase_index, self.info.n_phases, PHASES),
                )
                yield stratum, Place(self.name, slice_index, phase_index)


Progress = Callable[[Iterable[Any], "int | None", str], Iterable[Any]]


def _silent(items: Iterable[Any], total: int | None, what: str) -> Iterable[Any]:
    del total, what
    return items


def draw(
    data: Path,
    frames: int | None = None,
    *,
    seed: int = 0,
    pattern: str = "*",
    exclude: Collection[Place] = (),
    progress: Progress = _silent,
) -> Sample:
    """Draw a stratified sample.

    Parameters
    ----------
    data : Path
        A file or DICOM folder that `edge_codec.io.open_source` reads, or a folder of such.
    frames : int, optional
        How many; `FRAMES`, or all there are if that is fewer, unless given.
    seed : int
    pattern : str
        Glob that file names must match, such as `*_4d.nii.gz`.
    exclude : collection of Place
        Frames that must not be drawn: those of another sample.
    progress : callable
        Wraps iterables: (items, number or None, what is done) -> the same items.

    Returns
    -------
    Sample

    Raises
    ------
    SourceError
        If there is nothing to read.
    CalibrationError
        If there are fewer frames than asked for, or fewer are asked for than there are strata.
    """
    rng = np.random.default_rng(seed)
    skipped: dict[str, str] = {}
    paths = find_sources(data, pattern)
    exams = list(_open_exams(data, progress(paths, len(paths), "open"), skipped))
    candidates = _candidates(exams, exclude)
    places = _choose(candidates, frames, rng, data)
    chosen: list[SampleFrame] = []
    wanted = [exam for exam in exams if any(place.file == exam.name for place in places)]
    for exam in progress(wanted, len(wanted), "read"):
        chosen += _read(exam, places)
    if skipped:
        names = ", ".join(list(skipped)[:8])
        log.warning("%d files cannot be read and are left out: %s", len(skipped), names)
    left = sum(len(part) for exams in candidates.values() for part in exams.values())
    return Sample(tuple(chosen), _digest(chosen), left - len(chosen), skipped)


def _open_exams(data: Path, paths: Iterable[Path], skipped: dict[str, str]) -> Iterator[_Exam]:
    root = data if data.is_dir() else data.parent
    for path in paths:
        name = path.relative_to(root).as_posix()
        try:
            source = open_source(path)
            yield _Exam(path, name, _group(data, path, source), source.info)
        except EdgeCodecError as error:
            if path == data:
                raise
            skipped[name] = str(error)


def _group(data: Path, path: Path, source: FrameSource) -> str:
    """Name the data set, and the scanner where the source tells."""
    parts = path.relative_to(data).parts if data.is_dir() else ()
    name = parts[0] if len(parts) > 1 else data.name.split(".")[0]
    return " ".join([name, *scanner(source.info)])


def _third(index: int, count: int, names: tuple[str, ...]) -> str:
    return ANY if count < len(names) else names[index * len(names) // count]


def _candidates(
    exams: Iterable[_Exam], exclude: Collection[Place]
) -> dict[Stratum, dict[str, list[Place]]]:
    """Return the frames there are by stratum and exam."""
    found: dict[Stratum, dict[str, list[Place]]] = {}
    for exam in exams:
        for stratum, place in exam.frames():
            if place not in exclude:
                found.setdefault(stratum, {}).setdefault(exam.name, []).append(place)
    return dict(sorted(found.items()))


def _choose(
    candidates: dict[Stratum, dict[str, list[Place]]],
    frames: int | None,
    rng: np.random.Generator,
    data: Path,
) -> set[Place]:
    available = sum(len(places) for exams in candidates.values() for places in exams.values())
    if not available:
        raise CalibrationError(f"{data} has no frame left to draw")
    count = min(max(FRAMES, len(candidates)), available) if frames is None else frames
    if count > available:
        raise CalibrationError(f"{data} has {available} frames to draw from, {count} are wanted")
    if count < len(candidates):
        groups = ", ".join(sorted({stratum.group for stratum in candidates}))
        raise CalibrationError(
            f"{count} frames cannot represent {len(candidates)} strata (slice thirds x phase thirds"
            f" of {groups}); ask for {len(candidates)} or more, or name fewer files"
        )
    queues = [_shuffled(exams, rng) for exams in candidates.values()]
    chosen: set[Place] = set()
    # One from each stratum in turn, until there are enough: the shares stay even.
    while len(chosen) < count:
        for queue in queues:
            if queue and len(chosen) < count:
                chosen.add(queue.pop())
    return chosen


def _shuffled(exams: dict[str, list[Place]], rng: np.random.Generator) -> list[Place]:
    """Frames of one stratum in random order, those of different exams taking turns."""
    ranked = []
    for places in exams.values():
        for turn, index in enumerate(rng.permutation(len(places))):
            ranked.append((turn, rng.random(), places[index]))
    return [place for _, _, place in sorted(ranked, reverse=True)]


def _read(exam: _Exam, places: Collection[Place]) -> Iterator[SampleFrame]:
    if exam.info.sample_format is SampleFormat.FLOAT32_ORDERED:
        raise CalibrationError(
            f"{exam.name} holds float voxels that no integers stand for; name files of integers"
        )
    source = open_source(exam.path)
    values = scan(source)
    if values.p999 - values.p001 < MIN_RANGE:
        raise CalibrationError(
            f"{exam.name} has values {values.p001} to {values.p999} between its outer percentiles: "
            "a label map or an empty exam? Leave it out with --pattern"
        )
    window = Window(
        StreamSpec(
            exam.info,
            low=values.low,
            high=values.high,
            window_low=values.p001,
            window_high=values.p999,
        )
    )
    strata = {place: stratum for stratum, place in exam.frames()}
    for frame in source.frames():
        place = Place(exam.name, frame.slice_index, frame.phase_index)
        if place in places:
            samples = (frame.samples.astype(np.int64) - values.low).astype(np.uint32)
            codes = window.normalize(samples)
            # A peak of zero or less is none: then the range takes its place.
            peak = values.high if values.high > 0 else values.high - values.low
            yield SampleFrame(place, strata[place], samples, codes, window, float(peak))


def _digest(frames: Iterable[SampleFrame]) -> str:
    digest = hashlib.sha256()
    for frame in frames:
        digest.update(struct.pack("<II", *frame.codes.shape))
        digest.update(np.ascontiguousarray(frame.codes).data)
    return digest.hexdigest()
