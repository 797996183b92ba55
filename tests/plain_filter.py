"""Effort FAST of the plain decoder: one linear filter a frame, which the payload brings.

Written from docs/bitstream.md, sections 11.2 and 11.3, alone.
"""

from __future__ import annotations

import numpy as np
from plain_rans import Adaptive
from plain_symbols import Symbols, clip, to_signed

CROSS = ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0))
CAUSAL = ((0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0))


class FilterDecoder:
    """Decodes the coded frames of one band."""

    def __init__(self, rows: int, columns: int, span: int) -> None:
        self.rows, self.columns, self.span = rows, columns, span

    def start(self) -> None:
        """Forget everything: a key frame comes."""
        self.history: list[np.ndarray] = []  # decoded frames with their edge, the latest first
        self.magnitudes = self.zeros()
        self.contexts = [Adaptive() for _ in range(48)]
        self.escape, self.coefficient = Adaptive(), Adaptive()
        self.coefficients: list[int] = []

    def zeros(self) -> np.ndarray:
        """A plane with an edge of two voxels."""
        return np.zeros((self.rows + 4, self.columns + 4), np.int64)

    def keep(self, frame: np.ndarray, base: np.ndarray | None, coded: bool) -> None:
        """Go on to the next frame after this one."""
        if not coded:
            self.magnitudes = self.zeros()
        self.history = [np.pad(frame.astype(np.int64), 2, mode="edge"), *self.history][:2]

    def decode(self, payload: bytes, bounds: np.ndarray, base: np.ndarray | None) -> np.ndarray:
        """The next frame of samples, from a payload without its head."""
        symbols = Symbols(payload)
        work = self.zeros()
        if self.history:
            work[:2] = self.history[0][2]
        taps = self.list_taps(work, base)
        self.read_coefficients(symbols, len(taps))
        before, self.magnitudes = self.magnitudes, self.zeros()
        for row in range(2, self.rows + 2):
            work[row, :2] = work[row - 1, 2]
            sums, west, west_west = self.open_row(taps, work, row)
            energies = self.energies(before, row).tolist()
            line, levels = work[row, :2].tolist(), []
            row_bounds = bounds[row - 2].tolist()
            for start, energy, bound in zip(sums, energies, row_bounds, strict=True):
                step, most = 2 * bound + 1, (self.span + bound) // (2 * bound + 1)
                total = start + west * line[-1] + west_west * line[-2]
                predicted = clip(total >> 12, 0, self.span)
                level = symbols.take_level(energy, self.contexts, self.escape, most)
                line.append(clip(predicted + level * step, 0, self.span))
                levels.append(min(16 * abs(level), 2**27 - 1))
            work[row] = [*line, line[-1], line[-1]]
            self.magnitudes[row, 2:-2] = levels
        symbols.finish()
        return work[2:-2, 2:-2].copy()

    def list_taps(
        self, work: np.ndarray, base: np.ndarray | None
    ) -> list[tuple[np.ndarray, int, int]]:
        """Planes and places that the coefficients belong to, in the order of the payload."""
        taps = [(work, *place) for place in CAUSAL]
        if self.history:
            taps = [(self.history[0], *place) for place in CROSS] + taps
        if len(self.history) == 2:
            taps.append((self.history[1], 0, 0))
        if base is not None:
            edged = np.pad(base.astype(np.int64), 2, mode="edge")
            taps += [(edged, *place) for place in CROSS]
        return taps

    def read_coefficients(self, symbols: Symbols, n: int) -> None:
        """The filter, as the difference from the latest one of as many taps."""
        old = self.coefficients if len(self.coefficients) == n else [0] * n
        self.coefficients = []
        for value in old:
            code = symbols.take_number(self.coefficient)
            assert code <= 2**18
            self.coefficients.append(value + to_signed(code))
        assert sum(map(abs, self.coefficients)) <= 32767

    def open_row(
        self, taps: list[tuple[np.ndarray, int, int]], work: np.ndarray, row: int
    ) -> tuple[list[int], int, int]:
        """2^11 and all products but those of the row's own voxels, and the weights of these."""
        sums, serial = np.full(self.columns, 2048), {-1: 0, -2: 0}
        for weight, (plane, dy, dx) in zip(self.coefficients, taps, strict=True):
            if plane is work and dy == 0:
                serial[dx] = weight
            else:
                sums += weight * plane[row + dy, 2 + dx : 2 + dx + self.columns]
        return sums.tolist(), serial[-1], serial[-2]

    def energies(self, before: np.ndarray, row: int) -> np.ndarray:
        """Mean magnitude around each voxel of a row, in sixteenths; none of the row itself."""

        def at(plane: np.ndarray, dy: int, dx: int) -> np.ndarray:
            return plane[row + dy, 2 + dx : 2 + dx + self.columns]

        now = self.magnitudes
        own = 3 * at(now, -1, 0) + 2 * (at(now, -1, -1) + at(now, -1, 1)) + at(now, -2, 0)
        if not self.history:
            return 2 * own // 16
        total = own + 2 * at(before, 0, 0) + at(before, 0, 1) + at(before, 0, -1)
        total = total + at(before, -1, 0) + at(before, 1, 0)
        return (total + total // 8) // 16
