"""Voxels <-> coded integers: how each sample format stands for the voxels of a file.

`INTEGER`: the stored integers themselves. `FLOAT_INTEGER`: whole numbers of a float file, as int32.
`FLOAT32_ORDERED`: the 32 bits of an IEEE float read as int32 `i`, then `i` if `i >= 0`, else
`i ^ 0x7fffffff`. That map is its own inverse and keeps the order of the floats, so neighboring
values get neighboring integers; every bit pattern survives, also -0.0, infinities and NaN payloads.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.errors import FrameError, SourceError
from edge_codec.spec import CineInfo, SampleFormat

# Up to here a float holds every whole number, so that a bounded error stays representable too.
_WHOLE_LIMIT = {4: 1 << 24, 8: (1 << 31) - 1}
_MAGNITUDE = np.int32(0x7FFFFFFF)


def choose_format(frames: Iterable[NDArray[Any]], dtype: np.dtype[Any]) -> SampleFormat:
    """Choose how integers stand for the voxels of a whole file.

    Parameters
    ----------
    frames : iterable of ndarray, dtype `dtype`
        Every frame of the file; not touched if `dtype` is an integer dtype.
    dtype : numpy.dtype
        Sample type of the voxels.

    Returns
    -------
    SampleFormat
        `FLOAT_INTEGER` if every float voxel is a whole number within int32 (float32: within
        2**24) and none is -0.0, else `FLOAT32_ORDERED`.

    Raises
    ------
    SourceError
        If float64 voxels are neither whole numbers nor exact as float32.
    """
    if dtype.kind in "iu":
        return SampleFormat.INTEGER
    whole, single = True, True
    for frame in frames:
        whole = whole and _is_whole(frame)
        single = single and _is_single(frame)
        if not whole and not single:
            raise SourceError(
                "its float64 voxels are neither whole numbers nor exact as float32, so no lossless "
                "code fits them; store them as float32, or as scaled integers with scl_slope"
            )
    return SampleFormat.FLOAT_INTEGER if whole else SampleFormat.FLOAT32_ORDERED


def to_integers(voxels: NDArray[Any], sample_format: SampleFormat) -> NDArray[Any]:
    """Return the coded integers of voxels: same shape; the voxels' own dtype, int32 for floats."""
    if sample_format is SampleFormat.INTEGER:
        return voxels
    if sample_format is SampleFormat.FLOAT_INTEGER:
        return voxels.astype(np.int32)
    bits = np.ascontiguousarray(_single(voxels)).view(np.int32)
    return np.where(bits >= 0, bits, bits ^ _MAGNITUDE)


def to_voxels(samples: NDArray[Any], info: CineInfo) -> NDArray[Any]:
    """Return the voxels of coded integers: the inverse of `to_integers`.

    Parameters
    ----------
    samples : ndarray, integer
        Coded integers of any integer dtype.
    info : CineInfo
        Gives the sample format and the dtype of the result.

    Raises
    ------
    FrameError
        If a coded integer does not fit the dtype.
    """
    if samples.dtype.kind not in "iu":
        raise FrameError(f"coded samples are {samples.dtype}; pass integers")
    if info.sample_format is SampleFormat.INTEGER:
        return _checked_cast(samples, info.dtype)
    codes = _checked_cast(samples, np.dtype(np.int32))
    if info.sample_format is SampleFormat.FLOAT_INTEGER:
        return codes.astype(info.dtype)
    bits = np.where(codes >= 0, codes, codes ^ _MAGNITUDE)
    with np.errstate(all="ignore"):  # a signaling NaN is a value like any other here
        return bits.view(np.float32).astype(info.dtype)


def _checked_cast(samples: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    if samples.dtype == dtype:
        return samples
    if not np.can_cast(samples.dtype, dtype) and samples.size:
        bounds = np.iinfo(dtype)
        low, high = int(samples.min()), int(samples.max())
        if low < bounds.min or high > bounds.max:
            raise FrameError(f"samples {low}..{high} do not fit the cine's voxels of dtype {dtype}")
    return samples.astype(dtype)


def _is_whole(voxels: NDArray[Any]) -> bool:
    limit = _WHOLE_LIMIT[voxels.dtype.itemsize]
    in_range = np.abs(voxels) <= limit  # False for NaN
    if not in_range.all() or not (voxels == np.rint(voxels)).all():
        return False
    return not (np.signbit(voxels) & (voxels == 0)).any()


def _is_single(voxels: NDArray[Any]) -> bool:
    if voxels.dtype.itemsize == 4:
        return True
    with np.errstate(all="ignore"):
        back = _single(voxels).astype(voxels.dtype)
    # Bits, not values: NaN payloads and the sign of zero count.
    return bool((back.view(np.uint64) == np.ascontiguousarray(voxels).view(np.uint64)).all())


def _single(voxels: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(all="ignore"):
        return voxels.astype(np.float32)
