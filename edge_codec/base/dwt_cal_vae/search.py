"""The encoder's search for displacements: how well each block fits where in the previous frame.

The float model is `edge_codec.nn.cross_attention.window_errors` and what follows it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_codec.base.dwt_cal_vae.attention import RADIUS
from edge_codec.base.dwt_cal_vae.numbers import PIXEL_BITS, STRIDE

SIDE = 2 * RADIUS + 1
SCORES = SIDE * SIDE
MIDDLE = SCORES // 2
MOVED_BITS = 6
"""What a block that moves costs, roughly, besides a bit per pixel of displacement."""

Floats = NDArray[np.float32]


def window_errors(current: NDArray[np.int16], previous: NDArray[np.int16]) -> Floats:
    """Compare each block with the previous frame at each displacement of the window.

    Parameters
    ----------
    current, previous : ndarray, shape (8h, 8w), int16
        Pixels.

    Returns
    -------
    ndarray, shape (h, w, SCORES), float32
        Mean squared error in squared windows; half of the weight lies on the block itself, the rest
        on it and its eight neighbors.
    """
    rows, columns = current.shape
    h, w = rows // STRIDE, columns // STRIDE
    scale = np.float32(1 << PIXEL_BITS)
    now = current / scale
    padded = np.pad(previous / scale, RADIUS, mode="edge")
    ones = np.ones(STRIDE, np.float32)
    errors = np.empty((SCORES, h, w), np.float32)
    for index in range(SCORES):
        row, column = divmod(index, SIDE)
        difference = now - padded[row : row + rows, column : column + columns]
        sums = np.square(difference).reshape(-1, STRIDE) @ ones  # along rows: faster than a sum
        errors[index] = sums.reshape(h, STRIDE, w).sum(axis=1)
    errors /= STRIDE * STRIDE
    return np.ascontiguousarray((0.5 * errors + 0.5 * _around(errors)).transpose(1, 2, 0))


def _around(errors: Floats) -> Floats:
    """Mean of each block and its neighbors, as far as they are there."""
    padded = np.pad(errors, ((0, 0), (1, 1), (1, 1)))
    count = np.pad(np.ones(errors.shape[1:], np.float32), 1)
    h, w = errors.shape[1:]
    places = [(row, column) for row in range(3) for column in range(3)]
    total = sum(padded[:, row : row + h, column : column + w] for row, column in places)
    present = sum(count[row : row + h, column : column + w] for row, column in places)
    return np.asarray(total / present, np.float32)


def match_scores(errors: Floats) -> Floats:
    """Turn errors e into (e0 - e) / (e0 + e), where e0 is the middle one; that becomes its root."""
    still = errors[..., MIDDLE : MIDDLE + 1]
    scores = (still - errors) / (still + errors + np.float32(1e-6))
    scores[..., MIDDLE] = np.sqrt(still[..., 0])
    return scores


def find_motion(errors: Floats, price: float) -> NDArray[np.int16]:
    """Choose each block's displacement by its error and its cost: half pixels (h, w, 2)."""
    axis = np.abs(np.arange(-RADIUS, RADIUS + 1))
    length = np.add.outer(axis, axis).ravel()
    bits = np.where(length > 0, MOVED_BITS + length, 0)
    best = (price * STRIDE * STRIDE * errors + bits).argmin(axis=2)
    row, column = best // SIDE, best % SIDE
    grid = errors.reshape(*errors.shape[:2], SIDE, SIDE)
    down = np.take_along_axis(grid, column[..., None, None], axis=3)[..., 0]
    along = np.take_along_axis(grid, row[..., None, None], axis=2)[..., 0, :]
    vector = np.stack((2 * (row - RADIUS), 2 * (column - RADIUS)), axis=2)
    vector[..., 0] += _half_pixel(down, row)
    vector[..., 1] += _half_pixel(along, column)
    chosen: NDArray[np.int16] = (vector * (best != MIDDLE)[..., None]).astype(np.int16)
    return chosen


def _half_pixel(errors: Floats, index: NDArray[np.intp]) -> NDArray[np.intp]:
    """Refine the place of the least error: -1, 0 or 1 half pixels, 0 at the window's ends."""
    inner = np.clip(index, 1, SIDE - 2)
    before, here, after = (
        np.take_along_axis(errors, (inner + shift)[..., None], axis=2)[..., 0]
        for shift in (-1, 0, 1)
    )
    curvature = np.maximum(before - 2 * here + after, np.float32(1e-12))
    shift = np.clip(np.rint((before - after) / curvature), -1, 1)
    refined: NDArray[np.intp] = shift.astype(np.intp) * (inner == index)
    return refined
