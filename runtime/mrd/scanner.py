"""Any cine as the session of a scanner: its frames as MRD images, its geometry as their headers."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from edge_codec.errors import SourceError
from edge_codec.io.mrd_frames import join_frames
from edge_codec.io.mrd_note import Note, unpack_dictionary
from edge_codec.io.samples import to_voxels
from edge_codec.io.source import FrameSource
from edge_codec.runtime.mrd.meta import pack_meta
from edge_codec.runtime.mrd.protocol import ImageMessage
from edge_codec.spec import CineInfo, SourceKind

_HEADER = struct.Struct("<HHQI3H3fH3f3f3f3f3f6HI3I3H8i8fI")
_MAGNITUDE = 1
_WRAP = 1 << 16  # counters of the header have 16 bits
_TICK_MS = 2.5  # unit of MRD's time stamps

# MRD has no 8-bit and no 64-bit integers; the next type that holds the values is taken.
_DATA_TYPES: dict[str, tuple[int, str]] = {
    "uint8": (1, "u2"),
    "int8": (2, "i2"),
    "uint16": (1, "u2"),
    "int16": (2, "i2"),
    "uint32": (3, "u4"),
    "int32": (4, "i4"),
    "uint64": (3, "u4"),
    "int64": (4, "i4"),
    "float32": (5, "f4"),
    "float64": (6, "f8"),
}


def xml_header(info: CineInfo, measurement: str = "") -> bytes:
    """Return an MRD header for a cine: that of its file, or the least that the standard demands.

    Parameters
    ----------
    info : CineInfo
        Size and geometry.
    measurement : str
        Name of the measurement, by which a server may call what it stores; makes a new header.
    """
    if info.source.kind is SourceKind.MRD and not measurement:
        return unpack_dictionary(info.source.data)[1]
    name = f"<measurementID>{escape(measurement)}</measurementID>" if measurement else ""
    slices, rows, columns = info.spacing_mm
    matrix = f"<matrixSize><x>{info.columns}</x><y>{info.rows}</y><z>1</z></matrixSize>"
    view = (
        f"<fieldOfView_mm><x>{columns * info.columns:g}</x><y>{rows * info.rows:g}</y>"
        f"<z>{slices:g}</z></fieldOfView_mm>"
    )
    limits = "".join(
        f"<{what}><minimum>0</minimum><maximum>{min(count, _WRAP) - 1}</maximum>"
        f"<center>0</center></{what}>"
        for what, count in (("slice", info.n_slices), ("phase", max(info.n_phases, 1)))
    )
    return (
        '<?xml version="1.0"?>\n<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">'
        f"<measurementInformation>{name}<patientPosition>HFS</patientPosition>"
        "</measurementInformation>"
        "<experimentalConditions><H1resonanceFrequency_Hz>0</H1resonanceFrequency_Hz>"
        "</experimentalConditions>"
        f"<encoding><encodedSpace>{matrix}{view}</encodedSpace><reconSpace>{matrix}{view}"
        f"</reconSpace><encodingLimits>{limits}</encodingLimits>"
        "<trajectory>cartesian</trajectory></encoding></ismrmrdHeader>\n"
    ).encode()


def scanner_images(source: FrameSource, series: int = 1) -> Iterator[ImageMessage]:
    """Yield the frames of a cine as MRD images, in the order in which a scanner has them.

    A cine that was made from MRD images gives these, byte for byte.

    Raises
    ------
    SourceError
        If MRD has no data type that holds the voxels.
    """
    info = source.info
    if info.source.kind is SourceKind.MRD:
        yield from _originals(source)
        return
    data_type, letters = _DATA_TYPES[info.dtype.name]
    attributes = pack_meta(
        {
            "edge_codec.rescale_slope": repr(info.rescale_slope),
            "edge_codec.rescale_intercept": repr(info.rescale_intercept),
        }
    )
    for index, frame in enumerate(source.frames()):
        voxels = _cast(to_voxels(frame.samples, info), np.dtype("<" + letters))
        header = _header(info, data_type, frame.slice_index, frame.phase_index, index, series)
        size = len(attributes).to_bytes(4, "little")
        yield ImageMessage(header + size, attributes, voxels.tobytes())


def _originals(source: FrameSource) -> Iterator[ImageMessage]:
    """Rebuild the images that the frames of an MRD file were made from."""
    planes: list[NDArray[Any]] = []
    first = None
    for frame in source.frames():
        note = Note.unpack(frame.metadata)
        first = note if note.plane == 0 else first
        planes.append(to_voxels(frame.samples, source.info))
        if first is not None and len(planes) == note.planes:
            image = join_frames(first, planes)
            yield ImageMessage(image.header, image.attributes, image.voxels)
            planes = []


def _cast(voxels: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    found = voxels.astype(dtype)
    if not np.array_equal(found, voxels, equal_nan=voxels.dtype.kind == "f"):
        raise SourceError(
            f"voxels from {voxels.min()} to {voxels.max()} do not fit into MRD's {dtype}; MRD has "
            "no 64-bit integers"
        )
    return found


def _header(
    info: CineInfo, data_type: int, slice_index: int, phase: int, index: int, series: int
) -> bytes:
    slices, rows, columns = info.spacing_mm
    times = info.trigger_time_ms
    trigger = round(times[phase] / _TICK_MS) if phase < len(times) and times[phase] >= 0 else 0
    fields = (
        1, data_type, 0, 1, info.columns, info.rows, 1,
        columns * info.columns, rows * info.rows, slices, 1,
        *(0.0, 0.0, slices * slice_index), *(1.0, 0.0, 0.0), *(0.0, 1.0, 0.0), *(0.0, 0.0, 1.0),
        *(0.0, 0.0, 0.0),
        0, slice_index % _WRAP, 0, phase % _WRAP, 0, 0, 0, min(trigger, (1 << 32) - 1), 0, 0,
        _MAGNITUDE, index % _WRAP, series, *[0] * 8, *[0.0] * 8, 0,
    )  # fmt: skip
    return _HEADER.pack(*fields)[:-4]
