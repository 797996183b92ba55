"""DICOM as a source: a folder of single-frame files, or one multi-frame file."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pydicom

from edge_codec.errors import SourceError, SpecError
from edge_codec.io.dicom_file import (
    PixelLayout,
    is_dicom,
    open_dataset,
    parsing,
    read_frames,
    split,
)
from edge_codec.io.dicom_geometry import spacing_mm
from edge_codec.io.dicom_index import FramePlace, arrange, number, places_of
from edge_codec.io.source import SourceFrame
from edge_codec.spec import CineInfo, SampleFormat, SourceHeader, SourceKind

logger = logging.getLogger(__name__)

_LISTED = 8


@dataclass(frozen=True, slots=True)
class _File:
    """What sorting needs to know of a file."""

    path: Path
    layout: PixelLayout
    series: str
    description: str
    rescale: tuple[float, float]
    overlay: bool
    places: tuple[FramePlace, ...]


class DicomSource:
    """A DICOM series as a source of frames.

    Voxels are the pixel words as stored, with all allocated bits. Each frame's metadata is the
    `DicomHeader` of its file; that of a multi-frame file comes with the first frame.

    Parameters
    ----------
    path : Path
        A file, or a folder that is searched with all folders in it.
    series : str, optional
        SeriesInstanceUID, where there are several.

    Raises
    ------
    SourceError
        If there is no DICOM image, there are several series, slices or phases are missing, or a
        file is damaged or of a kind that is not supported.
    """

    def __init__(self, path: Path, series: str | None = None) -> None:
        try:
            self._open(path, series)
        except OSError as error:
            raise SourceError(f"{path} cannot be read: {error}") from error
        except SpecError as error:
            raise SourceError(f"{path}: {error}") from error

    def frames(self) -> Iterator[SourceFrame]:
        """Yield every frame.

        Raises
        ------
        SourceError
            If a file cannot be read or decoded any more.
        """
        first = self._files[0]
        if self._multi_frame:
            numbers = [place.frame for place in self._order]
            voxels = read_frames(first.path, first.layout, numbers)
        for index, place in enumerate(self._order):
            phase_index, slice_index = divmod(index, self.info.n_slices)
            if self._multi_frame:
                samples = next(voxels, None)
                metadata = self.info.source.data if index == 0 else b""
            else:
                file = self._files[place.file]
                samples = next(read_frames(file.path, file.layout, [0]), None)
                metadata = split(file.path, file.layout).pack()
            if samples is None:
                raise SourceError(f"{first.path} has fewer frames than its header says")
            yield SourceFrame(slice_index, phase_index, samples, metadata)

    def _open(self, path: Path, series: str | None) -> None:
        self._files = _choose_series(_find(path), series, path)
        _check_alike(self._files)
        self._multi_frame = self._files[0].layout.n_frames > 1
        if self._multi_frame and len(self._files) > 1:
            raise SourceError(f"{path} holds several multi-frame files; give one of them")
        places = [place for file in self._files for place in file.places]
        with parsing(path):
            grid = arrange(places, [file.path.name for file in self._files])
        self._order = grid.in_order()
        first = self._files[self._order[0].file]
        dataset, _ = open_dataset(first.path)
        header = split(first.path, first.layout)
        if self._multi_frame:
            header = replace(header, frame_order=tuple(place.frame for place in self._order))
        with parsing(first.path):
            spacing = spacing_mm(dataset, self._order[0].frame, grid.slice_distance_mm)
        self.info = CineInfo(
            len(grid.slices),
            len(grid.slices[0]),
            first.layout.rows,
            first.layout.columns,
            dtype=np.dtype(first.layout.dtype.newbyteorder("=")),
            sample_format=SampleFormat.INTEGER,
            spacing_mm=spacing,
            trigger_time_ms=grid.trigger_times_ms,
            rescale_slope=first.rescale[0],
            rescale_intercept=first.rescale[1],
            source=SourceHeader(SourceKind.DICOM, header.pack()),
        )
        _report(self._files, path)


def _find(path: Path) -> list[_File]:
    """Read the header of every DICOM image."""
    paths = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    files: list[_File] = []
    ignored: list[str] = []
    for found in paths:
        if not is_dicom(found):
            if found == path or found.suffix.lower() == ".dcm":
                raise SourceError(f"{found} is not a DICOM file: 'DICM' is missing at byte 128")
            ignored.append(found.name)
            continue
        file = _describe(found, len(files))
        if file is None:
            ignored.append(found.name)
        else:
            files.append(file)
    if not files:
        raise SourceError(f"{path} holds no DICOM image")
    if ignored:
        logger.warning(
            "%s: %d files that are not DICOM images are left out: %s",
            path,
            len(ignored),
            _some(ignored),
        )
    return files


def _describe(path: Path, index: int) -> _File | None:
    dataset, layout = open_dataset(path)
    if layout is None:
        return None
    with parsing(path):
        return _File(
            path,
            layout,
            series=str(dataset.get("SeriesInstanceUID", "")),
            description=str(dataset.get("SeriesDescription", "")),
            rescale=_rescale(dataset),
            overlay=any(
                tag.group & 0xFF00 == 0x6000 and tag.element == 0x0102 and dataset[tag].value != 0
                for tag in dataset.keys()  # noqa: SIM118 - iterating a Dataset gives elements
            ),
            places=tuple(places_of(dataset, index, layout.n_frames)),
        )


def _rescale(dataset: pydicom.Dataset) -> tuple[float, float]:
    holder = dataset
    shared = dataset.get("SharedFunctionalGroupsSequence", None)
    groups = dataset.get("PerFrameFunctionalGroupsSequence", None)
    for group in (*(shared or ())[:1], *(groups or ())[:1]):
        found = group.get("PixelValueTransformationSequence", None)
        if found:
            holder = found[0]
    slope, intercept = number(holder, "RescaleSlope"), number(holder, "RescaleIntercept")
    return (1.0 if slope is None else slope, 0.0 if intercept is None else intercept)


def _choose_series(files: list[_File], series: str | None, path: Path) -> list[_File]:
    """Return the files of one series, their places numbered anew."""
    by_series: dict[str, list[_File]] = {}
    for file in files:
        by_series.setdefault(file.series, []).append(file)
    if series is None and len(by_series) == 1:
        return files
    if series not in by_series:
        listed = "; ".join(
            f"{uid} ({len(group)} files{', ' * bool(group[0].description)}{group[0].description})"
            for uid, group in by_series.items()
        )
        what = "several series" if series is None else f"no series {series}"
        raise SourceError(f"{path} holds {what}; choose one with --series UID: {listed}")
    chosen = by_series[series]
    return [_renumber(file, index) for index, file in enumerate(chosen)]


def _renumber(file: _File, index: int) -> _File:
    return replace(file, places=tuple(replace(place, file=index) for place in file.places))


def _check_alike(files: list[_File]) -> None:
    def kind(file: _File) -> tuple[int, int, str]:
        layout = file.layout
        return layout.rows, layout.columns, str(layout.dtype.newbyteorder("="))

    first = files[0]
    for file in files:
        if kind(file) != kind(first):
            raise SourceError(
                f"{file.path} has {kind(file)} (rows, columns, dtype), {first.path} has "
                f"{kind(first)}; a cine has frames of one size"
            )


def _report(files: list[_File], path: Path) -> None:
    """Say what will not be as it was."""
    if any(not file.layout.native for file in files):
        logger.warning(
            "%s: compressed DICOM files are kept as uncompressed Explicit VR Little Endian", path
        )
    if len({file.rescale for file in files}) > 1:
        logger.warning(
            "%s: rescale slope or intercept differs between files; DICOM output keeps each, other "
            "formats get the first",
            path,
        )
    if any(file.overlay for file in files):
        logger.warning("%s: pixels carry overlay bits, which only --lossless keeps", path)


def _some(names: list[str]) -> str:
    more = ", ..." if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
