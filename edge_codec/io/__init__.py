"""Files of cine MRI: NIfTI, DICOM, npy and ISMRMRD, read and written frame by frame.

Only the library that a file needs is imported, and only when it is opened.
"""

from __future__ import annotations

import os
from pathlib import Path

from edge_codec.errors import SourceError
from edge_codec.io.sink import SequentialSink
from edge_codec.io.source import FrameSink, FrameSource, SourceFrame
from edge_codec.spec import StreamSpec

__all__ = ["FrameSink", "FrameSource", "SourceFrame", "open_sink", "open_source"]

_SUPPORTED = ".nii, .nii.gz, .npy, .h5 (ISMRMRD), .dcm, or a folder of DICOM files"
_PAIR_SUFFIXES = (".hdr", ".img", ".hdr.gz", ".img.gz")
_DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")


def open_source(path: str | os.PathLike[str], *, series: str | None = None) -> FrameSource:
    """Open a file or folder to read a cine from.

    Parameters
    ----------
    path : path
        `.nii`, `.nii.gz`, `.npy`, `.h5` of ISMRMRD, a DICOM file, or a folder with the files of a
        DICOM series.
    series : str, optional
        SeriesInstanceUID, where a folder holds several; group of images, where a `.h5` does.

    Raises
    ------
    SourceError
        If it does not exist, is of another kind, is damaged, or cannot be kept without loss.
    """
    path = Path(path)
    name = path.name.lower()
    if not path.exists():
        raise SourceError(f"{path} does not exist")
    if name.endswith(_PAIR_SUFFIXES):
        raise SourceError(f"{path}: .hdr/.img pairs are not supported; convert it to one .nii file")
    is_nifti = name.endswith((".nii", ".nii.gz"))
    is_npy = name.endswith(".npy")
    if name.endswith(".h5") and not path.is_dir():
        from edge_codec.io.mrd import MrdSource

        return MrdSource(path, series)
    if path.is_dir() or not (is_nifti or is_npy):
        if not path.is_dir() and not name.endswith(_DICOM_SUFFIXES) and not _is_dicom(path):
            raise SourceError(f"{path} is of an unknown kind; supported are {_SUPPORTED}")
        from edge_codec.io.dicom_read import DicomSource

        return DicomSource(path, series)
    if series is not None:
        raise SourceError(f"{path} is no DICOM or .h5; a series can be chosen in DICOM only")
    if is_nifti:
        from edge_codec.io.nifti import NiftiSource

        return NiftiSource(path)
    from edge_codec.io.npy import NpySource

    return NpySource(path)


def open_sink(
    path: str | os.PathLike[str],
    spec: StreamSpec,
    *,
    force: bool = False,
    lossy_ratio: float | None = None,
) -> SequentialSink:
    """Open a file or folder to write a cine to; it appears when the sink is closed.

    Parameters
    ----------
    path : path
        `.nii`, `.nii.gz`, `.npy`, `.h5`, `.dcm`; a name without suffix, or one that ends in a
        slash, is a DICOM folder.
    spec : StreamSpec
        Stream that the frames come from, with the number of phases known.
    force : bool
        Whether an existing target may be replaced.
    lossy_ratio : float, optional
        Bytes of the voxels over bytes of the stream; DICOM notes it where voxels have changed.

    Raises
    ------
    SourceError
        If the target exists, cannot be written, or cannot hold the cine.
    SpecError
        If the number of phases is not known.
    """
    is_folder = os.fspath(path).endswith(("/", os.sep))
    path = Path(path)
    name = path.name.lower()
    if not is_folder and name.endswith((".nii", ".nii.gz")):
        from edge_codec.io.nifti import NiftiSink

        return NiftiSink(path, spec, force=force)
    if not is_folder and name.endswith(".npy"):
        from edge_codec.io.npy import NpySink

        return NpySink(path, spec, force=force)
    if not is_folder and name.endswith(".h5"):
        from edge_codec.io.mrd import MrdSink

        return MrdSink(path, spec, force=force)
    if is_folder or path.is_dir() or not path.suffix or name.endswith(_DICOM_SUFFIXES):
        from edge_codec.io.dicom_write import open_dicom_sink

        single = not is_folder and not path.is_dir() and name.endswith(_DICOM_SUFFIXES)
        return open_dicom_sink(path, spec, single=single, force=force, lossy_ratio=lossy_ratio)
    raise SourceError(
        f"{path} has an unknown suffix; supported are {_SUPPORTED}, whose name ends in a slash or "
        "has no suffix"
    )


def _is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from error
