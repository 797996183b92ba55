"""MRD messages for tests, made by the `ismrmrd` package or by hand."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.runtime.mrd.limits import Limits
from edge_codec.runtime.mrd.protocol import ImageMessage
from edge_codec.runtime.mrd.wire import Wire

DTYPES = {
    1: np.uint16,
    2: np.int16,
    3: np.uint32,
    4: np.int32,
    5: np.float32,
    6: np.float64,
    7: np.complex64,
    8: np.complex128,
}
META = (
    b'<?xml version="1.0"?><ismrmrdMeta><meta><name>GADGETRON_Note</name>'
    b"<value>\xc3\xa4</value><value>b</value></meta></ismrmrdMeta>\n\0"
)
XML = b"""<?xml version="1.0"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
 <measurementInformation><measurementID>45_6-7</measurementID>
  <patientPosition>HFS</patientPosition></measurementInformation>
 <experimentalConditions><H1resonanceFrequency_Hz>63500000</H1resonanceFrequency_Hz>
 </experimentalConditions>
 <encoding>
  <encodedSpace><matrixSize><x>16</x><y>16</y><z>1</z></matrixSize>
   <fieldOfView_mm><x>300</x><y>250</y><z>8</z></fieldOfView_mm></encodedSpace>
  <reconSpace><matrixSize><x>16</x><y>16</y><z>1</z></matrixSize>
   <fieldOfView_mm><x>300</x><y>250</y><z>8</z></fieldOfView_mm></reconSpace>
  <encodingLimits><slice><minimum>0</minimum><maximum>1</maximum><center>0</center></slice>
  </encodingLimits>
  <trajectory>cartesian</trajectory>
 </encoding>
</ismrmrdHeader>"""
_HEADER = struct.Struct("<HHQI3H3fH3f3f3f3f3f6HI3I3H8i8fI")


def make_header(
    data_type: int,
    shape: tuple[int, int, int, int],
    *,
    slice_index: int = 0,
    phase: int = 0,
    series: int = 1,
    image_type: int = 1,
    index: int = 0,
    attribute_size: int = 0,
) -> bytes:
    channels, z, y, x = shape
    return _HEADER.pack(
        1, data_type, 1 << 63 | 5, 77, x, y, z, 300.0, 250.5, 8.0, channels,
        *(1.5, -2.5, 3.25), *(1, 0, 0), *(0, 1, 0), *(0, 0, 1), *(0, 0, -700),
        3, slice_index, 4, phase, 5, 6, 123_456, 7, 8, 9, image_type, index, series,
        *range(-4, 4), *(float("nan"), *np.linspace(0, 1, 7)), attribute_size,
    )  # fmt: skip


def make_image(array: NDArray[Any], attributes: bytes = META, **fields: int) -> ImageMessage:
    """Make an image of (channel, z, y, x) voxels."""
    array = array.reshape((1,) * (4 - array.ndim) + array.shape)
    data_type = next(number for number, dtype in DTYPES.items() if array.dtype == dtype)
    shape = (array.shape[0], array.shape[1], array.shape[2], array.shape[3])
    fields.setdefault("attribute_size", len(attributes))
    header = make_header(data_type, shape, **fields)
    return ImageMessage(header, attributes, array.tobytes())


def random_voxels(data_type: int, shape: tuple[int, ...], seed: int = 0) -> NDArray[Any]:
    """Voxels of a data type that use all of its bits."""
    dtype = np.dtype(DTYPES[data_type])
    count = int(np.prod(shape)) * dtype.itemsize
    raw = np.frombuffer(np.random.default_rng(seed).bytes(count), dtype)
    return raw.reshape(shape)


def smooth_voxels(data_type: int, shape: tuple[int, ...], seed: int = 0) -> NDArray[Any]:
    """Voxels as a scanner sends them."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[-2], : shape[-1]]
    heart = 900 * np.exp(-((y - shape[-2] / 2) ** 2 + (x - shape[-1] / 2) ** 2) / 60)
    voxels = heart + generator.normal(0, 8, shape) + 60
    dtype = np.dtype(DTYPES[data_type])
    if dtype.kind == "c":
        return (voxels * np.exp(1j * generator.uniform(-3, 3, shape))).astype(dtype)
    if dtype.kind == "f":
        return voxels.astype(dtype)
    return np.rint(np.maximum(voxels, 0)).astype(dtype)


def same(first: ImageMessage, second: ImageMessage) -> bool:
    """Compare images byte for byte."""
    return (
        first.header == second.header
        and first.attributes == second.attributes
        and bytes(first.voxels) == bytes(second.voxels)
    )


@contextmanager
def wire_pair(limits: Limits) -> Iterator[tuple[socket.socket, Wire]]:
    """Connect a raw socket and a wire in memory."""
    near, far = socket.socketpair()
    wire = Wire(far, limits)
    try:
        yield near, wire
    finally:
        near.close()
        wire.close()
