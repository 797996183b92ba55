"""One DICOM file: where its voxels lie, and its bytes before and after them."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import uid
from pydicom.config import disable_value_validation
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import iter_pixels

from edge_codec.errors import SourceError
from edge_codec.io.dicom_metadata import MAX_BYTES, DicomHeader
from edge_codec.spec import MAX_FRAME_VOXELS

PIXEL_TAG = (0x7FE0, 0x0010)
_UNDEFINED = 0xFFFFFFFF
_NATIVE = (uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian)
# All that pydicom and its plug-ins were seen to raise on damaged files.
_PARSE_ERRORS = (
    InvalidDicomError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    ArithmeticError,
    struct.error,
    zlib.error,
    EOFError,
    OSError,
    MemoryError,
)


@dataclass(frozen=True, slots=True)
class PixelLayout:
    """How a DICOM file keeps its voxels.

    Attributes
    ----------
    rows, columns, n_frames : int
        Extent.
    dtype : numpy.dtype
        Pixel words, with their byte order if `native`, else in that of the machine.
    native : bool
        Whether the voxels lie in the file as plain words; else they are decoded by pydicom.
    offset : int
        Where the value of Pixel Data starts.
    big_endian : bool
        Byte order of the file.
    """

    rows: int
    columns: int
    n_frames: int
    dtype: np.dtype[Any]
    native: bool
    offset: int
    big_endian: bool

    @property
    def frame_bytes(self) -> int:
        """Size of a decoded frame."""
        return self.rows * self.columns * self.dtype.itemsize

    @property
    def voxel_bytes(self) -> int:
        """Size of all decoded frames."""
        return self.n_frames * self.frame_bytes


@contextmanager
def parsing(what: object) -> Iterator[None]:
    """Turn errors of pydicom into `SourceError`, and keep its remarks on odd values quiet.

    Odd values are kept as they are, so remarks on them would only alarm.
    """
    try:
        with disable_value_validation(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except _PARSE_ERRORS as error:
        raise SourceError(f"{what}: the DICOM data cannot be read: {error}") from error
    except SourceError as error:
        text = str(error)
        raise SourceError(text if text.startswith(str(what)) else f"{what}: {text}") from error


def is_dicom(path: Path) -> bool:
    """Whether a file has the mark of DICOM after its preamble."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def open_dataset(path: Path) -> tuple[pydicom.FileDataset, PixelLayout | None]:
    """Read the data set before the voxels, and their layout; None for a file without pixels.

    Raises
    ------
    SourceError
        If the file is damaged, or its pixels are of a kind that is not supported.
    """
    with parsing(path):
        meta = read_file_meta_info(path)
        # Absent in old files; what pydicom then assumes. Inflating is not bounded, so refused.
        syntax = uid.UID(str(meta.get("TransferSyntaxUID", uid.ImplicitVRLittleEndian)))
        if syntax == uid.DeflatedExplicitVRLittleEndian:
            raise SourceError("deflated DICOM is not supported; convert it to Explicit VR")
        with path.open("rb") as file:
            dataset = pydicom.dcmread(file, stop_before_pixels=True)
            element = _read_element_header(file)
            size = os.fstat(file.fileno()).st_size
        return dataset, None if element is None else _layout(dataset, syntax, element, size)


def split(path: Path, layout: PixelLayout) -> DicomHeader:
    """Return what surrounds the voxels of a file.

    Compressed files become what the same data set would be as uncompressed Explicit VR Little
    Endian.

    Raises
    ------
    SourceError
        If the file cannot be read, or what surrounds the voxels is too large for a stream.
    """
    with parsing(path), path.open("rb") as file:
        if not layout.native:
            return _split_compressed(path, layout)
        size = os.fstat(file.fileno()).st_size
        if size - layout.voxel_bytes > MAX_BYTES:
            raise SourceError(
                f"{size - layout.voxel_bytes} bytes beside the pixels; the limit is {MAX_BYTES}"
            )
        prefix = file.read(layout.offset)
        file.seek(layout.offset + layout.voxel_bytes)
        return DicomHeader(prefix, file.read(), layout.big_endian, path.name)


