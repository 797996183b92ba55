"""The loop filter of the plain hybrid decoder.

Written from docs/bitstream.md, section 13.9, alone; the weights are read there.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

PAIRS = ((0, 1), (0, 2), (0, 3), (1, -2), (1, -1), (1, 0))
PAIRS += ((1, 1), (1, 2), (2, -1), (2, 0), (2, 1), (3, 0))
TEXT = (Path(__file__).parents[1] / "docs" / "bitstream.md").read_text()


def weights_of(key: bool, kind: int) -> list[tuple[int, int]]:
    """The two weights of each pair."""
    line = re.search(rf"^    {'key' if key else 'other'} +{kind}: (.*)$", TEXT, re.MULTILINE)
    assert line
    return [tuple(map(int, pair.split())) for pair in line[1].split(",")]


WEIGHTS = {(key, kind): weights_of(key, kind) for key in (True, False) for kind in range(5)}


def classes(pixels: np.ndarray, deltas: np.ndarray) -> np.ndarray:
    """The class of each square of 4 x 4, each of which has a Delta."""
    rows, columns = pixels.shape
    wide = np.pad(pixels, 1, mode="edge")
    middle = 2 * pixels
    change = abs(middle - wide[:-2, 1:-1] - wide[2:, 1:-1])
    change += abs(middle - wide[1:-1, :-2] - wide[1:-1, 2:])
    activity = change.reshape(rows // 4, 4, columns // 4, 4).sum(axis=(1, 3))
    wide = np.pad(activity, 1, mode="edge")
    around = sum(wide[i : i + rows // 4, j : j + columns // 4] for i in range(3) for j in range(3))
    return sum((32 * around >= 9 * deltas * 2**k).astype(int) for k in range(4))


def filter_square(
    pixels: np.ndarray, kinds: np.ndarray, x: int, y: int, key: bool, delta: int
) -> np.ndarray:
    """A square of 4 x 4, filtered."""
    wide = np.pad(pixels, 3, mode="edge")
    most = min((5 * delta + 512) >> 10, 4095)
    here = pixels[y : y + 4, x : x + 4]
    total = np.full((4, 4), 128)
    for (row, column), (plain, clipped) in zip(
        PAIRS, WEIGHTS[key, int(kinds[y // 4, x // 4])], strict=True
    ):
        f, g = (
            wide[3 + y + s * row : 7 + y + s * row, 3 + x + s * column : 7 + x + s * column] - here
            for s in (1, -1)
        )
        total += plain * (f + g) + clipped * (np.clip(f, -most, most) + np.clip(g, -most, most))
    return np.clip(here + (total >> 8), 0, 4095)
