"""NumPy `.npy` files: (row, column), (phase, row, column) or (slice, phase, row, column).

In C order every frame lies in one piece. In Fortran order the frame number runs fastest, in the
very order of `FrameSource.frames`: element (frame `f`, pixel `q`) is number `q * n_frames + f`,
with `q = row + column * rows`. Frames are then moved in blocks of `BLOCK_BYTES`, pixel by pixel.
"""

from __future__ import annotations

import io
import os
import tokenize
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from edge_codec.errors import SourceError, SpecError
from edge_codec.io.atomic import AtomicFile
from edge_codec.io.samples import choose_format, to_integers
from edge_codec.io.sink import SequentialSink
from edge_codec.io.source import SourceFrame
from edge_codec.spec import DTYPE_IDS, CineInfo, SourceHeader, SourceKind, StreamSpec

BLOCK_BYTES = 64 << 20
# All that NumPy's parser was seen to raise on damaged headers.
_HEADER_ERRORS = (
    ValueError,
    Warning,
    SyntaxError,
    RecursionError,
    TypeError,
    tokenize.TokenError,
)


@dataclass(frozen=True, slots=True)
class NpyLayout:
    """Where and how a `.npy` file keeps its voxels.

    Attributes
    ----------
    shape : tuple of int
        (slices, phases, rows, columns).
    dtype : numpy.dtype
        Voxels as stored, with their byte order.
    fortran : bool
        Whether the frame number runs fastest.
    offset : int
        Bytes before the first voxel.
    """

    shape: tuple[int, int, int, int]
    dtype: np.dtype[Any]
    fortran: bool
    offset: int

    @property
    def frame_voxels(self) -> int:
        """Voxels of a frame."""
        return self.shape[2] * self.shape[3]

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return self.shape[0] * self.shape[1]

    @property
    def size(self) -> int:
        """Size of the whole file."""
        return self.offset + self.n_frames * self.frame_voxels * self.dtype.itemsize

    @property
    def block_frames(self) -> int:
        """Number of frames that are moved together in Fortran order."""
        return max(1, BLOCK_BYTES // (self.frame_voxels * self.dtype.itemsize))


def parse_header(file: BinaryIO) -> NpyLayout:
    """Read the header from the start of a file, which is left at the first voxel.

    Raises
    ------
    SourceError
        If it is damaged, or describes what a cine cannot hold.
    """
    shape, fortran, dtype = read_array_header(file)
    _check_dtype(dtype)
    if not 2 <= len(shape) <= 4 or min(shape) < 1:
        raise SourceError(
            f"an array of shape {shape} is not a cine; expected (row, column), "
            "(phase, row, column) or (slice, phase, row, column)"
        )
    full = (1, 1, 1, 1)[: 4 - len(shape)] + tuple(shape)
    return NpyLayout((full[0], full[1], full[2], full[3]), dtype, fortran, file.tell())


def read_array_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read shape, whether in Fortran order, and dtype from the start of any `.npy` file.

    Nothing is believed of them: they are not compared with the file's size.

    Raises
    ------
    SourceError
        If the header is damaged.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # headers of Python 2 need more than a literal parser
            version = np.lib.format.read_magic(file)
            readers = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }
            if version not in readers:
                raise SourceError(f"npy version {version} is not supported; save it again")
            shape, fortran, dtype = readers[version](file)
    except _HEADER_ERRORS as error:
        raise SourceError(f"not a npy file with a plain array: {error}") from error
    return tuple(shape), bool(fortran), dtype


