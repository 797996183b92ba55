"""What encoder and decoder share: samples of frames, their checks, and the bounds of both."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.base import _frame
from edge_codec.base.layer import BaseCoder, BaseModel
from edge_codec.engine import Mapper
from edge_codec.errors import EdgeCodecError, FrameError, SpecError
from edge_codec.residual import BoundedRegion
from edge_codec.spec import TITOKS, ModelId, StreamSpec

BASE_CHECK = struct.Struct("<H")
"""The low 16 bits of a frame's check: a base layer may have a hundred bytes, all in all."""

NO_CHECK = struct.Struct("")

RESIDUAL_CHECK = struct.Struct("<I")

# Voxels of all slices that are in work at once; each takes up to some 200 bytes of state, and each
# row and column as much as so many voxels more: measured on frames of 8x8.
MAX_OPEN_VOXELS = 1 << 24
SIDE_COSTS = {
    ModelId.NONE: 32,
    ModelId.VQVAE: 32,
    ModelId.DWT_CAL: 64,
    ModelId.VIDEO: 160,
    ModelId.DWT_CAL_VAE: 64,
    ModelId.TITOK: 32,
    ModelId.TITOK_GROUPS: 32,
}


def base_check(model: ModelId) -> struct.Struct:
    """Return the form of the check that begins a model's base layers.

    Frames of `TITOKS` have none: floats make them, so machines may differ in a sample by one. What
    is coded, its tokens, is the same everywhere, and the CRC of the packet guards it.
    """
    return NO_CHECK if model in TITOKS else BASE_CHECK


def frame_check(samples: NDArray[np.uint32]) -> int:
    """Return the CRC-32 of a decoded frame's samples as little-endian uint32."""
    data = np.ascontiguousarray(samples, dtype="<u4").data
    return _frame.crc32(data) if _frame.has_clmul() else zlib.crc32(data)


def is_key(spec: StreamSpec, phase_index: int) -> bool:
    """Whether the frame of this phase must be decodable on its own; others may be."""
    return phase_index % spec.key_interval == 0


def to_samples(
    frame: NDArray[Any], spec: StreamSpec, out: NDArray[np.uint32] | None = None
) -> NDArray[np.uint32]:
    """Check a frame against its stream and return its samples, uint32, stored value minus `low`.

    Parameters
    ----------
    frame : ndarray, shape (rows, columns), integer
    spec : StreamSpec
    out : ndarray, shape (rows, columns), uint32, optional
        Takes the samples, in place of new memory.

    Raises
    ------
    FrameError
        If shape or dtype do not fit, or a voxel lies outside `spec.low..spec.high`.
    """
    if frame.shape != spec.info.frame_shape:
        raise FrameError(f"frame is {frame.shape}, the stream holds {spec.info.frame_shape}")
    if frame.dtype.kind not in "iu":
        raise FrameError(f"frame is {frame.dtype}; push the stored integers")
    low, high = int(frame.min()), int(frame.max())
    if low < spec.low or high > spec.high:
        raise FrameError(
            f"frame has voxels {low}..{high}, the stream was opened for {spec.low}..{spec.high}; "
            "open it with wider bounds"
        )
    # Arithmetic modulo 2**32 is exact, since the difference is known to fit.
    offset = np.uint32(spec.low & 0xFFFFFFFF)
    samples: NDArray[np.uint32] = np.subtract(
        frame, offset, out=out, dtype=np.uint32, casting="unsafe"
    )
    return samples


def from_samples(samples: NDArray[np.uint32], spec: StreamSpec) -> NDArray[Any]:
    """Return the stored integers of decoded samples: the inverse of `to_samples`."""
    coded = coded_dtype(spec)
    if coded.itemsize <= 4:
        # Modulo 2**32, and the cast takes the low bits: exact, since the value is known to fit.
        return (samples + np.uint32(spec.low & 0xFFFFFFFF)).astype(coded)
    wide = samples.astype(np.uint64) + np.uint64(spec.low & 0xFFFFFFFFFFFFFFFF)
    return wide.view(coded)


def coded_dtype(spec: StreamSpec) -> np.dtype[Any]:
    """Integer dtype of the frames that go in and come out: the source's, int32 for floats."""
    return spec.info.dtype if spec.info.dtype.kind in "iu" else np.dtype(np.int32)


def base_coder(spec: StreamSpec, model: BaseModel | None, mapper: Mapper) -> BaseCoder | None:
    """Return the coder of one slice's base layer, None in a stream without.

    Parameters
    ----------
    spec : StreamSpec
        What `StreamSpec.of_slice` gives.
    model : BaseModel or None
        Loaded model.
    mapper : callable
        How to go over the parts of a frame.
    """
    if spec.model is ModelId.NONE:
        return None
    if model is None:
        raise SpecError(f"the stream needs model '{spec.model.label}'; pass it loaded")
    return model.coder(spec, mapper)


def bounded_region(spec: StreamSpec) -> BoundedRegion | None:
    """Return the voxels of one slice that have a lower bound, None where none have.

    Parameters
    ----------
    spec : StreamSpec
        What `StreamSpec.of_slice` gives.
    """
    region = spec.region
    if region is None or region.max_error is None:
        return None
    return BoundedRegion(region.mask(1, *spec.info.frame_shape)[0], region.max_error)


def slice_size(model: ModelId, rows: int, columns: int) -> int:
    """Return how many voxels a slice in work counts as: those of a frame, and what is beside it."""
    return (rows + SIDE_COSTS[model]) * (columns + SIDE_COSTS[model])


def check_open(n_open: int, spec: StreamSpec, error: type[EdgeCodecError]) -> None:
    """Bound the memory of slices that are in work at once."""
    rows, columns = spec.info.frame_shape
    size = slice_size(spec.model, rows, columns)
    if n_open and (n_open + 1) * size > MAX_OPEN_VOXELS:
        raise error(
            f"{n_open + 1} slices of {rows}x{columns} voxels in work at once exceed the limit of "
            f"{MAX_OPEN_VOXELS} voxels; code the slices in streams of their own"
        )
