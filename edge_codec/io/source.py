"""What a reader and a writer of cine files offer to the codec."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from edge_codec.spec import CineInfo


@dataclass(frozen=True, slots=True, eq=False)
class SourceFrame:
    """One frame of a cine on its way to the encoder.

    Attributes
    ----------
    slice_index, phase_index : int
        Place in the cine.
    samples : ndarray, shape (rows, columns), integer
        Coded integers (`edge_codec.io.samples`), native byte order.
    metadata : bytes
        Header bytes that belong to this frame alone (DICOM), else empty.
    """

    slice_index: int
    phase_index: int
    samples: NDArray[Any]
    metadata: bytes = b""


class FrameSource(Protocol):
    """A cine that is read frame by frame, in memory that does not grow with its length."""

    @property
    def info(self) -> CineInfo:
        """Size, sample type and geometry."""
        ...

    def frames(self) -> Iterator[SourceFrame]:
        """Yield every frame, all slices of phase 0, then of phase 1, ...; may be called again."""
        ...


class FrameSink(Protocol):
    """A file or folder that a cine is written to; it appears when `close` has completed it."""

    def write(
        self, slice_index: int, phase_index: int, samples: NDArray[Any], metadata: bytes
    ) -> None:
        """Append the next frame's coded integers, in the order of `FrameSource.frames`."""
        ...

    def close(self) -> None:
        """Complete the target and give it its name."""
        ...

    def abort(self) -> None:
        """Leave nothing behind; does nothing after `close`."""
        ...