class NpySource:
    """A `.npy` file as a source of frames.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    SourceError
        If it is not a `.npy` file, is damaged, or cannot be kept without loss.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self.info = self._describe()
        except (OSError, EOFError) as error:
            raise SourceError(f"{path} cannot be read: {error}") from error
        except (SourceError, SpecError) as error:
            raise SourceError(f"{path}: {error}") from error

    def frames(self) -> Iterator[SourceFrame]:
        """Yield every frame.

        Raises
        ------
        SourceError
            If the file was cut off meanwhile.
        """
        slices = self.info.n_slices
        for index, voxels in enumerate(self._voxels()):
            phase_index, slice_index = divmod(index, slices)
            yield SourceFrame(
                slice_index, phase_index, to_integers(voxels, self.info.sample_format)
            )

    def _describe(self) -> CineInfo:
        with self._path.open("rb") as file:
            self._layout = parse_header(file)
            size = os.fstat(file.fileno()).st_size
            if size != self._layout.size:
                raise SourceError(f"the file has {size} bytes, its header says {self._layout.size}")
            file.seek(0)
            data = file.read(self._layout.offset)
        info = CineInfo(
            *self._layout.shape,
            dtype=self._layout.dtype.newbyteorder("="),
            source=SourceHeader(SourceKind.NPY, data),
        )
        sample_format = choose_format(self._voxels(), self._layout.dtype)
        return replace(info, sample_format=sample_format)

    def _voxels(self) -> Iterator[NDArray[Any]]:
        native = self._layout.dtype.newbyteorder("=")
        with self._path.open("rb", buffering=0) as file:
            read = self._read_fortran(file) if self._layout.fortran else self._read_c(file)
            for voxels in read:
                yield voxels.astype(native, copy=False)

    def _read_c(self, file: io.FileIO) -> Iterator[NDArray[Any]]:
        slices, phases, rows, columns = self._layout.shape
        for index in range(slices * phases):
            phase_index, slice_index = divmod(index, slices)
            frame = np.empty((rows, columns), self._layout.dtype)
            file.seek(self._layout.offset + (slice_index * phases + phase_index) * frame.nbytes)
            _read_into(file, frame)
            yield frame

    def _read_fortran(self, file: io.FileIO) -> Iterator[NDArray[Any]]:
        layout = self._layout
        _, _, rows, columns = layout.shape
        for start in range(0, layout.n_frames, layout.block_frames):
            count = min(layout.block_frames, layout.n_frames - start)
            block = np.empty((layout.frame_voxels, count), layout.dtype)
            if count == layout.n_frames:
                file.seek(layout.offset)
                _read_into(file, block)
            else:
                for pixel in range(layout.frame_voxels):
                    _seek_pixel(file, layout, pixel, start)
                    _read_into(file, block[pixel])
            for frame in block.T:
                yield np.ascontiguousarray(frame.reshape(columns, rows).T)


class NpySink(SequentialSink):
    """Writes `.npy`.

    A stream that was made from `.npy` gets its header bytes, shape and order back; any other
    becomes an array (slice, phase, row, column) in C order, little endian.

    Parameters
    ----------
    path : Path
        Target.
    spec : StreamSpec
        Stream to write.
    force : bool
        Whether an existing file may be replaced.

    Raises
    ------
    SourceError
        If the target exists, or the header in the stream does not fit the stream.
    """

    def __init__(self, path: Path, spec: StreamSpec, *, force: bool) -> None:
        super().__init__(spec)
        data = _header_for(spec.info)
        self._layout = parse_header(io.BytesIO(data))
        _check_agreement(self._layout, spec.info, len(data))
        self._block: list[NDArray[Any]] = []
        self._flushed = 0
        self._target = AtomicFile(path, force=force)
        self._file = self._target.file
        self._file.write(data)

    def _put(
        self, slice_index: int, phase_index: int, voxels: NDArray[Any], metadata: bytes
    ) -> None:
        del metadata
        frame = np.ascontiguousarray(voxels, dtype=self._layout.dtype)
        if self._layout.fortran:
            self._block.append(frame.T.reshape(-1))
            if len(self._block) == self._layout.block_frames:
                self._flush_block()
            return
        place = slice_index * self.info.n_phases + phase_index
        self._file.seek(self._layout.offset + place * frame.nbytes)
        self._file.write(frame.data)

    def _flush_block(self) -> None:
        if not self._block:
            return
        block = np.empty((self._layout.frame_voxels, len(self._block)), self._layout.dtype)
        np.stack(self._block, axis=1, out=block)
        if block.shape[1] == self._layout.n_frames:
            self._file.write(block.data)
        else:
            for pixel in range(self._layout.frame_voxels):
                _seek_pixel(self._file, self._layout, pixel, self._flushed)
                self._file.write(block[pixel].data)
        self._flushed += len(self._block)
        self._block.clear()

    def _finish(self) -> None:
        self._flush_block()
        self._target.commit()

    def _discard(self) -> None:
        self._block.clear()
        self._target.abort()


def _seek_pixel(file: BinaryIO | io.FileIO, layout: NpyLayout, pixel: int, frame: int) -> None:
    file.seek(layout.offset + (pixel * layout.n_frames + frame) * layout.dtype.itemsize)


def _read_into(file: io.FileIO, array: NDArray[Any]) -> None:
    view = array.reshape(-1).view(np.uint8).data
    while view:
        count = file.readinto(view)
        if not count:
            raise SourceError("the file was cut off while it was read")
        view = view[count:]


def _check_dtype(dtype: np.dtype[Any]) -> None:
    if dtype.kind in "biuf" and dtype.newbyteorder("=") in DTYPE_IDS:
        return
    advice = {
        "b": "save it as uint8",
        "f": "save it as float32, which holds every float16 exactly, or as float64",
        "O": "objects are never unpickled; save a plain array",
        "c": "save magnitude and phase as two files",
    }.get(dtype.kind, "save an array of integers")
    raise SourceError(f"voxels of dtype {dtype} are not supported; {advice}")


def _header_for(info: CineInfo) -> bytes:
    if info.source.kind is SourceKind.NPY:
        return info.source.data
    file = io.BytesIO()
    header = {
        "descr": np.lib.format.dtype_to_descr(info.dtype.newbyteorder("<")),
        "fortran_order": False,
        "shape": (info.n_slices, info.n_phases, *info.frame_shape),
    }
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue()


def _check_agreement(layout: NpyLayout, info: CineInfo, header_bytes: int) -> None:
    expected = (info.n_slices, info.n_phases, *info.frame_shape)
    if (
        layout.shape != expected
        or layout.dtype.newbyteorder("=") != info.dtype
        or layout.offset != header_bytes
    ):
        raise SourceError(
            f"the npy header in the stream is for {layout.shape} of {layout.dtype}, the stream "
            f"holds {expected} of {info.dtype}; write .nii instead"
        )
