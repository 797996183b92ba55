"""The part of a cine that moves: where the heart is, without a segmentation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

MOVING_FRACTION = 0.1
HEART_THRESHOLD = 0.4  # of the largest blurred deviation


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


def heart_region(voxels: NDArray[Any]) -> NDArray[np.bool_]:
    """Mark the region around the heart: the connected part of an exam that moves most.

    Standard deviations over the phases, root mean square over the slices, blurred over a 16th of
    the shorter side; the pixels above `HEART_THRESHOLD` of the largest that are connected with it;
    what they enclose; and a 32nd of the shorter side around. In exams that were acquired while the
    patient breathed the chest moves as well, and the region becomes too large.

    Parameters
    ----------
    voxels : ndarray, shape (slices, phases, rows, columns)
        Stored values of a whole exam.

    Returns
    -------
    ndarray, shape (slices, rows, columns), bool
        The same in every slice. With one phase, or where nothing moves, no pixel is marked.
    """
    slices, _, rows, columns = voxels.shape
    power = np.mean([cine.astype(np.float64).var(axis=0) for cine in voxels], axis=0)
    shorter = min(rows, columns)
    moved = _blurred(np.sqrt(power), 2 * (shorter // 32) + 1)
    region = np.zeros((rows, columns), dtype=np.bool_)
    if moved.max() > 0:
        seed = np.zeros_like(region)
        seed.flat[moved.argmax()] = True
        region = dilated(_filled(_connected(moved >= HEART_THRESHOLD * moved.max(), seed)),
                         shorter // 32)  # fmt: skip
    return np.broadcast_to(region, (slices, rows, columns)).copy()


def dilated(mask: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    """Return a mask grown by so many pixels along rows, columns and diagonals.

    Parameters
    ----------
    mask : ndarray, shape (..., rows, columns), bool
    pixels : int
        At least 0.
    """
    grown = mask
    for axis in (-2, -1):
        width = [(0, 0)] * mask.ndim
        width[axis] = (pixels, pixels)
        windows = sliding_window_view(np.pad(grown, width), 2 * pixels + 1, axis=axis)
        grown = np.asarray(windows.any(axis=-1))
    return grown


def _blurred(image: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Mean over an odd window, one axis after the other; edges repeat."""
    image = np.pad(image, window // 2, mode="edge")
    for axis in (0, 1):
        image = sliding_window_view(image, window, axis=axis).mean(axis=-1)
    return image


def _connected(mask: NDArray[np.bool_], seed: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels of a mask that are reached from a seed over its rows and columns."""
    reached = seed & mask
    while True:
        grown = reached.copy()
        grown[1:] |= reached[:-1]
        grown[:-1] |= reached[1:]
        grown[:, 1:] |= reached[:, :-1]
        grown[:, :-1] |= reached[:, 1:]
        grown &= mask
        if np.array_equal(grown, reached):
            return reached
        reached = grown


def _filled(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return a mask with what it encloses: everything that is not connected with the outside."""
    around = ~np.pad(mask, 1)
    outside = np.zeros_like(around)
    outside[0, 0] = True
    inside: NDArray[np.bool_] = ~_connected(around, outside)[1:-1, 1:-1]
    return inside
