"""Compression and decompression of files and folders on the disk."""

from __future__ import annotations

import io
from pathlib import Path

from edge_codec.errors import SourceError
from edge_codec.io import FrameSink, open_sink, open_source
from edge_codec.io.atomic import atomic_file
from edge_codec.runtime.options import CompressOptions, DecompressOptions, TransferReport
from edge_codec.runtime.progress import Progress, silent
from edge_codec.runtime.stream_decoding import decode_stream
from edge_codec.runtime.stream_encoding import encode_stream
from edge_codec.spec import StreamSpec

SOURCE_SUFFIXES = (".nii", ".nii.gz", ".npy", ".h5", ".dcm")


def compress_file(
    source: Path, target: Path, options: CompressOptions, progress: Progress = silent
) -> TransferReport:
    """Compress a NIfTI, DICOM or npy file or folder into a stream file.

    The target appears only when it is whole.

    Raises
    ------
    SourceError
        If the source cannot be read or kept without loss, or the target exists.
    SpecError, FrameError, EngineError
        If its values, the options or the model do not fit.
    """
    if target.name.lower().endswith(SOURCE_SUFFIXES):
        raise SourceError(f"{target} is to be a stream but named like a source; name it .ecd")
    if target.exists() and target.samefile(source):
        raise SourceError(f"{target} is the source itself; choose another target")
    with atomic_file(target, force=options.force) as file:
        return encode_stream(open_source(source, series=options.series), file, options, progress)


def decompress_file(
    source: Path, target: Path, options: DecompressOptions, progress: Progress = silent
) -> TransferReport:
    """Decompress a stream file into NIfTI, npy or DICOM, chosen by the target's suffix.

    Raises
    ------
    BitstreamError
        If the stream is damaged and `options.recover` is not set.
    SourceError, EngineError
        If the target cannot be written, or the model is not the stream's.
    """
    if target.exists() and target.samefile(source):
        raise SourceError(f"{target} is the stream itself; choose another target")
    with source.open("rb") as file:
        size = file.seek(0, io.SEEK_END)

        def open_target(spec: StreamSpec) -> FrameSink:
            info = spec.info
            voxels = info.n_slices * info.n_phases * info.rows * info.columns
            ratio = voxels * info.dtype.itemsize / size
            return open_sink(target, spec, force=options.force, lossy_ratio=ratio)

        return decode_stream(file, open_target, options, progress)
