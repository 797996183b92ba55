"""MRD images as frames of the codec, and back, byte for byte.

An image is (channel, z, y, x); a frame is one (y, x) plane. What no frame holds is split further:
complex numbers into a real and an imaginary plane, and floats that the codec has no exact code for
(NaN, infinity, doubles of more than float32's digits) into planes of their 32-bit words. So every
image comes back exactly, whatever its data type.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_codec.errors import FrameError, SourceError
from edge_codec.io.samples import choose_format
from edge_codec.spec import SampleFormat

IMAGE_HEADER_BYTES = 198

# Bytes of a voxel for each of MRD's data types. The standard's type 4 is a 32-bit integer; what the
# Python package `ismrmrd` writes for it has 64 bits and cannot be told from damage.
VOXEL_BYTES = {1: 2, 2: 2, 3: 4, 4: 4, 5: 4, 6: 8, 7: 8, 8: 16}

Buffer = bytes | bytearray | memoryview

_FIELDS = struct.Struct("<2xH8xI3H3fH60x6H16x3H68x")
_SIZES_AT = 16
_CHANNELS_AT = 34

# Elements of a voxel: their dtype, and how many of them.
_ELEMENTS: dict[int, tuple[np.dtype[Any], int]] = {
    1: (np.dtype("<u2"), 1),
    2: (np.dtype("<i2"), 1),
    3: (np.dtype("<u4"), 1),
    4: (np.dtype("<i4"), 1),
    5: (np.dtype("<f4"), 1),
    6: (np.dtype("<f8"), 1),
    7: (np.dtype("<f4"), 2),
    8: (np.dtype("<f8"), 2),
}
_WORD = np.dtype("<u4")


@dataclass(frozen=True, slots=True)
class MrdImage:
    """An image as its bytes.

    Attributes
    ----------
    header : bytes
        The 198 bytes of its header.
    attributes : bytes
        Its meta attributes, XML by convention.
    voxels : buffer
        Its voxels as they came, (channel, z, y, x).
    """

    header: bytes
    attributes: bytes
    voxels: Buffer


class Form(IntEnum):
    """How the planes of an image stand for its voxels; wire id in the packets' notes."""

    INTEGER = 0  # the voxels
    FLOAT = 1  # the floats, as the codec holds floats; real and imaginary parts apart
    WORDS = 2  # the 32-bit words of the floats, lower word first


class ImageHead(NamedTuple):
    """What of an image's header is looked at here; all of it travels along.

    Attributes
    ----------
    data_type : int
        1 to 8: uint16, int16, uint32, int32, float32, float64, complex64, complex128.
    measurement_uid : int
        Of the measurement.
    x, y, z : int
        Matrix size: columns, rows, partitions.
    view_x_mm, view_y_mm, view_z_mm : float
        Field of view.
    channels : int
        Number of channels.
    average, slice_index, contrast, phase, repetition, set_index : int
        Counters.
    image_type, image_index, series : int
        Magnitude, phase, real, ...; number of the image, and of its series.
    """

    data_type: int
    measurement_uid: int
    x: int
    y: int
    z: int
    view_x_mm: float
    view_y_mm: float
    view_z_mm: float
    channels: int
    average: int
    slice_index: int
    contrast: int
    phase: int
    repetition: int
    set_index: int
    image_type: int
    image_index: int
    series: int

    @classmethod
    def unpack(cls, header: bytes) -> ImageHead:
        """Read the 198 bytes of an image's header."""
        return cls(*_FIELDS.unpack(header))

    @property
    def matrix(self) -> tuple[int, int, int, int]:
        """(channels, z, y, x)."""
        return self.channels, self.z, self.y, self.x

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance of voxel centers along (slice, row, column); 0 where the header does not say."""
        pairs = ((self.view_z_mm, self.z), (self.view_y_mm, self.y), (self.view_x_mm, self.x))
        found = [view / count if count else 0.0 for view, count in pairs]
        slices, rows, columns = (
            value if math.isfinite(value) and value > 0 else 0.0 for value in found
        )
        return slices, rows, columns

    def n_planes(self, form: Form) -> int:
        """Return how many frames an image has in a form."""
        return self.channels * self.z * _parts(self.data_type, form)[1]


def with_data_type(header: bytes, data_type: int, x: int, y: int) -> bytes:
    """Return a copy of an image's header for one channel of (y, x) voxels of another type."""
    changed = bytearray(header)
    struct.pack_into("<H", changed, 2, data_type)
    struct.pack_into("<3H", changed, _SIZES_AT, x, y, 1)
    struct.pack_into("<H", changed, _CHANNELS_AT, 1)
    return bytes(changed)


