"""A frame on its way to the page: a head of 24 bytes, then the voxels, all little-endian.

0   4 bytes   "ECVF"
4   uint8     form of the samples: 0 uint16, 1 uint32, 2 float32
5   3 bytes   0
8   uint32    rows
12  uint32    columns
16  int64     offset: voxel = sample + offset; 0 for float32
24  samples, row by row
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.errors import FrameError

HEAD = struct.Struct("<4sB3xIIq")
MAGIC = b"ECVF"
_FORMS: dict[int, np.dtype[Any]] = {0: np.dtype("<u2"), 1: np.dtype("<u4"), 2: np.dtype("<f4")}


def pack_frame(voxels: NDArray[Any]) -> bytes:
    """Serialize a frame in the smallest form that holds it exactly.

    Parameters
    ----------
    voxels : ndarray, shape (rows, columns)
        Integers that span less than 32 bits, or floats (sent as float32).

    Raises
    ------
    FrameError
        If integers span 32 bits or more.
    """
    rows, columns = voxels.shape
    if voxels.dtype.kind == "f":
        return HEAD.pack(MAGIC, 2, rows, columns, 0) + voxels.astype("<f4").tobytes()
    low, high = int(voxels.min()), int(voxels.max())
    if high - low >= 1 << 32 or not -(1 << 63) <= low < 1 << 63:
        raise FrameError(f"voxels {low} to {high} are too many values to show")
    form = 0 if high - low < 1 << 16 else 1
    # Arithmetic modulo 2**64 is exact, since the differences are known to fit.
    samples = voxels.astype(np.uint64) - np.uint64(low & 0xFFFFFFFFFFFFFFFF)
    data: bytes = samples.astype(_FORMS[form]).tobytes()
    return HEAD.pack(MAGIC, form, rows, columns, low) + data


def unpack_frame(data: bytes) -> NDArray[Any]:
    """Parse a frame: the inverse of `pack_frame`, for tests and other clients.

    Returns
    -------
    ndarray, shape (rows, columns), int64 or float32
        The voxels.

    Raises
    ------
    FrameError
        If the bytes are no frame.
    """
    if len(data) < HEAD.size:
        raise FrameError(f"a packed frame has at least {HEAD.size} bytes, not {len(data)}")
    magic, form, rows, columns, low = HEAD.unpack_from(data)
    dtype = _FORMS.get(form)
    if magic != MAGIC or dtype is None or len(data) != HEAD.size + rows * columns * dtype.itemsize:
        raise FrameError(f"the {len(data)} bytes are no packed frame")
    samples = np.frombuffer(data, dtype, offset=HEAD.size).reshape(rows, columns)
    voxels: NDArray[Any] = samples.astype(np.float32 if form == 2 else np.int64)
    voxels += voxels.dtype.type(low)
    return voxels
