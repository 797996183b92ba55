"""A whole cine in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.errors import FrameError, SourceError
from edge_codec.io.samples import choose_format, to_integers, to_voxels
from edge_codec.io.source import FrameSource, SourceFrame
from edge_codec.spec import DTYPE_IDS, CineInfo


@dataclass(frozen=True, slots=True, eq=False)
class Cine:
    """Voxels with their description; itself a `FrameSource`.

    Attributes
    ----------
    voxels : ndarray, shape (slices, phases, rows, columns), dtype `info.dtype`
        Values as stored, before rescale.
    info : CineInfo
        Size, sample type and geometry.
    metadata : tuple of bytes
        One per frame in the order of `frames`, or empty if the source has none.

    Raises
    ------
    FrameError
        If the voxels or the metadata do not fit `info`.

    Examples
    --------
    >>> import numpy as np
    >>> cine = Cine.from_array(np.zeros((12, 64, 48), dtype=np.int16), spacing_mm=(8, 1.5, 1.5))
    >>> cine.info.n_slices, cine.info.n_phases, cine.voxels.shape
    (1, 12, (1, 12, 64, 48))
    """

    voxels: NDArray[Any]
    info: CineInfo
    metadata: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        """Check that the parts belong together."""
        info = self.info
        expected = (info.n_slices, info.n_phases, *info.frame_shape)
        if self.voxels.shape != expected:
            raise FrameError(f"voxels have shape {self.voxels.shape}, info says {expected}")
        if self.voxels.dtype != info.dtype:
            raise FrameError(f"voxels have dtype {self.voxels.dtype}, info says {info.dtype}")
        n_frames = info.n_slices * info.n_phases
        if n_frames == 0:
            raise FrameError("a cine has at least one phase")
        if len(self.metadata) not in (0, n_frames):
            raise FrameError(f"there are {len(self.metadata)} metadata for {n_frames} frames")

    @classmethod
    def from_array(
        cls,
        array: NDArray[Any],
        *,
        spacing_mm: tuple[float, float, float] = (0.0, 0.0, 0.0),
        trigger_time_ms: Iterable[float] = (),
        rescale_slope: float = 1.0,
        rescale_intercept: float = 0.0,
    ) -> Cine:
        """Make a cine of an array.

        Parameters
        ----------
        array : ndarray
            (row, column), (phase, row, column) or (slice, phase, row, column); integers of 8 to 64
            bits, or floats that can be kept exactly (`edge_codec.io.samples`).
        spacing_mm : tuple of float
            Distance of voxel centers along (slice, row, column); 0 where unknown.
        trigger_time_ms : iterable of float
            Delay after the R wave of each phase; empty where unknown.
        rescale_slope, rescale_intercept : float
            Physical value = slope * stored + intercept.

        Raises
        ------
        FrameError
            If shape, dtype or values are not those of a cine.
        SpecError
            If an extent or a number is out of range.
        """
        if not 2 <= array.ndim <= 4 or 0 in array.shape:
            raise FrameError(
                f"an array of shape {array.shape} is not a cine; expected (row, column), "
                "(phase, row, column) or (slice, phase, row, column)"
            )
        dtype = array.dtype.newbyteorder("=")
        if dtype not in DTYPE_IDS:
            raise FrameError(f"voxels of dtype {dtype} are not supported; use an integer dtype")
        voxels = array.astype(dtype, copy=False).reshape((1,) * (4 - array.ndim) + array.shape)
        times = tuple(float(time) for time in trigger_time_ms)
        if len(times) not in (0, voxels.shape[1]):
            raise FrameError(f"{len(times)} trigger times for {voxels.shape[1]} phases")
        try:
            sample_format = choose_format(iter(voxels.reshape(-1, *voxels.shape[2:])), dtype)
        except SourceError as error:
            raise FrameError(str(error)) from error
        slices, phases, rows, columns = voxels.shape
        info = CineInfo(
            slices,
            phases,
            rows,
            columns,
            dtype=dtype,
            sample_format=sample_format,
            spacing_mm=spacing_mm,
            trigger_time_ms=times,
            rescale_slope=rescale_slope,
            rescale_intercept=rescale_intercept,
        )
        return cls(voxels, info)

    @classmethod
    def from_source(cls, source: FrameSource) -> Cine:
        """Read a whole source into memory.

        Raises
        ------
        SourceError
            If the source cannot be read.
        FrameError
            If it gives other frames than its `info` says.
        """
        metadata: list[bytes] = []

        def frames() -> Iterator[tuple[int, int, NDArray[Any]]]:
            for frame in source.frames():
                metadata.append(frame.metadata)
                yield frame.slice_index, frame.phase_index, frame.samples

        cine = cls.from_frames(source.info, frames())
        return replace(cine, metadata=tuple(metadata)) if any(metadata) else cine

    @classmethod
    def from_frames(cls, info: CineInfo, frames: Iterable[tuple[int, int, NDArray[Any]]]) -> Cine:
        """Join frames of coded integers.

        Parameters
        ----------
        info : CineInfo
            Description of the cine.
        frames : iterable of (slice index, phase index, samples)
            Every frame once, in any order; samples as `SourceFrame.samples`.

        Raises
        ------
        FrameError
            If a frame does not fit, is missing or comes twice, or the cine exceeds the memory.
        """
        shape = (info.n_slices, info.n_phases, *info.frame_shape)
        try:
            voxels = np.empty(shape, dtype=info.dtype)
            seen = np.zeros(shape[:2], dtype=bool)
        except (MemoryError, ValueError) as error:
            raise FrameError(f"a cine of {shape} does not fit into memory; use files") from error
        for slice_index, phase_index, samples in frames:
            place = (slice_index, phase_index)
            if not (0 <= slice_index < info.n_slices and 0 <= phase_index < info.n_phases):
                raise FrameError(f"frame {place} is outside {shape[:2]} (slices, phases)")
            if samples.shape != info.frame_shape or seen[place]:
                what = "comes twice" if seen[place] else f"has shape {samples.shape}"
                raise FrameError(f"frame {place} {what}; expected one of {info.frame_shape}")
            voxels[place] = to_voxels(samples, info)
            seen[place] = True
        if not seen.all():
            raise FrameError(f"{int(seen.sum())} of {seen.size} frames are there")
        return cls(voxels, info)

    def frames(self) -> Iterator[SourceFrame]:
        """Yield every frame, all slices of phase 0, then of phase 1, and so on."""
        for phase_index in range(self.info.n_phases):
            for slice_index in range(self.info.n_slices):
                number = phase_index * self.info.n_slices + slice_index
                yield SourceFrame(
                    slice_index,
                    phase_index,
                    to_integers(self.voxels[slice_index, phase_index], self.info.sample_format),
                    self.metadata[number] if self.metadata else b"",
                )
