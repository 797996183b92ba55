"""Blocks of a reference, moved by quarters of a pixel, plainly.

Written from docs/bitstream.md, section 13, alone; it shares no code with `edge_codec`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

TAPS = (
    (0, 0, 0, 64, 0, 0, 0, 0),
    (-1, 4, -10, 58, 17, -5, 1, 0),
    (-1, 4, -11, 40, 40, -11, 4, -1),
    (0, 1, -5, 17, 58, -10, 4, -1),
)


def motion_plane(
    pixels: np.ndarray, x: int, y: int, side: int, vector: Sequence[int]
) -> np.ndarray:
    """A block of a reference, moved; four times its pixels."""
    f, g = vector[0] & 3, vector[1] & 3
    rows = np.clip(np.arange(-3, side + 4) + y + (vector[1] >> 2), 0, pixels.shape[0] - 1)
    columns = np.clip(np.arange(-3, side + 4) + x + (vector[0] >> 2), 0, pixels.shape[1] - 1)
    block = pixels[np.ix_(rows, columns)].astype(np.int64)
    if not f and not g:
        return 4 * block[3 : 3 + side, 3 : 3 + side]
    if f:
        block = (sum(TAPS[f][k] * block[:, k : k + side] for k in range(8)) + 8) >> 4
        if not g:
            return block[3 : 3 + side]
        return (sum(TAPS[g][k] * block[k : k + side] for k in range(8)) + 32) >> 6
    block = block[:, 3 : 3 + side]
    return (sum(TAPS[g][k] * block[k : k + side] for k in range(8)) + 8) >> 4
