"""The original beside the decoded: the source of a stream in memory, frame by frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edge_codec.cine import Cine
from edge_codec.errors import SourceError
from edge_codec.io import open_source
from edge_codec.spec import CineInfo, StreamSpec

MAX_ORIGINAL_BYTES = 1 << 31


def extent(info: CineInfo) -> tuple[int, int, int, int]:
    """Return (slices, phases, rows, columns)."""
    return info.n_slices, info.n_phases, info.rows, info.columns


class Original:
    """A whole source, to be compared with what a stream decodes to.

    Parameters
    ----------
    path : Path
        NIfTI, DICOM or npy.

    Raises
    ------
    SourceError
        If it cannot be read, or has more than `MAX_ORIGINAL_BYTES`.
    """

    def __init__(self, path: Path) -> None:
        source = open_source(path)
        slices, phases, rows, columns = extent(source.info)
        size = slices * phases * rows * columns * source.info.dtype.itemsize
        if size > MAX_ORIGINAL_BYTES:
            raise SourceError(
                f"the original has {size} bytes; {MAX_ORIGINAL_BYTES} can be compared: view the "
                "stream without --original"
            )
        self._cine = Cine.from_source(source)

    def check(self, spec: StreamSpec) -> None:
        """Refuse the original of another stream.

        Raises
        ------
        SourceError
            If sizes differ.
        """
        mine, theirs = extent(self._cine.info), extent(spec.info)
        if theirs[1] == 0:
            theirs = (theirs[0], mine[1], *theirs[2:])
        if mine != theirs:
            raise SourceError(
                f"the original has (slices, phases, rows, columns) {mine} and the stream {theirs}; "
                "give the file that the stream was made of"
            )

    def frame(self, slice_index: int, phase_index: int) -> NDArray[Any]:
        """Return the voxels of a frame.

        Raises
        ------
        SourceError
            If there is no such frame.
        """
        info = self._cine.info
        if not (0 <= slice_index < info.n_slices and 0 <= phase_index < info.n_phases):
            raise SourceError(f"the original has no slice {slice_index}, phase {phase_index}")
        frame: NDArray[Any] = self._cine.voxels[slice_index, phase_index]
        return frame
