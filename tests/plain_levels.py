"""Levels of the plain hybrid decoder's transforms, and the residual they stand for.

Written from docs/bitstream.md, sections 13.7 and 13.8, alone.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
from plain_bins import Bins, DamagedError

if TYPE_CHECKING:
    from plain_hybrid import Models

LAST = ((0, 0), (1, 0), (2, 0), (3, 0), (4, 1), (6, 1), (8, 2), (12, 2), (16, 3), (24, 3))
NEXT = ((0, 2), (2, 0), (1, 3), (3, 1))
SINE = ((29, 55, 74, 84), (74, 74, 0, -74), (84, -29, -74, 55), (55, -84, 74, -29))


def diagonals(side: int) -> list[tuple[int, int]]:
    """The (x, y) of a square, diagonal by diagonal, each from the lower left to the upper right."""
    places = [(x, y) for y in range(side) for x in range(side)]
    return sorted(places, key=lambda at: (at[0] + at[1], at[0]))


@functools.cache
def scan(side: int) -> list[tuple[int, int]]:
    """The order of a transform's coefficients, lowest frequency first."""
    return [
        (4 * left + x, 4 * top + y) for left, top in diagonals(side // 4) for x, y in diagonals(4)
    ]


@functools.cache
def cosine(side: int) -> np.ndarray:
    """The matrix of the transform."""
    k, i = np.mgrid[0:side, 0:side]
    matrix = 64 * np.sqrt(2) * np.cos((2 * i + 1) * k * np.pi / (2 * side))
    matrix[0] = 64
    return np.rint(matrix).astype(np.int64)


def wrap(sums: np.ndarray) -> np.ndarray:
    """Numbers modulo 2^32, from -2^31 on."""
    return (sums + 2**31) % 2**32 - 2**31


def inverse(coefficients: np.ndarray, sine: bool) -> np.ndarray:
    """The residual of a transform's coefficients."""
    side = len(coefficients)
    matrix = np.array(SINE, np.int64) if sine else cosine(side)
    between = wrap(matrix.T @ coefficients + 32) >> 6
    shift = 8 + side.bit_length()
    return np.clip(wrap(between @ matrix + (1 << (shift - 1))) >> shift, -32768, 32767)


def place(i: int, side: int) -> int:
    """A coordinate's class among eight."""
    return i if i < 4 else max(4, i * 8 // side if side > 8 else i)


class Levels:
    """Reads transforms."""

    def __init__(self, bins: Bins, models: Models, delta: int) -> None:
        self.bins, self.models, self.delta = bins, models, delta
        self.largest = 0

    def residual(self, log_side: int, intra: int) -> np.ndarray:
        """Read a transform's levels and return what they stand for."""
        side = 1 << log_side
        order = scan(side)
        x, y = (self._last(axis, intra, log_side) for axis in range(2))
        last, state = order.index((x, y)), 0
        sizes = np.zeros((side + 2, side + 2), np.int64)
        coefficients = np.zeros((side, side), np.int64)
        for x, y in order[last::-1]:
            near = [sizes[y, x + 1], sizes[y, x + 2], sizes[y + 1, x]]
            near = [int(v) for v in (*near, sizes[y + 1, x + 1], sizes[y + 2, x])]
            size = 0
            if (x, y) == order[last] or self._is_some(x, y, log_side, intra, sum(near), state):
                size = self._size(x, y, log_side, intra, near)
                point = 2 * size - (state >> 1)
                value = min((point * self.delta + 8) >> 4, 2**20)
                coefficients[y, x] = -value if self.bins.bits(1) else value
                sizes[y, x] = size
                self.largest = max(self.largest, size)
            state = NEXT[state][size & 1]
        return inverse(coefficients, bool(intra) and side == 4)

    def _last(self, axis: int, intra: int, log_side: int) -> int:
        ones = 0
        while ones < 2 * log_side - 1 and self.bins.bin(
            self.models("last", axis, intra, log_side, ones)
        ):
            ones += 1
        least, count = LAST[ones]
        return least + self.bins.bits(count)

    def _is_some(self, x: int, y: int, log_side: int, intra: int, total: int, state: int) -> int:
        side, kind = 1 << log_side, max(state - 1, 0)
        area = 2 if x + y < 2 else 1 if x + y < 5 else 0
        near = (total + 1) // 2 if total <= 6 else 4 if total <= 8 else 5
        return self.bins.mixed(
            self.models("significant", kind, intra, log_side, area, near),
            self.models("place", kind > 0, intra, log_side, place(x, side), place(y, side)),
            self.models.mixer("significant", intra, log_side),
        )

    def _size(self, x: int, y: int, log_side: int, intra: int, near: list[int]) -> int:
        total, beyond = sum(near), sum(v - 1 for v in near if v)
        area = 2 if x + y == 0 else 1 if x + y < 3 else 0
        few = beyond if beyond <= 4 else 5 if beyond <= 7 else 6
        many = [total < limit for limit in (2, 4, 8, 16, 24, 32, 64, 1 << 30)].index(True)
        for i in range(4):
            if not self.bins.mixed(
                self.models("greater", intra, area, few, i),
                self.models("greater_size", intra, log_side, x + y < 4, i, many),
                self.models.mixer("greater", intra, i),
            ):
                return i + 1
        return 5 + self._escape(0 if total < 7 else 1 if total < 14 else 2 if total < 28 else 3)

    def _escape(self, order: int) -> int:
        base = 0
        for ones in range(4):
            if not self.bins.bits(1):
                return base + self.bins.bits(order)
            base += 1 << order
            del ones
        length = order + 1
        while length < 15 and self.bins.bits(1):
            base += 1 << length
            length += 1
        size = base + self.bins.bits(length)
        if size + 5 > 32767:
            raise DamagedError
        return size
