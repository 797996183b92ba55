"""NIfTI files, `.nii` and `.nii.gz`, read and written frame by frame in file order.

NIfTI keeps x (columns) fastest, then y (rows), z (slices), t (phases): the order of
`FrameSource.frames`. Only the header is left to nibabel; voxels are read straight from the file, so
that memory stays at one frame.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from edge_codec.errors import SourceError
from edge_codec.io import nifti_header
from edge_codec.io.atomic import AtomicFile
from edge_codec.io.nifti_header import NiftiLayout
from edge_codec.io.samples import choose_format, to_integers
from edge_codec.io.sink import SequentialSink
from edge_codec.io.source import SourceFrame
from edge_codec.spec import SampleFormat, SourceKind, StreamSpec

GZIP_MAGIC = b"\x1f\x8b"
# Deflate packs at most 258 bytes into 2 bits: no gzip file holds more than 1032 times its size.
MAX_GZIP_RATIO = 1032
_GZIP_LEVEL = 6


class NiftiSource:
    """A NIfTI file as a source of frames.

    Float files are read once on opening, to find out how integers can stand for their voxels.

    Parameters
    ----------
    path : Path
        The file; compressed or not is seen from its content.

    Raises
    ------
    SourceError
        If it is not a NIfTI file, is damaged, or cannot be kept without loss.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with _open(path) as file:
            start = _read(file, 4)
            block = start + _read(file, nifti_header.header_size(start) - 4)
            self._layout = nifti_header.parse_header(block)
            self._check_size()
            data = block + _read(file, self._layout.offset - len(block))
            if len(data) != self._layout.offset:
                raise SourceError(f"the file ends after {len(data)} bytes, before its first voxel")
            # Described before the voxels are touched, so that impossible extents fail at once.
            info = nifti_header.describe(self._layout, SampleFormat.INTEGER, data)
        sample_format = choose_format(self._voxels(), self._layout.dtype)
        self.info = replace(info, sample_format=sample_format)

    def frames(self) -> Iterator[SourceFrame]:
        """Yield every frame in file order.

        Raises
        ------
        SourceError
            If the file is cut off, damaged, or has bytes after its voxels.
        """
        slices = self.info.n_slices
        for index, voxels in enumerate(self._voxels()):
            phase_index, slice_index = divmod(index, slices)
            yield SourceFrame(
                slice_index, phase_index, to_integers(voxels, self.info.sample_format)
            )

    def _voxels(self) -> Iterator[NDArray[Any]]:
        slices, phases, rows, columns = self._layout.shape
        dtype = self._layout.dtype
        size = rows * columns * dtype.itemsize
        with _open(self._path) as file:
            _read(file, self._layout.offset)
            for index in range(slices * phases):
                frame = _read(file, size)
                if len(frame) != size:
                    raise SourceError(
                        f"the file is cut off in frame {index} of {slices * phases}: its header "
                        f"promises {self._layout.voxel_bytes} bytes of voxels"
                    )
                voxels = np.frombuffer(frame, dtype).reshape(rows, columns)
                yield voxels.astype(dtype.newbyteorder("="), copy=False)
            if _read(file, 1):
                raise SourceError(
                    "the file goes on after its voxels, and that would be lost; cut it after "
                    f"byte {self._layout.offset + self._layout.voxel_bytes}"
                )

    def _check_size(self) -> None:
        """Compare what the header promises with the file, before anything is allocated."""
        promised = self._layout.offset + self._layout.voxel_bytes
        size = self._path.stat().st_size
        if _is_gzip(self._path):
            if promised > MAX_GZIP_RATIO * size:
                raise SourceError(
                    f"the header promises {promised} bytes; {size} bytes of gzip cannot hold them"
                )
        elif promised != size:
            what = "is cut off" if size < promised else "goes on after its voxels"
            raise SourceError(f"the file {what}: it has {size} bytes, its header says {promised}")


class NiftiSink(SequentialSink):
    """Writes `.nii`, or `.nii.gz` if the name ends so.

    A stream that was made from NIfTI gets its own header bytes back; any other a new header.

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
        data, self._dtype = _header_for(spec)
        self._target = AtomicFile(path, force=force)
        self._file = self._target.file
        if path.name.lower().endswith(".gz"):
            # No time stamp and no name: the same cine always gives the same file.
            packed = gzip.GzipFile(
                filename="", mode="wb", compresslevel=_GZIP_LEVEL, fileobj=self._file, mtime=0
            )
            self._file = cast("BinaryIO", packed)
        self._file.write(data)

    def _put(
        self, slice_index: int, phase_index: int, voxels: NDArray[Any], metadata: bytes
    ) -> None:
        del slice_index, phase_index, metadata
        self._file.write(np.ascontiguousarray(voxels, dtype=self._dtype).data)

    def _finish(self) -> None:
        if self._file is not self._target.file:
            self._file.close()  # writes the rest and the check sum, and leaves the file open
        self._target.commit()

    def _discard(self) -> None:
        if self._file is not self._target.file:
            with suppress(OSError, ValueError):  # a full disk; it goes anyway
                self._file.close()
        self._target.abort()


def _header_for(spec: StreamSpec) -> tuple[bytes, np.dtype[Any]]:
    info = spec.info
    if info.source.kind is not SourceKind.NIFTI:
        return nifti_header.build_header(info, _foreign_affine(spec)), info.dtype.newbyteorder("<")
    layout = nifti_header.parse_header(info.source.data)
    _check_agreement(layout, spec)
    return info.source.data, layout.dtype


def _check_agreement(layout: NiftiLayout, spec: StreamSpec) -> None:
    info = spec.info
    if (
        layout.shape != (info.n_slices, info.n_phases, info.rows, info.columns)
        or layout.dtype.newbyteorder("=") != info.dtype
        or layout.offset != len(info.source.data)
    ):
        raise SourceError(
            f"the NIfTI header in the stream is for {layout.shape} of {layout.dtype}, the stream "
            f"holds {(info.n_slices, info.n_phases, *info.frame_shape)} of {info.dtype}; "
            "write .npy instead"
        )


def _foreign_affine(spec: StreamSpec) -> NDArray[np.float64] | None:
    if spec.info.source.kind is not SourceKind.DICOM:
        return None
    # Here, since NIfTI alone must not need pydicom.
    from edge_codec.io.dicom_geometry import affine_of

    return affine_of(spec.info)


@contextmanager
def _open(path: Path) -> Iterator[BinaryIO]:
    """Open a file, unpacking gzip, and turn what can go wrong while reading into `SourceError`."""
    try:
        with path.open("rb") as raw:
            if _is_gzip(path):
                with gzip.GzipFile(fileobj=raw, mode="rb") as file:
                    yield cast("BinaryIO", file)
            else:
                yield raw
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(f"{path} cannot be read: {error}") from error
    except SourceError as error:
        raise SourceError(f"{path}: {error}") from error


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(GZIP_MAGIC)) == GZIP_MAGIC


def _read(file: BinaryIO, size: int) -> bytes:
    """Read `size` bytes, fewer only at the end, in pieces so that nothing is believed unread."""
    piece = file.read(min(size, 1 << 24))
    if len(piece) == size:
        return piece
    pieces = [piece]
    left = size - len(piece)
    while left and pieces[-1]:
        pieces.append(file.read(min(left, 1 << 24)))
        left -= len(pieces[-1])
    return b"".join(pieces)
