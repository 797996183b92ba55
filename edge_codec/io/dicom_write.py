"""DICOM as a target: the source's own files again, or derived, or new ones.

Lossless, each file of a stream that was made from DICOM is written as it was, byte for byte. With
loss it becomes a derived image (`DerivedHeaders`). A stream from elsewhere becomes a new series.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_codec.errors import SourceError
from edge_codec.io.atomic import AtomicFile, AtomicFolder
from edge_codec.io.dicom_file import is_dicom
from edge_codec.io.dicom_headers import DerivedHeaders, NewHeaders
from edge_codec.io.dicom_metadata import DicomHeader
from edge_codec.io.sink import SequentialSink
from edge_codec.spec import SourceKind, StreamSpec

logger = logging.getLogger(__name__)


def open_dicom_sink(
    path: Path, spec: StreamSpec, *, single: bool, force: bool, lossy_ratio: float | None
) -> SequentialSink:
    """Open a DICOM target.

    Parameters
    ----------
    path : Path
        File or folder.
    spec : StreamSpec
        Stream to write.
    single : bool
        Whether `path` is a file.
    force : bool
        Whether an existing file, or a folder of DICOM files, may be replaced.
    lossy_ratio : float, optional
        Bytes of the voxels over bytes of the stream.

    Raises
    ------
    SourceError
        If the target cannot hold the stream, exists, or cannot be written.
    """
    multi_frame = False
    if spec.info.source.kind is SourceKind.DICOM:
        multi_frame = bool(DicomHeader.unpack(spec.info.source.data).frame_order)
    n_frames = spec.info.n_slices * spec.info.n_phases
    if single and not multi_frame and n_frames > 1:
        raise SourceError(
            f"{path}: the stream becomes {n_frames} DICOM files; give a folder, its name ending "
            "in a slash"
        )
    kind: type[SeriesSink | MultiFrameSink] = MultiFrameSink if multi_frame else SeriesSink
    target: _Target = _FileTarget(path, force=force) if single else _FolderTarget(path, force=force)
    try:
        return kind(target, spec, lossy_ratio)
    except BaseException:
        target.abort()
        raise


class SeriesSink(SequentialSink):
    """Writes one file per frame.

    Parameters
    ----------
    target : _Target
        Where the files go.
    spec : StreamSpec
        Stream to write.
    lossy_ratio : float, optional
        Bytes of the voxels over bytes of the stream.
    """

    def __init__(self, target: _Target, spec: StreamSpec, lossy_ratio: float | None) -> None:
        super().__init__(spec)
        self._target = target
        self._new: NewHeaders | None = None
        self._derived: DerivedHeaders | None = None
        if spec.info.source.kind is not SourceKind.DICOM:
            self._new = NewHeaders(spec, lossy_ratio)
            if 0.0 in spec.info.spacing_mm:
                logger.warning("spacing is not known; the DICOM files say 1 mm instead")
        elif not spec.lossless:
            self._derived = DerivedHeaders(spec, lossy_ratio)
        self._written = 0

    def _put(
        self, slice_index: int, phase_index: int, voxels: NDArray[Any], metadata: bytes
    ) -> None:
        if self._new is not None:
            voxels = voxels.astype(self._new.dtype)
            header = self._new.make(slice_index, phase_index)
        elif not metadata:
            logger.warning(
                "slice %d, phase %d has no DICOM header in the stream: no file is written",
                slice_index,
                phase_index,
            )
            return
        else:
            header = DicomHeader.unpack(metadata)
            header.check(voxels.nbytes, 1)
            if self._derived is not None:
                header = self._derived.derive(header, voxels, 1)
        fallback = f"s{slice_index:03d}_p{phase_index:04d}.dcm"
        file = self._target.create(header.name, fallback)
        file.write(header.prefix)
        file.write(_words(voxels, header))
        file.write(header.suffix)
        self._target.finish(file)
        self._written += 1

    def _finish(self) -> None:
        if not self._written:
            raise SourceError(
                "the stream has no DICOM header for any frame; write .nii or .npy instead"
            )
        self._target.commit()

    def _discard(self) -> None:
        self._target.abort()


class MultiFrameSink(SequentialSink):
    """Writes the one file of a stream that was made from a multi-frame file.

    Parameters
    ----------
    target : _Target
        Where the file goes.
    spec : StreamSpec
        Stream to write.
    lossy_ratio : float, optional
        Bytes of the voxels over bytes of the stream.

    Raises
    ------
    SourceError
        If the header in the stream does not fit the stream.
    """

    def __init__(self, target: _Target, spec: StreamSpec, lossy_ratio: float | None) -> None:
        super().__init__(spec)
        info = spec.info
        header = DicomHeader.unpack(info.source.data)
        frame_bytes = info.rows * info.columns * info.dtype.itemsize
        if len(header.frame_order) != self.n_frames:
            raise SourceError("the DICOM header in the stream has other frames than the stream")
        header.check(frame_bytes * self.n_frames, self.n_frames)
        if not spec.lossless:
            anything = np.zeros(info.frame_shape, info.dtype)
            header = DerivedHeaders(spec, lossy_ratio).derive(header, anything, self.n_frames)
        self._header = header
        self._target = target
        self._file = target.create(header.name, "multiframe.dcm")
        self._file.write(header.prefix)

    def _put(
        self, slice_index: int, phase_index: int, voxels: NDArray[Any], metadata: bytes
    ) -> None:
        del metadata  # the stream's header has it too
        number = self._header.frame_order[phase_index * self.info.n_slices + slice_index]
        self._file.seek(len(self._header.prefix) + number * voxels.nbytes)
        self._file.write(_words(voxels, self._header))

    def _finish(self) -> None:
        self._file.seek(0, 2)
        self._file.write(self._header.suffix)
        self._target.finish(self._file)
        self._target.commit()

    def _discard(self) -> None:
        self._file.close()
        self._target.abort()


class _Target(Protocol):
    """A folder or file that DICOM files are written to."""

    def create(self, name: str, fallback: str) -> BinaryIO:
        """Open a file to write."""

    def finish(self, file: BinaryIO) -> None:
        """End a file."""

    def commit(self) -> None:
        """Complete the target."""

    def abort(self) -> None:
        """Leave nothing behind."""


class _FolderTarget:
    """Files in a new folder, under their own names where these are sound and differ."""

    def __init__(self, path: Path, *, force: bool) -> None:
        self._folder = AtomicFolder(path, force=force, replaceable=_is_dicom_file)
        self._taken: set[str] = set()

    def create(self, name: str, fallback: str) -> BinaryIO:
        if not _is_plain(name) or name.casefold() in self._taken:
            name = fallback
        if name.casefold() in self._taken:
            name = f"{len(self._taken)}_{name}"
        self._taken.add(name.casefold())
        return (self._folder.part / name).open("xb")

    def finish(self, file: BinaryIO) -> None:
        file.close()

    def commit(self) -> None:
        self._folder.commit()

    def abort(self) -> None:
        self._folder.abort()


class _FileTarget:
    """A single file, whatever its name was."""

    def __init__(self, path: Path, *, force: bool) -> None:
        self._target = AtomicFile(path, force=force)

    def create(self, name: str, fallback: str) -> BinaryIO:
        del name, fallback
        return self._target.file

    def finish(self, file: BinaryIO) -> None:
        del file  # closed with the target

    def commit(self) -> None:
        self._target.commit()

    def abort(self) -> None:
        self._target.abort()


def _is_dicom_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and is_dicom(path)


def _is_plain(name: str) -> bool:
    """Whether a name from a stream, which anybody may have written, stays in its folder."""
    return (
        0 < len(name.encode()) <= 200
        and name.isprintable()
        and not name.startswith(".")
        and not set(name) & set('/\\:*?"<>|')
    )


def _words(voxels: NDArray[Any], header: DicomHeader) -> memoryview:
    dtype = voxels.dtype.newbyteorder(">" if header.big_endian else "<")
    return np.ascontiguousarray(voxels, dtype).data
