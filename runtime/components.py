"""Connected components of masks with any number of axes, in NumPy and few lines of Python.

A mask is cut into runs along its last axis, which are few; runs that touch along another axis are
found by two binary searches for all at once, and joined by union-find (Tarjan, Journal of the ACM
1975, with path halving). After Rosenfeld and Pfaltz, Journal of the ACM 1966, with runs in place of
pixels.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.int64]


def largest_component(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the largest component of a mask: of equal ones, the first.

    Parameters
    ----------
    mask : ndarray, bool
        Elements next to each other along one axis are connected.

    Returns
    -------
    ndarray, bool, same shape
        Nothing set where nothing is set in `mask`.
    """
    starts, ends, roots = _components(mask)
    if starts.size == 0:
        return np.zeros_like(mask)
    sizes = np.bincount(roots, weights=ends - starts)
    largest = sizes.argmax()
    if sizes[largest] == sizes.sum():
        return mask.copy()
    kept = roots == largest
    return _fill(mask.shape, starts[kept], ends[kept])


def count_components(mask: NDArray[np.bool_]) -> int:
    """Return how many components a mask has."""
    return int(np.unique(_components(mask)[2]).size)


def _components(mask: NDArray[np.bool_]) -> tuple[Places, Places, Places]:
    """Return starts and ends of the runs, and the first run of each one's component.

    Places count the elements of the mask with one more at the end of its last axis, so that no run
    goes on in the next line.
    """
    shape = (*mask.shape[:-1], mask.shape[-1] + 1)
    flat = np.zeros(1 + math.prod(shape), np.int8)
    flat[1:].reshape(shape)[..., :-1] = mask
    steps = np.diff(flat)
    starts, ends = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)
    parents = list(range(starts.size))
    for axis in range(len(shape) - 1):
        stride = math.prod(shape[axis + 1 :])
        inner = starts // stride % shape[axis] < shape[axis] - 1  # there is a neighbor behind
        _join(parents, *_touching(starts, ends, np.flatnonzero(inner), stride))
    for run, parent in enumerate(parents):  # parents come first, and have theirs already
        parents[run] = parents[parent]
    return starts, ends, np.array(parents, np.int64)


def _touching(starts: Places, ends: Places, runs: Places, stride: int) -> tuple[Places, Places]:
    """Return all pairs of one of `runs` and a run that it touches when moved by `stride`."""
    low = np.searchsorted(ends, starts[runs] + stride, side="right")
    high = np.searchsorted(starts, ends[runs] + stride, side="left")
    counts = high - low
    offsets = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
    return np.repeat(runs, counts), np.repeat(low, counts) + offsets


def _join(parents: list[int], first: Places, second: Places) -> None:
    """Give each pair of runs the same root, the smaller of theirs."""
    for one, other in zip(first.tolist(), second.tolist(), strict=True):
        while parents[one] != one:
            parents[one] = one = parents[parents[one]]
        while parents[other] != other:
            parents[other] = other = parents[parents[other]]
        if one < other:
            parents[other] = one
        else:
            parents[one] = other


def _fill(shape: tuple[int, ...], starts: Places, ends: Places) -> NDArray[np.bool_]:
    """Return a mask of runs."""
    wide = np.zeros(math.prod(shape[:-1]) * (shape[-1] + 1) + 1, np.int8)
    wide[starts] = 1
    wide[ends] -= 1
    filled = np.cumsum(wide[:-1], dtype=np.int8).astype(bool)
    return filled.reshape(*shape[:-1], shape[-1] + 1)[..., :-1]
