"""Frames as they come: checked in the thread of who pushes them, who then hears what is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.bitstream.packet import MAX_LAYER_SIZE
from edge_codec.codec import coded_dtype
from edge_codec.errors import FrameError, SourceError
from edge_codec.io.samples import choose_format, to_integers
from edge_codec.runtime.live_options import LiveOptions
from edge_codec.spec import (
    DTYPE_IDS,
    MAX_FRAME_VOXELS,
    MAX_SIDE,
    ModelId,
    SampleFormat,
    StreamSpec,
)


@dataclass(frozen=True, slots=True)
class LiveFrame:
    """A frame that can be coded.

    Attributes
    ----------
    samples : ndarray, shape (rows, columns), integer
        The integers that stand for the voxels; for integer voxels the caller's own array.
    dtype : numpy.dtype
        Of the voxels, native byte order.
    sample_format : SampleFormat
        How the integers stand for the voxels.
    low, high : int
        Smallest and largest of `samples`.
    """

    samples: NDArray[Any]
    dtype: np.dtype[Any]
    sample_format: SampleFormat
    low: int
    high: int

    def fits(self, spec: StreamSpec) -> bool:
        """Whether a stream of this description can hold the frame."""
        info = spec.info
        return (
            self.samples.shape == info.frame_shape
            and self.dtype == info.dtype
            and self.sample_format is info.sample_format
            and spec.low <= self.low
            and self.high <= spec.high
        )


class FrameChecker:
    """Checks the frames of one live stream.

    Parameters
    ----------
    options : LiveOptions
        What was chosen for the stream.
    spec : StreamSpec or None
        Its fixed description, if it has one.
    """

    def __init__(self, options: LiveOptions, spec: StreamSpec | None) -> None:
        self._n_slices = options.n_slices
        self._lossless = options.max_error == 0 and options.model is ModelId.NONE
        self._spec = spec
        self._ordered: set[np.dtype[Any]] = set()

    def check(self, frame: NDArray[Any], slice_index: int, phase_index: int) -> LiveFrame:
        """Check the frame that is to be this phase of a slice.

        Raises
        ------
        FrameError
            If it cannot be coded, or does not fit a fixed description.
        """
        if not 0 <= slice_index < self._n_slices:
            raise FrameError(f"slice {slice_index} of a stream of {self._n_slices} slices")
        frame = np.asarray(frame)
        if self._spec is not None:
            return self._check_fixed(frame, self._spec, slice_index, phase_index)
        checked = check_frame(frame, self._lossless, frame.dtype in self._ordered)
        if checked.sample_format is SampleFormat.FLOAT32_ORDERED:
            # From now on, or whole numbers in between would begin a segment each.
            self._ordered.add(frame.dtype)
        return checked

    def _check_fixed(
        self, frame: NDArray[Any], spec: StreamSpec, slice_index: int, phase_index: int
    ) -> LiveFrame:
        ordered = spec.info.sample_format is SampleFormat.FLOAT32_ORDERED
        checked = check_frame(frame, self._lossless, ordered)
        check_fit(checked, spec)
        if 0 < spec.info.n_phases <= phase_index:
            raise FrameError(f"slice {slice_index} has all its {phase_index} phases already")
        return checked


def check_metadata(metadata: bytes) -> None:
    """Check the source header of a frame.

    Raises
    ------
    FrameError
        If it is larger than a packet's layer may be.
    """
    if len(metadata) > MAX_LAYER_SIZE:
        raise FrameError(
            f"metadata of {len(metadata)} bytes; a packet holds {MAX_LAYER_SIZE} at most: keep "
            "what is larger elsewhere"
        )


def check_frame(frame: NDArray[Any], lossless: bool, ordered: bool = False) -> LiveFrame:
    """Check a frame of unknown kind and find its bounds.

    Parameters
    ----------
    frame : ndarray, shape (rows, columns)
        Integers of 8 to 64 bits, or floats that are whole numbers or, for a lossless stream
        without a model, any that are exact as float32.
    lossless : bool
        Whether the stream can hold floats by the order of their bits.
    ordered : bool
        Hold floats so even if these are whole numbers, as an earlier frame was not, unless they are
        not exact as float32.

    Raises
    ------
    FrameError
        If it is no such frame, holds NaN or infinity, or spans more than 32 bits.
    """
    frame = np.asarray(frame)
    if frame.ndim != 2 or not frame.size:
        raise FrameError(f"frame has shape {frame.shape}; push rows x columns voxels")
    if max(frame.shape) > MAX_SIDE or frame.size > MAX_FRAME_VOXELS:
        raise FrameError(
            f"frame of {frame.shape[0]}x{frame.shape[1]} voxels is larger than the limit of "
            f"{MAX_FRAME_VOXELS}; split it into tiles"
        )
    dtype = frame.dtype.newbyteorder("=")
    if dtype not in DTYPE_IDS:
        raise FrameError(
            f"frame is {frame.dtype}; push integers, float32 or float64, one channel at a time"
        )
    sample_format = SampleFormat.INTEGER
    if dtype.kind == "f":
        frame = frame.astype(dtype, copy=False)
        sample_format = _float_format(frame, lossless, ordered)
        frame = to_integers(frame, sample_format)
    low, high = int(frame.min()), int(frame.max())
    if high - low >= 1 << 32:
        raise FrameError(f"frame has voxels {low}..{high}, which span more than 32 bits; scale it")
    return LiveFrame(frame, dtype, sample_format, low, high)


def check_fit(frame: LiveFrame, spec: StreamSpec) -> None:
    """Refuse a frame that a stream with fixed bounds cannot hold.

    Raises
    ------
    FrameError
        If shape, dtype or a voxel does not fit.
    """
    if frame.fits(spec):
        return
    info = spec.info
    raise FrameError(
        f"frame is {frame.samples.shape} {frame.dtype}, voxels {frame.low}..{frame.high}; the "
        f"stream was opened for {info.frame_shape} {info.dtype}, {spec.low}..{spec.high} "
        f"({coded_dtype(spec)})"
    )


def _float_format(frame: NDArray[Any], lossless: bool, ordered: bool) -> SampleFormat:
    # Minimum and maximum carry NaN and infinity with them, and need no memory.
    bounds = float(frame.min()), float(frame.max())
    if not np.isfinite(bounds).all():
        raise FrameError(f"frame has voxels {bounds[0]}..{bounds[1]}: NaN or infinity; mend it")
    try:
        sample_format = choose_format([frame], frame.dtype)
    except SourceError as error:
        raise FrameError(f"frame cannot be coded: {error}") from error
    if ordered and (frame.astype(np.float32) == frame).all():
        sample_format = SampleFormat.FLOAT32_ORDERED
    if sample_format is SampleFormat.FLOAT32_ORDERED and not lossless:
        raise FrameError(
            "frame has floats that are no whole numbers, which a stream with a model or an error "
            "bound cannot hold; open it lossless and without a model, or push scaled integers"
        )
    return sample_format
