"""What all writers share: order, shape and completeness of the frames, and cleaning up."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Any

from numpy.typing import NDArray

from edge_codec.errors import FrameError, SourceError, SpecError
from edge_codec.io.samples import to_voxels
from edge_codec.spec import StreamSpec


class SequentialSink(ABC):
    """A sink that takes every frame once, all slices of phase 0, then of phase 1, and so on.

    As a context manager it is closed at the end of the block, and aborted on an exception.

    Parameters
    ----------
    spec : StreamSpec
        Stream that the frames come from; its number of phases must be known.

    Raises
    ------
    SpecError
        If the number of phases is not known.
    """

    def __init__(self, spec: StreamSpec) -> None:
        if spec.info.n_phases == 0:
            raise SpecError("a file needs the number of phases; pass a spec with info.n_phases set")
        self.spec = spec
        self.info = spec.info
        self.n_frames = spec.info.n_slices * spec.info.n_phases
        self._count = 0
        self._done = False

    def write(
        self, slice_index: int, phase_index: int, samples: NDArray[Any], metadata: bytes = b""
    ) -> None:
        """Append a frame.

        Parameters
        ----------
        slice_index, phase_index : int
            Place of the frame; must be the next one.
        samples : ndarray, shape (rows, columns), integer
            Coded integers.
        metadata : bytes
            What the source gave with this frame.

        Raises
        ------
        FrameError
            If the frame is not the next one, or does not fit the stream.
        SourceError
            If it cannot be written.
        """
        phase, index = divmod(self._count, self.info.n_slices)
        if self._done or (slice_index, phase_index) != (index, phase):
            expected = "none" if self._done else f"slice {index}, phase {phase}"
            raise FrameError(
                f"frame of slice {slice_index}, phase {phase_index} is out of order; "
                f"expected {expected}"
            )
        if samples.shape != self.info.frame_shape:
            raise FrameError(f"frame is {samples.shape}, the stream holds {self.info.frame_shape}")
        try:
            self._put(slice_index, phase_index, to_voxels(samples, self.info), metadata)
        except OSError as error:
            raise SourceError(f"the target cannot be written: {error}") from error
        self._count += 1

    def close(self) -> None:
        """Complete the target and give it its name.

        Raises
        ------
        FrameError
            If frames are missing; nothing is left behind.
        SourceError
            If the target cannot be completed; nothing is left behind.
        """
        if self._done:
            return
        try:
            if self._count != self.n_frames:
                raise FrameError(f"{self._count} of {self.n_frames} frames were written")
            self._finish()
        except OSError as error:
            self.abort()
            raise SourceError(f"the target cannot be written: {error}") from error
        except BaseException:
            self.abort()
            raise
        self._done = True

    def abort(self) -> None:
        """Leave nothing behind; does nothing after `close`."""
        if not self._done:
            self._done = True
            self._discard()

    def __enter__(self) -> SequentialSink:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    @abstractmethod
    def _put(
        self, slice_index: int, phase_index: int, voxels: NDArray[Any], metadata: bytes
    ) -> None:
        """Write a frame's voxels, of dtype `info.dtype`."""

    @abstractmethod
    def _finish(self) -> None:
        """Complete and rename."""

    @abstractmethod
    def _discard(self) -> None:
        """Remove what was written."""
