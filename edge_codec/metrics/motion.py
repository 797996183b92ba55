"""The part of a cine that moves: where the heart is, without a segmentation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOVING_FRACTION = 0.1


def moving_region(voxels: NDArray[Any], fraction: float = MOVING_FRACTION) -> NDArray[np.bool_]:
    """Mark the pixels of each slice that change most from phase to phase.

    Parameters
    ----------
    voxels : ndarray, shape (slices, phases, rows, columns)
        Stored values of a whole exam.
    fraction : float
        Share of a slice's pixels to mark, above 0 and at most 1; rounded up to a pixel.

    Returns
    -------
    ndarray, shape (slices, rows, columns), bool
        True at the pixels whose standard deviation over the phases is among the slice's largest;
        of equal ones those first in reading order. With one phase nothing moves and no pixel is
        marked.
    """
    slices, phases, rows, columns = voxels.shape
    region = np.zeros((slices, rows * columns), dtype=np.bool_)
    if phases > 1:
        # Rounded first: 0.1 * 66 * 65 is a little more than 429 in floating point.
        count = math.ceil(round(fraction * rows * columns, 6))
        for index, cine in enumerate(voxels):
            deviation = cine.astype(np.float64).std(axis=0).ravel()
            region[index, np.argsort(-deviation, kind="stable")[:count]] = True
    return region.reshape(slices, rows, columns)
