"""Which DICOM frame is which slice and phase."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pydicom

from edge_codec.errors import SourceError

POSITION_TOLERANCE_MM = 0.05  # one slice's files differ by rounding only; slices by millimeters
DIRECTION_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class FramePlace:
    """Where and when a frame was taken; None where the file does not say.

    Attributes
    ----------
    file, frame : int
        Number of the file in its list, and of the frame in the file.
    orientation : tuple of float, optional
        Image Orientation (Patient): direction cosines along a row, then along a column.
    position_mm : tuple of float, optional
        Image Position (Patient): center of the first voxel.
    location_mm : float, optional
        Slice Location.
    trigger_ms : float, optional
        Delay after the R wave.
    time_s : float, optional
        Acquisition time, seconds of the day.
    number : float, optional
        Instance number, or temporal position.
    """

    file: int
    frame: int
    orientation: tuple[float, ...] | None = None
    position_mm: tuple[float, ...] | None = None
    location_mm: float | None = None
    trigger_ms: float | None = None
    time_s: float | None = None
    number: float | None = None


@dataclass(frozen=True, slots=True)
class Grid:
    """Frames in their order.

    Attributes
    ----------
    slices : tuple of tuples of FramePlace
        For each slice its phases.
    slice_distance_mm : float
        Mean distance of neighboring slices; 0 if unknown.
    """

    slices: tuple[tuple[FramePlace, ...], ...]
    slice_distance_mm: float

    @property
    def trigger_times_ms(self) -> tuple[float, ...]:
        """Trigger time of each phase, of the first slice; empty where unknown."""
        times = [place.trigger_ms for place in self.slices[0]]
        known = [time for time in times if time is not None]
        return tuple(known) if len(known) == len(times) and _distinct(known) else ()

    def in_order(self) -> list[FramePlace]:
        """All slices of phase 0, then of phase 1, and so on."""
        return [place for phase in zip(*self.slices, strict=True) for place in phase]


def places_of(dataset: pydicom.Dataset, file: int, n_frames: int) -> list[FramePlace]:
    """Return where each frame of a file was taken."""
    groups = dataset.get("PerFrameFunctionalGroupsSequence", None)
    if n_frames == 1 and not any(
        group.get("PlanePositionSequence", None) for group in groups or ()
    ):
        # Some single-frame files of GE have an empty group, and say everything outside it.
        return [_place_of_single(dataset, file)]
    if not groups:
        return _places_of_plain(dataset, file, n_frames)
    if len(groups) != n_frames:
        raise SourceError(f"{len(groups)} functional groups for {n_frames} frames")
    shared = dataset.get("SharedFunctionalGroupsSequence", None)
    return [
        _place_of_group(group, shared[0] if shared else pydicom.Dataset(), file, frame)
        for frame, group in enumerate(groups)
    ]


def arrange(places: Sequence[FramePlace], names: Sequence[str]) -> Grid:
    """Sort frames into slices, by position along the slice normal, and phases, by time.

    Parameters
    ----------
    places : sequence of FramePlace
        Frames in any order.
    names : sequence of str
        Name of each file, for messages.

    Raises
    ------
    SourceError
        If two frames claim the same place, or the slices have different numbers of phases.
    """
    slices = [_sort_phases(group, names) for group in _group_slices(places)]
    longest = max(slices, key=len)
    if any(len(phases) != len(longest) for phases in slices):
        raise SourceError(_describe_gaps(slices, longest))
    return Grid(tuple(tuple(phases) for phases in slices), _slice_distance_mm(slices))


def number(dataset: pydicom.Dataset, keyword: str) -> float | None:
    """Return a finite number of a data set, None where it is absent, empty or not a number."""
    try:
        value = float(dataset.get(keyword, None))
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def numbers(dataset: pydicom.Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """Return `count` finite numbers of a data set, None where they are not there."""
    try:
        values = tuple(float(value) for value in dataset.get(keyword, None))
    except (TypeError, ValueError):
        return None
    return values if len(values) == count and all(map(math.isfinite, values)) else None


def _place_of_single(dataset: pydicom.Dataset, file: int) -> FramePlace:
    return FramePlace(
        file,
        0,
        orientation=numbers(dataset, "ImageOrientationPatient", 6),
        position_mm=numbers(dataset, "ImagePositionPatient", 3),
        location_mm=number(dataset, "SliceLocation"),
        trigger_ms=number(dataset, "TriggerTime"),
        time_s=_seconds(dataset.get("AcquisitionTime") or dataset.get("ContentTime")),
        number=number(dataset, "InstanceNumber"),
    )


def _places_of_plain(dataset: pydicom.Dataset, file: int, n_frames: int) -> list[FramePlace]:
    """Frames without functional groups: the phases of one slice, in file order."""
    step = number(dataset, "FrameTime")
    first = _place_of_single(dataset, file)
    return [
        FramePlace(
            file,
            frame,
            orientation=first.orientation,
            position_mm=first.position_mm,
            location_mm=first.location_mm,
            trigger_ms=None if not step or step < 0 else frame * step,
            number=float(frame),
        )
        for frame in range(n_frames)
    ]


def _place_of_group(
    group: pydicom.Dataset, shared: pydicom.Dataset, file: int, frame: int
) -> FramePlace:
    def item(keyword: str) -> pydicom.Dataset:
        found = group.get(keyword, None) or shared.get(keyword, None)
        return found[0] if found else pydicom.Dataset()

    content = item("FrameContentSequence")
    stamp = str(content.get("FrameAcquisitionDateTime") or "")
    temporal = number(content, "TemporalPositionIndex")
    return FramePlace(
        file,
        frame,
        orientation=numbers(item("PlaneOrientationSequence"), "ImageOrientationPatient", 6),
        position_mm=numbers(item("PlanePositionSequence"), "ImagePositionPatient", 3),
        location_mm=number(content, "InStackPositionNumber"),
        trigger_ms=number(item("CardiacSynchronizationSequence"), "NominalCardiacTriggerDelayTime"),
        time_s=_seconds(stamp[8:]),
        number=float(frame) if temporal is None else temporal,
    )


def _seconds(text: Any) -> float | None:
    """Return the seconds of a DICOM time, HHMMSS.ffffff."""
    text = str(text or "").strip()
    try:
        return int(text[:2]) * 3600 + int(text[2:4]) * 60 + float(text[4:].split("+")[0] or 0)
    except ValueError:
        return None


def _group_slices(places: Sequence[FramePlace]) -> list[list[FramePlace]]:
    """Cut the frames, sorted by orientation and position, where the position jumps."""
    directions: list[tuple[float, ...]] = []
    keyed = []
    for place in places:
        direction = _direction_index(directions, place.orientation)
        keyed.append(((direction, _depth_mm(place)), place))
    keyed.sort(key=lambda pair: pair[0])
    groups: list[list[FramePlace]] = []
    before = (-1, 0.0)
    for key, place in keyed:
        if key[0] != before[0] or key[1] - before[1] > POSITION_TOLERANCE_MM:
            groups.append([])
        groups[-1].append(place)
        before = key
    return groups


def _direction_index(known: list[tuple[float, ...]], wanted: tuple[float, ...] | None) -> int:
    wanted = wanted or ()
    for index, direction in enumerate(known):
        if len(direction) == len(wanted) and all(
            abs(a - b) <= DIRECTION_TOLERANCE for a, b in zip(direction, wanted, strict=True)
        ):
            return index
    known.append(wanted)
    return len(known) - 1


def _depth_mm(place: FramePlace) -> float:
    if place.orientation is None or place.position_mm is None:
        return place.location_mm or 0.0
    normal = np.cross(place.orientation[:3], place.orientation[3:])
    return float(normal @ np.array(place.position_mm))


def _sort_phases(places: list[FramePlace], names: Sequence[str]) -> list[FramePlace]:
    """Sort by the first of trigger time, acquisition time and number that tells frames apart."""
    if len(places) == 1:
        return places
    for keyword in ("trigger_ms", "time_s", "number"):
        keys = [getattr(place, keyword) for place in places]
        known = [key for key in keys if key is not None]
        if len(known) == len(keys) and _distinct(known):
            return [place for _, place in sorted(zip(keys, places, strict=True), key=_first)]
        if keyword == "trigger_ms" and len(set(known)) > 1:
            break  # it tells most apart: then what is alike is double, not to be sorted otherwise
    listed = ", ".join(sorted(f"{names[p.file]} frame {p.frame}" for p in places)[:6])
    raise SourceError(
        f"{len(places)} frames of one slice (at {_depth_mm(places[0]):.2f} mm) cannot be told "
        f"apart by trigger time, acquisition time or instance number: {listed}, ...; remove "
        "doubles, or choose one series"
    )


def _first(pair: tuple[Any, FramePlace]) -> Any:
    return pair[0]


def _distinct(values: Iterable[float]) -> bool:
    listed = list(values)
    return len(set(listed)) == len(listed)


def _describe_gaps(slices: list[list[FramePlace]], longest: list[FramePlace]) -> str:
    parts = []
    for phases in slices:
        if len(phases) == len(longest):
            continue
        text = f"at {_depth_mm(phases[0]):.2f} mm {len(phases)}"
        missing = _missing_times(phases, longest)
        if missing:
            text += " (none near " + ", ".join(f"{time:g}" for time in missing) + " ms)"
        parts.append(text)
    return (
        f"slices have different numbers of phases: most have {len(longest)}, the slice "
        + ", the slice ".join(parts)
        + "; add the missing files or remove those slices"
    )


def _missing_times(phases: list[FramePlace], longest: list[FramePlace]) -> list[float]:
    wanted = [place.trigger_ms for place in longest]
    there = [place.trigger_ms for place in phases]
    if None in wanted or None in there or len(wanted) < 2:
        return []
    expected, found = np.array(wanted, dtype=float), np.array(there, dtype=float)
    half_step = np.diff(expected).min() / 2
    nearest = np.abs(expected[:, None] - found[None, :]).min(axis=1)
    return [float(time) for time in expected[nearest > half_step]]


def _slice_distance_mm(slices: list[list[FramePlace]]) -> float:
    firsts = [phases[0] for phases in slices]
    directions: list[tuple[float, ...]] = []
    if len({_direction_index(directions, place.orientation) for place in firsts}) > 1:
        return 0.0
    if len(firsts) < 2 or any(place.position_mm is None for place in firsts):
        return 0.0
    depths = [_depth_mm(place) for place in firsts]
    return (depths[-1] - depths[0]) / (len(depths) - 1)
