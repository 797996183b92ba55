"""Prediction of the plain hybrid decoder's blocks from pixels around them.

Written from docs/bitstream.md, section 13.6, alone.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

ANGLES = (0, 2, 5, 9, 13, 17, 21, 26, 32)  # by the distance from the horizontal or vertical mode
INVERSES = {2: 4096, 5: 1638, 9: 910, 13: 630, 17: 482, 21: 390, 26: 315, 32: 256}


def edge_pixels(x: int, y: int, side: int, decoded: Mapping[tuple[int, int], int]) -> list[int]:
    """The 4 side + 1 pixels from the lowest on the left to the last on the right."""
    places = [(x - 1, y + i) for i in range(2 * side - 1, -1, -1)]
    places += [(x + i, y - 1) for i in range(-1, 2 * side)]
    known = [decoded.get(at) for at in places]
    last = next((v for v in known if v is not None), 512)
    pixels = []
    for value in known:
        last = int(value) if value is not None else last
        pixels.append(last)
    return pixels


def is_smoothed(side: int, mode: int) -> bool:
    """Whether a block is predicted from smoothed pixels."""
    if mode == 1 or side == 4:
        return False
    distance = min(abs(mode - 10), abs(mode - 26))
    return mode == 0 or distance > {8: 7, 16: 1, 32: 0}[side]


def predict_intra(
    x: int, y: int, side: int, mode: int, decoded: Mapping[tuple[int, int], int]
) -> np.ndarray:
    """The prediction of a block by one of the 35 modes."""
    pixels = edge_pixels(x, y, side, decoded)
    if is_smoothed(side, mode):
        inner = zip(pixels, pixels[1:], pixels[2:], strict=False)
        pixels = [pixels[0], *((a + 2 * b + c + 2) >> 2 for a, b, c in inner), pixels[-1]]
    corner = 2 * side
    top = pixels[corner:]  # top[0] is the corner
    left = pixels[corner::-1]
    if mode == 0:
        return planar(top, left, side)
    if mode == 1:
        return mean(top, left, side)
    if mode < 18:
        return angular(left, top, side, 10 - mode).T
    return angular(top, left, side, mode - 26)


def planar(top: list[int], left: list[int], side: int) -> np.ndarray:
    """Linear in both directions."""
    out = np.empty((side, side), np.int64)
    for y in range(side):
        for x in range(side):
            across = (side - 1 - x) * left[y + 1] + (x + 1) * top[side + 1]
            down = (side - 1 - y) * top[x + 1] + (y + 1) * left[side + 1]
            out[y, x] = (across + down + side) // (2 * side)
    return out


def mean(top: list[int], left: list[int], side: int) -> np.ndarray:
    """The mean, with softened edges."""
    value = (sum(top[1 : side + 1]) + sum(left[1 : side + 1]) + side) // (2 * side)
    out = np.full((side, side), value, np.int64)
    if side < 32:
        for i in range(1, side):
            out[0, i] = (top[i + 1] + 3 * value + 2) >> 2
            out[i, 0] = (left[i + 1] + 3 * value + 2) >> 2
        out[0, 0] = (left[1] + 2 * value + top[1] + 2) >> 2
    return out


def angular(main: list[int], other: list[int], side: int, turn: int) -> np.ndarray:
    """Along a direction that lies `turn` modes from the axis; `main` is above the rows."""
    angle = ANGLES[abs(turn)] if turn > 0 else -ANGLES[abs(turn)]
    line = {i: main[i] for i in range(2 * side + 1)}
    line[2 * side + 1] = 0  # with a factor of 0
    if angle < 0:
        for i in range(1, -(side * angle >> 5)):
            line[-i] = other[(i * INVERSES[-angle] + 128) >> 8]
    out = np.empty((side, side), np.int64)
    for y in range(side):
        whole, part = (y + 1) * angle >> 5, (y + 1) * angle & 31
        for x in range(side):
            at = x + whole + 1
            out[y, x] = ((32 - part) * line[at] + part * line[at + 1] + 16) >> 5
    if angle == 0 and side < 32:
        for y in range(side):
            out[y, 0] = min(max(main[1] + ((other[y + 1] - other[0]) >> 1), 0), 4095)
    return out
