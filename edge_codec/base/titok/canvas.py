"""Frames of any size into the square that the network sees, and back.

The longer side becomes the canvas's side, the aspect is kept, the frame is centered and its border
repeated around it. A frame is enlarged `MOST_ENLARGED` times at most; one that is smaller still
leaves more border. Both ways are cubic convolution (Keys, 1981, a = -1/2) of rows and of columns,
widened by the factor where a side shrinks so that nothing aliases.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

SIDE = 128
MOST_ENLARGED = 2

Floats = NDArray[np.float32]


class Canvas:
    """The way of frames of one size onto the canvas and back.

    Parameters
    ----------
    rows, columns : int
        Of the frames.

    Attributes
    ----------
    inside : ndarray, shape (128, 128), float32
        1 where the canvas shows the frame, 0 in the border around it.
    """

    def __init__(self, rows: int, columns: int) -> None:
        (top, height), (left, width) = places(rows, columns)
        self._onto = Resizer(rows, height), Resizer(columns, width)
        self._back = Resizer(height, rows), Resizer(width, columns)
        self._around = (
            (top, SIDE - top - height),
            (left, SIDE - left - width),
        )
        self._shown = slice(top, top + height), slice(left, left + width)
        self.inside: Floats = np.zeros((SIDE, SIDE), np.float32)
        self.inside[self._shown] = 1

    def fit(self, frame: Floats) -> Floats:
        """Turn a frame (rows, columns) into a canvas (128, 128)."""
        return np.pad(_resize(frame, self._onto), self._around, mode="edge")

    def restore(self, canvas: Floats) -> Floats:
        """Turn a canvas (128, 128) back into a frame (rows, columns)."""
        return _resize(canvas[self._shown], self._back)


@lru_cache(maxsize=8)
def canvas_of(rows: int, columns: int) -> Canvas:
    """Return the canvas of frames of a size; slices of a stream share it."""
    return Canvas(rows, columns)


def places(rows: int, columns: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return where a frame lies on the canvas: (first row, rows), (first column, columns)."""
    longer = max(rows, columns)
    side = min(SIDE, MOST_ENLARGED * longer)
    sizes = (max(1, (2 * length * side + longer) // (2 * longer)) for length in (rows, columns))
    height, width = sizes
    return ((SIDE - height) // 2, height), ((SIDE - width) // 2, width)


def _resize(frame: Floats, resizers: tuple[Resizer, Resizer]) -> Floats:
    """Resize rows and columns."""
    rows = resizers[0].resize(frame)
    return np.ascontiguousarray(resizers[1].resize(np.ascontiguousarray(rows.T)).T)


class Resizer:
    """Resizes along the first axis by cubic convolution.

    Parameters
    ----------
    source, target : int
        Samples before and after.
    """

    def __init__(self, source: int, target: int) -> None:
        factor = source / target
        stretch = max(1.0, factor)
        middles = (np.arange(target) + 0.5) * factor - 0.5
        reach = int(np.ceil(2 * stretch))
        at = np.floor(middles).astype(np.int64)[:, None] + np.arange(-reach, reach + 1)
        weights = _cubic((at - middles[:, None]) / stretch)
        weights[(at < 0) | (at >= source)] = 0
        weights /= weights.sum(axis=1, keepdims=True)
        taps = np.flatnonzero(weights.any(axis=0))
        self._at = np.clip(at, 0, source - 1)[:, taps].T.copy()
        self._weights = weights[:, taps].T[:, :, None].astype(np.float32)

    def resize(self, frame: Floats) -> Floats:
        """Turn (source, n) into (target, n)."""
        resized: Floats = frame[self._at[0]] * self._weights[0]
        for at, weight in zip(self._at[1:], self._weights[1:], strict=True):
            resized += frame[at] * weight
        return resized


def _cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' kernel of a = -1/2, zero from a distance of 2 on."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0))
