"""Levels of the plain hybrid decoder's transforms, and the residual they stand for.

Written from docs/bitstream.md, sections 13.7 and 13.8, alone.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
from plain_bins import Bins, DamagedError

if TYPE_CHECKING:
    from plain_units import Models

Edges = tuple["np.ndarray | None", "np.ndarray | None"]
"""What does not fit the pixels to the left and above, along the edges of a transform."""

LAST = ((0, 0), (1, 0), (2, 0), (3, 0), (4, 1), (6, 1), (8, 2), (12, 2), (16, 3), (24, 3))
NEXT = ((0, 2), (2, 0), (1, 3), (3, 1))
SINES = {
    4: (29, 55, 74, 84),
    8: (17, 32, 46, 60, 71, 78, 85, 86),
    16: (8, 17, 25, 33, 40, 48, 55, 62, 68, 73, 77, 81, 85, 87, 88, 88),
}


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
    """The matrix of the cosine transform."""
    k, i = np.mgrid[0:side, 0:side]
    matrix = 64 * np.sqrt(2) * np.cos((2 * i + 1) * k * np.pi / (2 * side))
    matrix[0] = 64
    return np.rint(matrix).astype(np.int64)


@functools.cache
def sine(side: int) -> np.ndarray:
    """The matrix of the other kind."""
    half = 2 * side + 1
    upper = (0, *SINES[side], *SINES[side][::-1])
    period = np.array([*upper, *(-v for v in upper)], np.int64)
    k, i = np.mgrid[0:side, 0:side]
    return period[(2 * k + 1) * (i + 1) % (2 * half)]


def matrix_of(side: int, is_sine: bool) -> np.ndarray:
    """The matrix of a transform."""
    return sine(side) if is_sine else cosine(side)


def wrap(sums: np.ndarray) -> np.ndarray:
    """Numbers modulo 2^32, from -2^31 on."""
    return (sums + 2**31) % 2**32 - 2**31


def inverse(coefficients: np.ndarray, is_sine: bool) -> np.ndarray:
    """The residual of a transform's coefficients."""
    side = len(coefficients)
    matrix = matrix_of(side, is_sine)
    between = wrap(matrix.T @ coefficients + 32) >> 6
    shift = 8 + side.bit_length()
    return np.clip(wrap(between @ matrix + (1 << (shift - 1))) >> shift, -32768, 32767)


def place(i: int, side: int) -> int:
    """A coordinate's class among eight."""
    return i if i < 4 else max(4, i * 8 // side if side > 8 else i)


class Signs:
    """Reads the signs of a transform."""

    def __init__(self, matrix: np.ndarray, edges: Edges, delta: int) -> None:
        self.first = [int(v) for v in matrix[:, 0]]
        self.sums = [None if t is None else [int(v) for v in matrix @ t] for t in edges]
        known = [t for t in edges if t is not None]
        self.sides = len(known)
        total = int(sum(abs(t).sum() for t in known))
        self.scale = 32 * (total + 8 * len(matrix) * self.sides) * delta

    def read(self, bins: Bins, models: Models, x: int, y: int, size: int) -> int:
        """The sign of a coefficient, 1 if negative."""
        if not self.sides:
            return bins.bits(1)
        parts = [(self.sums[0], y, self.first[x]), (self.sums[1], x, self.first[y])]
        score = sum(weight * sums[i] for sums, i, weight in parts if sums)
        sure = abs(score) * size * self.sides // self.scale
        differs = bins.bin(models("sign", min(sure.bit_length(), 15)))
        negative = differs ^ (score < 0)
        for sums, i, weight in parts:
            if sums:
                sums[i] -= weight * (-size if negative else size)
        return negative


class Levels:
    """Reads transforms."""

    def __init__(self, bins: Bins, models: Models) -> None:
        self.bins, self.models = bins, models
        self.largest = 0

    def residual(
        self, log_side: int, intra: int, is_sine: bool, edges: Edges, delta: int
    ) -> np.ndarray:
        """Read a transform's levels and return what they stand for."""
        side = 1 << log_side
        order = scan(side)
        x, y = (self._last(axis, intra, log_side) for axis in range(2))
        last, state = order.index((x, y)), 0
        sizes = np.zeros((side + 2, side + 2), np.int64)
        coefficients = np.zeros((side, side), np.int64)
        found = []
        for x, y in order[last::-1]:
            near = [sizes[y, x + 1], sizes[y, x + 2], sizes[y + 1, x]]
            near = [int(v) for v in (*near, sizes[y + 1, x + 1], sizes[y + 2, x])]
            size = 0
            if (x, y) == order[last] or self._is_some(x, y, log_side, intra, sum(near), state):
                size = self._size(x, y, log_side, intra, near)
                point = 2 * size - (state >> 1)
                coefficients[y, x] = min((point * delta + 8) >> 4, 2**20)
                found.append((x, y))
                sizes[y, x] = size
                self.largest = max(self.largest, size)
            state = NEXT[state][size & 1]
        signs = Signs(matrix_of(side, is_sine), edges, delta)
        for x, y in reversed(found):
            if signs.read(self.bins, self.models, x, y, int(coefficients[y, x])):
                coefficients[y, x] *= -1
        return inverse(coefficients, is_sine)

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
