"""How two segmentations differ: overlap (Dice) and the distance of their surfaces (HD95, in mm).

The conventions are those of the ACDC challenge (Bernard et al., IEEE TMI 37(11), 2018, section
III-C): a structure is compared as one 3-D object per phase, and distances are in mm with the
spacing of the voxels along each axis, so that a slice counts with its 5 to 10 mm. The challenge
reports the Hausdorff distance itself, the largest surface distance; its 95th percentile, usual
since, does not hang on a single voxel. Both follow the definitions of MedPy, which the challenge's
own evaluation uses: surface voxels have a face neighbor that is not in the object, or lie at the
edge of the volume, and the percentile is taken over the distances in both directions together.

Where an object is missing there is no distance, and where both are there is no overlap either: the
functions return None, for a figure that does not exist is no zero.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.errors import FrameError

PERCENTILE = 95.0
_CHUNK = 1 << 20  # squared distances in memory at a time


def dice(first: NDArray[Any], second: NDArray[Any]) -> float | None:
    """Return the Dice coefficient of two objects, 2 |A and B| / (|A| + |B|), 0 to 1.

    Dice, Ecology 26(3), 1945.

    Parameters
    ----------
    first, second : ndarray, same shape, bool
        True inside the object.

    Returns
    -------
    float or None
        None where both are empty.

    Raises
    ------
    FrameError
        If the shapes differ.
    """
    _check_same(first, second)
    size = np.count_nonzero(first) + np.count_nonzero(second)
    if size == 0:
        return None
    return 2 * np.count_nonzero(np.logical_and(first, second)) / size


def hd95(first: NDArray[Any], second: NDArray[Any], spacing_mm: tuple[float, ...]) -> float | None:
    """Return the 95th percentile of the surface distances of two objects, in mm.

    Parameters
    ----------
    first, second : ndarray, same shape, bool
        True inside the object; three axes for the convention of this project's tables.
    spacing_mm : tuple of float
        Distance of voxel centers along each axis, above 0.

    Returns
    -------
    float or None
        None where one is empty.

    Raises
    ------
    FrameError
        If the shapes differ, or a spacing is not positive.
    """
    distances = surface_distances(first, second, spacing_mm)
    return None if distances is None else float(np.percentile(distances, PERCENTILE))


def hausdorff(
    first: NDArray[Any], second: NDArray[Any], spacing_mm: tuple[float, ...]
) -> float | None:
    """Return the largest surface distance of two objects in mm; parameters as of `hd95`."""
    distances = surface_distances(first, second, spacing_mm)
    return None if distances is None else float(distances.max())


def surface_distances(
    first: NDArray[Any], second: NDArray[Any], spacing_mm: tuple[float, ...]
) -> NDArray[np.float64] | None:
    """Return each surface voxel's distance to the other object's surface, in mm.

    Parameters and errors as of `hd95`.

    Returns
    -------
    ndarray, shape (surface voxels of the first and of the second,), or None
        First those of `first` to `second`; None where one is empty.
    """
    _check_same(first, second)
    if len(spacing_mm) != first.ndim or not all(step > 0 for step in spacing_mm):
        raise FrameError(
            f"the spacing is {spacing_mm} mm for {first.ndim} axes; distances need a positive "
            "one along each"
        )
    if not first.any() or not second.any():
        return None
    # Nothing outside of the objects matters but whether it is there.
    both = np.logical_or(first, second)
    box = tuple(_extent(both, axis) for axis in range(both.ndim))
    points = [
        np.argwhere(surface(np.asarray(mask[box], np.bool_))) * np.asarray(spacing_mm)
        for mask in (first, second)
    ]
    return np.concatenate([_nearest(points[0], points[1]), _nearest(points[1], points[0])])


def surface(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the voxels of an object that have a face neighbor outside of it.

    What lies beyond the edge of the volume is outside of every object.

    Parameters
    ----------
    mask : ndarray, bool
        Any number of axes.
    """
    inner = mask.copy()
    padded = np.pad(mask, 1)
    middle = (slice(1, -1),) * mask.ndim
    for axis in range(mask.ndim):
        for shifted in (slice(None, -2), slice(2, None)):
            inner &= padded[(*middle[:axis], shifted, *middle[axis + 1 :])]
    outer: NDArray[np.bool_] = mask & ~inner
    return outer


def _nearest(points: NDArray[Any], others: NDArray[Any]) -> NDArray[np.float64]:
    """Distance of each point (points, axes) to the nearest of others, by comparing all."""
    found = np.empty(len(points))
    step = max(1, _CHUNK // len(others))
    for start in range(0, len(points), step):
        squared = np.zeros((len(points[start : start + step]), len(others)))
        for axis in range(points.shape[1]):
            squared += (points[start : start + step, axis, None] - others[:, axis]) ** 2
        found[start : start + step] = squared.min(axis=1)
    distances: NDArray[np.float64] = np.sqrt(found)
    return distances


def _extent(mask: NDArray[np.bool_], axis: int) -> slice:
    """Where along an axis anything is marked."""
    others = tuple(other for other in range(mask.ndim) if other != axis)
    marked = np.flatnonzero(mask.any(axis=others))
    return slice(int(marked[0]), int(marked[-1]) + 1)


def _check_same(first: NDArray[Any], second: NDArray[Any]) -> None:
    if first.shape != second.shape:
        raise FrameError(
            f"the segmentations have shapes {first.shape} and {second.shape}; only equal ones can "
            "be compared"
        )