def read_frames(path: Path, layout: PixelLayout, numbers: Iterable[int]) -> Iterator[NDArray[Any]]:
    """Yield frames by their number in the file, in native byte order.

    Raises
    ------
    SourceError
        If a frame cannot be read or decoded.
    """
    decode = _read_native if layout.native else _read_decoded
    frames = iter(decode(path, layout, numbers))
    while True:
        # Not around the yield: what the consumer does meanwhile is not this function's to handle.
        with parsing(path):
            frame = next(frames, None)
        if frame is None:
            return
        yield frame


def serialize(dataset: pydicom.FileDataset, voxel_bytes: int, name: str) -> DicomHeader:
    """Write a data set with room for voxels, in its own transfer syntax (an uncompressed one).

    Parameters
    ----------
    dataset : pydicom.FileDataset
        With `file_meta`; its pixels are replaced.
    voxel_bytes : int
        Size of the voxels.
    name : str
        Name of the file.

    Raises
    ------
    SourceError
        If the voxels exceed what a DICOM element can hold.
    """
    if voxel_bytes >= _UNDEFINED - 1:
        raise SourceError(f"{voxel_bytes} bytes of pixels exceed a DICOM file; write .nii instead")
    dataset.add_new(PIXEL_TAG, "OB" if dataset.BitsAllocated <= 8 else "OW", b"")
    file = io.BytesIO()
    pydicom.dcmwrite(file, dataset, enforce_file_format=False)
    file.seek(0)
    pydicom.dcmread(file, stop_before_pixels=True)
    element = _read_element_header(file)
    if element is None:
        raise SourceError("the DICOM header cannot be written")
    big_endian = dataset.file_meta.TransferSyntaxUID == uid.ExplicitVRBigEndian
    padding = voxel_bytes % 2  # DICOM values have even lengths
    length = (voxel_bytes + padding).to_bytes(4, "big" if big_endian else "little")
    data = file.getvalue()
    return DicomHeader(
        prefix=data[: element.offset - 4] + length,
        suffix=b"\0" * padding + data[element.offset :],
        big_endian=big_endian,
        name=name,
    )


def join(header: DicomHeader, voxel_bytes: int) -> pydicom.FileDataset:
    """Return the data set of a header, with empty pixels: the inverse of `serialize`."""
    length = int.from_bytes(header.prefix[-4:], "big" if header.big_endian else "little")
    padding = max(0, length - voxel_bytes)
    data = header.prefix[:-4] + b"\0\0\0\0" + header.suffix[padding:]
    return pydicom.dcmread(io.BytesIO(data))


@dataclass(frozen=True, slots=True)
class _Element:
    """Header of the Pixel Data element."""

    vr: str
    offset: int
    length: int
    big_endian: bool


def _read_element_header(file: BinaryIO) -> _Element | None:
    """Read the element header where `dcmread` has stopped; None at the end of the file."""
    start = file.read(12)
    if len(start) < 8:
        return None
    big_endian = start[:2] == b"\x7f\xe0"
    order = ">" if big_endian else "<"
    tag = struct.unpack(f"{order}HH", start[:4])
    if tag != PIXEL_TAG:
        if tag[0] == PIXEL_TAG[0]:
            raise SourceError("floating point pixels are not supported in DICOM; use NIfTI")
        return None
    # Implicit VR has the length here, whose first byte is even, unlike these letters.
    if start[4:6] in (b"OB", b"OW", b"UN") and len(start) == 12:
        length = struct.unpack(f"{order}I", start[8:])[0]
        return _Element(start[4:6].decode(), file.tell(), length, big_endian)
    length = struct.unpack(f"{order}I", start[4:8])[0]
    return _Element("", file.tell() - len(start) + 8, length, big_endian)