def choose_form(data_type: int, voxels: Buffer) -> Form:
    """Choose how the voxels of an image become frames: exactly, and as small as can be.

    Parameters
    ----------
    data_type : int
        MRD's, 1 to 8.
    voxels : buffer
        Whole image.
    """
    dtype, _ = _ELEMENTS[data_type]
    if dtype.kind != "f":
        return Form.INTEGER
    values = np.frombuffer(voxels, dtype)
    with np.errstate(all="ignore"):  # NaN is an answer here
        if not np.isfinite(values).all():
            return Form.WORDS
        if dtype.itemsize == 8:
            try:
                choose_format([values], np.dtype(np.float64))
            except SourceError:
                return Form.WORDS
    return Form.FLOAT


def is_whole(data_type: int, voxels: Buffer) -> bool:
    """Whether an error bound or a model has a meaning: integers, or floats that are such."""
    dtype, _ = _ELEMENTS[data_type]
    if dtype.kind != "f":
        return True
    values = np.frombuffer(voxels, dtype)
    try:
        with np.errstate(all="ignore"):
            found = choose_format([values], dtype.newbyteorder("="))
    except SourceError:
        return False
    return found is SampleFormat.FLOAT_INTEGER


def split_planes(head: ImageHead, voxels: Buffer, form: Form) -> NDArray[Any]:
    """Return the frames of an image.

    Parameters
    ----------
    head : ImageHead
        Sizes and data type.
    voxels : buffer
        Whole image, (channel, z, y, x).
    form : Form
        From `choose_form`.

    Returns
    -------
    ndarray, shape (channels * z * parts, y, x)
        Integers, or floats for `FLOAT`; a view where the voxels have one part.

    Raises
    ------
    FrameError
        If the voxels are not as many as the header says.
    """
    dtype, parts = _parts(head.data_type, form)
    expected = math.prod(head.matrix) * VOXEL_BYTES[head.data_type]
    if len(voxels) != expected:
        raise FrameError(f"an image of {head.matrix} has {len(voxels)} bytes, not {expected}")
    elements = np.frombuffer(voxels, dtype).reshape(-1, head.y, head.x, parts)
    planes = np.moveaxis(elements, 3, 1).reshape(-1, head.y, head.x)
    return planes.astype(dtype.newbyteorder("="), copy=False)


def join_planes(head: ImageHead, planes: NDArray[Any], form: Form) -> bytes:
    """Return the voxels of an image: the inverse of `split_planes`.

    Raises
    ------
    FrameError
        If the planes are not those of such an image.
    """
    dtype, parts = _parts(head.data_type, form)
    expected = (head.n_planes(form), head.y, head.x)
    if planes.shape != expected or planes.dtype != dtype.newbyteorder("="):
        raise FrameError(
            f"planes are {planes.shape} of {planes.dtype}; an image of {head.matrix} with data "
            f"type {head.data_type} has {expected} of {dtype}"
        )
    elements = planes.reshape(-1, parts, head.y, head.x)
    return np.ascontiguousarray(np.moveaxis(elements, 1, 3), dtype).tobytes()


def plane_dtype(data_type: int, form: Form) -> np.dtype[Any]:
    """Return the native dtype of an image's planes."""
    return _parts(data_type, form)[0].newbyteorder("=")


def _parts(data_type: int, form: Form) -> tuple[np.dtype[Any], int]:
    """Return what a voxel consists of: elements of a dtype, and how many."""
    dtype, count = _ELEMENTS[data_type]
    if form is Form.WORDS:
        return _WORD, count * dtype.itemsize // _WORD.itemsize
    return dtype, count


def fits_form(data_type: int, form: Form) -> bool:
    """Whether an image of a data type can be in a form, for notes from outside."""
    is_float = _ELEMENTS[data_type][0].kind == "f"
    return is_float == (form is not Form.INTEGER)
