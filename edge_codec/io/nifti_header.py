"""NIfTI-1 and NIfTI-2 headers: what precedes the voxels <-> how to read and write them."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from edge_codec.errors import SourceError, SpecError
from edge_codec.spec import CineInfo, SampleFormat, SourceHeader, SourceKind

HEADER_SIZES = (348, 540)  # NIfTI-1, NIfTI-2
MAX_HEADER_BYTES = 16 << 20  # header with extensions; the stream's header must hold them
MAX_TRIGGER_TIMES = 1 << 16  # beyond, a constant interval isn't worth a table in the stream

_DTYPES = {
    2: "u1",
    4: "i2",
    8: "i4",
    16: "f4",
    64: "f8",
    256: "i1",
    512: "u2",
    768: "u4",
    1024: "i8",
    1280: "u8",
}
_REFUSED = {
    1: "1-bit voxels",
    32: "complex voxels",
    128: "RGB voxels",
    1536: "128-bit float voxels",
    1792: "complex voxels",
    2048: "complex voxels",
    2304: "RGBA voxels",
}
_MM_PER_UNIT = {0: 1.0, 1: 1e3, 2: 1.0, 3: 1e-3}
_MS_PER_UNIT = {8: 1e3, 16: 1.0, 24: 1e-3}
_NIFTI1_MAX_SIDE = 32_767


@dataclass(frozen=True, slots=True)
class NiftiLayout:
    """Where and how a NIfTI file keeps its voxels.

    Attributes
    ----------
    shape : tuple of int
        (slices, phases, rows, columns).
    dtype : numpy.dtype
        Voxels as stored, with their byte order.
    offset : int
        Bytes before the first voxel.
    header : object
        The nibabel header.
    """

    shape: tuple[int, int, int, int]
    dtype: np.dtype[Any]
    offset: int
    header: Any

    @property
    def voxel_bytes(self) -> int:
        """Size of all voxels."""
        return math.prod(self.shape) * self.dtype.itemsize


def header_size(start: bytes) -> int:
    """Return the size of the fixed header, from the file's first 4 bytes.

    Raises
    ------
    SourceError
        If they are not those of NIfTI.
    """
    for order in "<>":
        if len(start) == 4 and struct.unpack(f"{order}i", start)[0] in HEADER_SIZES:
            return int(struct.unpack(f"{order}i", start)[0])
    raise SourceError("not a NIfTI file: it must begin with its header size, 348 or 540")


def parse_header(block: bytes) -> NiftiLayout:
    """Read the fixed header, 348 or 540 bytes; extensions that follow it are not looked at.

    Raises
    ------
    SourceError
        If it is damaged, or describes what a cine cannot hold.
    """
    size = header_size(block[:4])
    if len(block) < size:
        raise SourceError(f"the NIfTI header has {len(block)} of {size} bytes; the file is cut off")
    order = "<" if struct.unpack("<i", block[:4])[0] == size else ">"
    kind: Any = nib.Nifti1Header if size == HEADER_SIZES[0] else nib.Nifti2Header
    header = kind(block[:size], endianness=order, check=False)
    magic = bytes(header["magic"]).rstrip(b"\0")
    if magic[:2] == b"ni":
        raise SourceError("a .hdr/.img pair is not supported; convert it to one .nii file")
    if magic[:2] != b"n+":
        raise SourceError(f"the NIfTI header has magic {magic!r}; expected b'n+1' or b'n+2'")
    return NiftiLayout(_shape(header), _dtype(header, order), _offset(header, size), header)


def describe(layout: NiftiLayout, sample_format: SampleFormat, data: bytes) -> CineInfo:
    """Return the cine that a NIfTI file holds; `data` is every byte before its voxels.

    Raises
    ------
    SourceError
        If an extent or the rescale cannot be represented.
    """
    slices, phases, rows, columns = layout.shape
    slope, intercept = _rescale(layout.header)
    try:
        return CineInfo(
            slices,
            phases,
            rows,
            columns,
            dtype=layout.dtype.newbyteorder("="),
            sample_format=sample_format,
            spacing_mm=_spacing_mm(layout.header),
            trigger_time_ms=_trigger_times_ms(layout.header, phases),
            rescale_slope=slope,
            rescale_intercept=intercept,
            source=SourceHeader(SourceKind.NIFTI, data),
        )
    except SpecError as error:
        raise SourceError(str(error)) from error


def build_header(info: CineInfo, affine_mm: NDArray[np.float64] | None) -> bytes:
    """Make the bytes before the voxels of a little-endian file, for a cine of another origin.

    Parameters
    ----------
    info : CineInfo
        The cine.
    affine_mm : ndarray, shape (4, 4), optional
        (column, row, slice) index to position in mm, axes right, anterior, superior.
    """
    sides = (info.columns, info.rows, info.n_slices, info.n_phases)
    kind: Any = nib.Nifti1Header if max(sides) <= _NIFTI1_MAX_SIDE else nib.Nifti2Header
    header = kind(endianness="<")
    header.set_data_dtype(info.dtype)
    header.set_data_shape(sides if info.n_phases > 1 else sides[:3])
    zooms = [info.spacing_mm[2] or 1.0, info.spacing_mm[1] or 1.0, info.spacing_mm[0] or 1.0]
    times = info.trigger_time_ms
    if info.n_phases > 1:
        step_ms = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 0.0
        zooms.append(max(step_ms, 0.0) / 1e3)
    header.set_zooms(zooms)
    header.set_xyzt_units("mm", "sec")
    if affine_mm is not None:
        header.set_sform(affine_mm, code="scanner")
        header.set_qform(affine_mm, code="scanner")
    if (info.rescale_slope, info.rescale_intercept) != (1.0, 0.0):
        header.set_slope_inter(info.rescale_slope, info.rescale_intercept)
    header["magic"] = header.single_magic
    header["vox_offset"] = header.single_vox_offset
    return bytes(header.binaryblock) + b"\0" * 4  # no extensions


def affine_of(data: bytes) -> NDArray[np.float64] | None:
    """Return the affine of header bytes, as of `build_header`; None where the file has none."""
    header = parse_header(data).header
    if int(header["sform_code"]) == 0 and int(header["qform_code"]) == 0:
        return None
    try:
        affine = np.asarray(header.get_best_affine(), dtype=np.float64)
    except (ValueError, nib.spatialimages.HeaderDataError):
        return None
    return affine if np.isfinite(affine).all() else None


def _shape(header: Any) -> tuple[int, int, int, int]:
    dim = [int(extent) for extent in header["dim"]]
    if not 2 <= dim[0] <= 7:
        raise SourceError(f"the NIfTI header has dim[0] = {dim[0]}; a cine has 2 to 4 dimensions")
    extents = dim[1 : dim[0] + 1]
    if min(extents) < 1:
        raise SourceError(f"the NIfTI header has extents {extents}; all must be positive")
    if any(extent != 1 for extent in extents[4:]):
        raise SourceError(f"the NIfTI file has extents {extents}; split it to (x, y, z, t) files")
    columns, rows, slices, phases = (*extents[:4], 1, 1)[:4]
    return slices, phases, rows, columns


def _dtype(header: Any, order: str) -> np.dtype[Any]:
    code = int(header["datatype"])
    if code in _REFUSED:
        raise SourceError(f"{_REFUSED[code]} (NIfTI datatype {code}) are not supported")
    if code not in _DTYPES:
        raise SourceError(f"NIfTI datatype {code} is unknown; the header is damaged")
    return np.dtype(order + _DTYPES[code])


def _offset(header: Any, size: int) -> int:
    offset = float(header["vox_offset"])
    if not size + 4 <= offset <= MAX_HEADER_BYTES or offset != int(offset):
        raise SourceError(
            f"the NIfTI header has vox_offset {offset:g}; expected {size + 4} to {MAX_HEADER_BYTES}"
        )
    return int(offset)


def _rescale(header: Any) -> tuple[float, float]:
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or math.isnan(slope):  # NIfTI: not scaled
        return 1.0, 0.0
    if not math.isfinite(slope) or not math.isfinite(intercept):
        raise SourceError(f"scl_slope {slope}, scl_inter {intercept} must be finite; mend them")
    return slope, intercept


def _spacing_mm(header: Any) -> tuple[float, float, float]:
    to_mm = _MM_PER_UNIT.get(int(header["xyzt_units"]) & 7, 1.0)
    used = int(header["dim"][0])
    spacing = [0.0, 0.0, 0.0]
    for axis in range(1, min(used, 3) + 1):
        value = abs(float(header["pixdim"][axis])) * to_mm
        spacing[3 - axis] = value if math.isfinite(value) else 0.0
    return spacing[0], spacing[1], spacing[2]


def _trigger_times_ms(header: Any, phases: int) -> tuple[float, ...]:
    step = float(header["pixdim"][4])
    to_ms = _MS_PER_UNIT.get(int(header["xyzt_units"]) & 0x38)
    if to_ms is None or not math.isfinite(step) or step <= 0 or not 1 < phases <= MAX_TRIGGER_TIMES:
        return ()
    return tuple(step * to_ms * phase for phase in range(phases))