def _layout(
    dataset: pydicom.Dataset, syntax: uid.UID, element: _Element, file_size: int
) -> PixelLayout:
    kind = str(dataset.get("PhotometricInterpretation", "")).strip()
    if int(dataset.get("SamplesPerPixel", 1)) != 1 or not kind.startswith("MONOCHROME"):
        raise SourceError(f"{kind or 'color'} pixels are not supported; only MONOCHROME1 and 2")
    bits = int(dataset.BitsAllocated)
    if bits not in (8, 16, 32):
        raise SourceError(f"pixels of {bits} bits are not supported; only 8, 16 and 32")
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    n_frames = int(dataset.get("NumberOfFrames", None) or 1)
    if min(rows, columns, n_frames) < 1 or rows * columns > MAX_FRAME_VOXELS:
        raise SourceError(f"{n_frames} frames of {rows}x{columns} are out of range")
    dtype = np.dtype(f"{'i' if int(dataset.get('PixelRepresentation', 0)) else 'u'}{bits // 8}")
    # In big endian OW, 8-bit pixels are swapped in pairs: left to pydicom.
    native = syntax in _NATIVE and not (element.big_endian and bits == 8 and element.vr != "OB")
    if native:
        dtype = dtype.newbyteorder(">" if element.big_endian else "<")
    layout = PixelLayout(rows, columns, n_frames, dtype, native, element.offset, element.big_endian)
    if native:
        _check_native_size(layout, element, file_size)
    elif syntax not in _NATIVE:
        _check_decoder(syntax)
        if n_frames > file_size:  # each has at least the header of its item
            raise SourceError(f"the file of {file_size} bytes cannot hold {n_frames} frames")
    return layout


def _check_native_size(layout: PixelLayout, element: _Element, file_size: int) -> None:
    if element.length == _UNDEFINED or element.length < layout.voxel_bytes:
        raise SourceError(
            f"Pixel Data has {element.length} bytes, the header promises {layout.voxel_bytes}"
        )
    if layout.offset + element.length > file_size:
        raise SourceError(
            f"the file is cut off: it has {file_size} bytes, its header promises "
            f"{layout.offset + element.length}"
        )


def _check_decoder(syntax: uid.UID) -> None:
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        raise SourceError(
            f"transfer syntax '{syntax.name}' is not supported; convert the files to Explicit VR "
            "Little Endian"
        ) from error
    if not decoder.is_available:
        raise SourceError(
            f"a decoder for '{syntax.name}' is missing; install it with: pip install pylibjpeg "
            "pylibjpeg-libjpeg pylibjpeg-openjpeg pylibjpeg-rle"
        )


def _read_native(path: Path, layout: PixelLayout, numbers: Iterable[int]) -> Iterator[NDArray[Any]]:
    with path.open("rb") as file:
        for number in numbers:
            file.seek(layout.offset + number * layout.frame_bytes)
            data = file.read(layout.frame_bytes)
            if len(data) != layout.frame_bytes:
                raise SourceError("the file was cut off while it was read")
            frame = np.frombuffer(data, layout.dtype).reshape(layout.rows, layout.columns)
            yield frame.astype(layout.dtype.newbyteorder("="), copy=False)


def _read_decoded(
    path: Path, layout: PixelLayout, numbers: Iterable[int]
) -> Iterator[NDArray[Any]]:
    for frame in iter_pixels(path, indices=list(numbers), raw=True):
        if frame.shape != (layout.rows, layout.columns):
            raise SourceError(f"a frame decodes to {frame.shape}; the header says otherwise")
        if not np.can_cast(frame.dtype, layout.dtype):
            raise SourceError(f"a frame decodes to {frame.dtype}, the header says {layout.dtype}")
        yield frame.astype(layout.dtype)


def _split_compressed(path: Path, layout: PixelLayout) -> DicomHeader:
    # Deferred: the compressed pixels, of any size, are not wanted in memory.
    dataset = pydicom.dcmread(path, defer_size="1 MB")
    for element in (PIXEL_TAG[1], 1, 2, 3):  # offset tables hold for compressed pixels only
        tag = pydicom.tag.Tag(PIXEL_TAG[0], element)
        if tag in dataset:
            del dataset[tag]
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    return serialize(dataset, layout.voxel_bytes, path.name)
