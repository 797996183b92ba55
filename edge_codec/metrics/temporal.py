"""Whether a decoded cine still moves: its standard deviation over time against the original's.

A codec that saves bits by repeating what it has shown keeps each frame plausible and loses motion.
So for every voxel the standard deviation over the phases is compared. The ratio is that of the
means over a region, not the mean of ratios, for where nothing moves a ratio has no meaning: 1 is
all motion kept, below is motion lost, above is flicker that the original does not have.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.errors import FrameError


def temporal_ratio(
    original: NDArray[Any], decoded: NDArray[Any], region: NDArray[np.bool_] | None = None
) -> float | None:
    """Return the mean temporal standard deviation of decoded voxels over that of the original.

    Parameters
    ----------
    original, decoded : ndarray, shape (slices, phases, rows, columns)
        Voxels in the same units.
    region : ndarray, shape (slices, rows, columns), bool, optional
        Which places count; all by default.

    Returns
    -------
    float or None
        None where the original does not move, or the region is empty.

    Raises
    ------
    FrameError
        If the shapes do not fit.
    """
    if original.shape != decoded.shape:
        raise FrameError(
            f"the cines have shapes {original.shape} and {decoded.shape}; only equal ones can be "
            "compared"
        )
    places = (original.shape[0], *original.shape[2:])
    if region is not None and region.shape != places:
        raise FrameError(f"the region has shape {region.shape}, the cines need {places}")
    moved = [_total_deviation(voxels, region) for voxels in (original, decoded)]
    return None if moved[0] <= 0 else moved[1] / moved[0]


def correlation(first: NDArray[Any], second: NDArray[Any]) -> float | None:
    """Return Pearson's correlation of two curves; None where one of them is constant.

    Parameters
    ----------
    first, second : ndarray, shape (n,)

    Raises
    ------
    FrameError
        If the lengths differ.
    """
    if len(first) != len(second):
        raise FrameError(f"curves of {len(first)} and {len(second)} values cannot be compared")
    if not len(first) or any(np.all(curve == curve[0]) for curve in (first, second)):
        return None
    one, other = (np.asarray(curve, np.float64) - np.mean(curve) for curve in (first, second))
    scale = math.sqrt(float(np.vdot(one, one)) * float(np.vdot(other, other)))
    return float(np.vdot(one, other)) / scale


def _total_deviation(voxels: NDArray[Any], region: NDArray[np.bool_] | None) -> float:
    """Sum over places of the standard deviation over the phases, slice by slice for memory."""
    total = 0.0
    for index, cine in enumerate(voxels):
        deviation = cine.astype(np.float64).std(axis=0)
        total += float(deviation.sum() if region is None else deviation[region[index]].sum())
    return total
