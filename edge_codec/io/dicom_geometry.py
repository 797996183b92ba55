"""Where a cine lies in the patient, from the DICOM header or NIfTI header in its stream."""

from __future__ import annotations

import numpy as np
import pydicom
from numpy.typing import NDArray

from edge_codec.io.dicom_file import join, parsing
from edge_codec.io.dicom_index import FramePlace, number, numbers, places_of
from edge_codec.io.dicom_metadata import DicomHeader
from edge_codec.spec import CineInfo

# DICOM's axes point left, posterior, superior; NIfTI's right, anterior, superior.
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def spacing_mm(
    dataset: pydicom.Dataset, frame: int, slice_distance_mm: float
) -> tuple[float, float, float]:
    """Return the distance of voxel centers along (slice, row, column), 0 where unknown.

    Parameters
    ----------
    dataset : pydicom.Dataset
        Header of the first file.
    frame : int
        Number of its first frame.
    slice_distance_mm : float
        Distance found from positions, 0 if unknown.
    """
    measures = _measures(dataset, frame)
    pair = numbers(measures, "PixelSpacing", 2) or (0.0, 0.0)
    distance = (
        slice_distance_mm
        or number(measures, "SpacingBetweenSlices")
        or number(measures, "SliceThickness")
        or 0.0
    )
    return abs(distance), abs(pair[0]), abs(pair[1])


def affine_of(info: CineInfo) -> NDArray[np.float64] | None:
    """Return NIfTI's affine of a stream made from DICOM: (column, row, slice) index to mm.

    Slices are taken to follow each other along their normal. None where the header says nothing.

    Raises
    ------
    SourceError
        If the header in the stream is damaged.
    """
    place = _first_place(info)
    if place.orientation is None or place.position_mm is None:
        return None
    slice_mm, row_mm, column_mm = (spacing or 1.0 for spacing in info.spacing_mm)
    along_row, along_column = np.array(place.orientation[:3]), np.array(place.orientation[3:])
    affine = np.eye(4)
    affine[:3, 0] = along_row * column_mm
    affine[:3, 1] = along_column * row_mm
    affine[:3, 2] = np.cross(along_row, along_column) * slice_mm
    affine[:3, 3] = place.position_mm
    return np.asarray(_LPS_TO_RAS @ affine)


def planes_of(
    affine_mm: NDArray[np.float64],
) -> tuple[list[float], NDArray[np.float64], NDArray[np.float64]] | None:
    """Return DICOM's planes of a NIfTI affine.

    Returns
    -------
    orientation : list of 6 float
        Direction cosines along a row, then along a column.
    position_mm : ndarray, shape (3,)
        Center of the first voxel of slice 0.
    step_mm : ndarray, shape (3,)
        From one slice to the next.
    None if rows and columns are not at right angles, which DICOM cannot say.
    """
    affine = _LPS_TO_RAS @ affine_mm
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not lengths.all():
        return None
    along_row, along_column = affine[:3, 0] / lengths[0], affine[:3, 1] / lengths[1]
    if abs(along_row @ along_column) > 1e-4:  # PS3.3 C.7.6.2.1.1
        return None
    return [*along_row.tolist(), *along_column.tolist()], affine[:3, 3], affine[:3, 2]


def _first_place(info: CineInfo) -> FramePlace:
    header = DicomHeader.unpack(info.source.data)
    frames = len(header.frame_order) or 1
    size = info.rows * info.columns * info.dtype.itemsize
    with parsing("the DICOM header in the stream"):
        dataset = join(header, frames * size)
        places = places_of(dataset, 0, frames)
        return places[header.frame_order[0] if header.frame_order else 0]


def _measures(dataset: pydicom.Dataset, frame: int) -> pydicom.Dataset:
    """Return the data set that holds the pixel spacing."""
    for keyword, index in (
        ("PerFrameFunctionalGroupsSequence", frame),
        ("SharedFunctionalGroupsSequence", 0),
    ):
        groups = dataset.get(keyword, None)
        if groups and len(groups) > index:
            measures = groups[index].get("PixelMeasuresSequence", None)
            if measures:
                found: pydicom.Dataset = measures[0]
                return found
    return dataset
