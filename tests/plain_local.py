"""Efforts DEFAULT and BEST of the plain decoder: filters that every decoder fits by itself.

Written from docs/bitstream.md, sections 11.4 to 11.8, alone. Doubles are added and multiplied one
by one, in the order of the document; NumPy does the same to many elements at a time. Sums of
products are integers, which are exact in any order.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from plain_mixing import Mixing, Voxel
from plain_rans import Adaptive, RansDecoder
from plain_symbols import Symbols, clip

DEFAULT, BEST = 1, 2

CENTER = ((0, 0),)
RING_1 = ((0, 1), (1, 0), (0, -1), (-1, 0))
RING_2 = ((1, 1), (1, -1), (-1, 1), (-1, -1))
RING_3 = ((0, 2), (2, 0), (0, -2), (-2, 0))
CAUSAL_1 = ((0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0))
CAUSAL_2 = ((-1, -2), (-1, 2), (-2, -1), (-2, 1), (-2, -2), (-2, 2))
CAUSAL_3 = ((0, -3), (-3, 0), (-1, -3), (-1, 3), (-3, -1), (-3, 1))

NOW = 0  # 1, 2, 3: the frames before
BASE = 10


class Tap(NamedTuple):
    """A place in a plane, relative to the voxel."""

    plane: int
    dy: int
    dx: int


class Sums(NamedTuple):
    """Sums of products over square blocks: which ones."""

    side: int
    every: int  # how many rows further the next one that is summed is
    features: int


class Filter(NamedTuple):
    """A filter: the sums that it is fitted to, how many features, and how far a window reaches."""

    sums: int
    features: int
    window: int


def list_taps(depth: int, with_base: bool) -> tuple[list[Tap], list[int]]:
    """All taps, and how many of them the small, medium, large and largest set has."""
    earlier = [i for i in (1, 2, 3) if i <= depth]
    parts = [
        [(1, CENTER), (1, RING_1), (NOW, CAUSAL_1), (2, CENTER), (3, CENTER), (BASE, CENTER)],
        [(1, RING_2), (NOW, CAUSAL_2), (BASE, RING_1)],
        [(1, RING_3), (2, RING_1)],
        [(NOW, CAUSAL_3), (2, RING_2), (3, RING_1)],
    ]
    known = [NOW, *earlier, *([BASE] if with_base else [])]
    taps: list[Tap] = []
    counts = []
    for part in parts:
        taps += [Tap(plane, *at) for plane, places in part if plane in known for at in places]
        counts.append(len(taps))
    return taps, counts


class LocalDecoder:
    """Decodes the coded frames of one band."""

    def __init__(self, rows: int, columns: int, span: int, with_base: bool, effort: int) -> None:
        self.rows, self.columns, self.span = rows, columns, span
        self.with_base, self.best = with_base, effort == BEST
        self.shift = max(span.bit_length() - 11, 0)
        self.n_filters = 3 if self.best else 2
        self.every = 2 if effort == DEFAULT and rows * columns > 16384 else 1

    def start(self) -> None:
        """Forget everything: a key frame comes."""
        self.history: list[np.ndarray] = []  # decoded frames with their edge, the latest first
        self.base_before: np.ndarray | None = None
        self.errors = self.no_errors()
        self.contexts = [Adaptive() for _ in range(48)]
        self.escape = Adaptive()
        self.mixing = Mixing(self.n_filters + 2)

    def no_errors(self) -> np.ndarray:
        """Magnitudes of 0: a plane for each filter, and one for their mean."""
        return np.zeros((self.n_filters + 1, self.rows + 6, self.columns + 6), np.int64)

    def keep(self, frame: np.ndarray, base: np.ndarray | None, coded: bool) -> None:
        """Go on to the next frame after this one."""
        if not coded:
            self.errors = self.no_errors()
        self.history = [edged(frame), *self.history][: 3 if self.with_base else 4]
        self.base_before = None if base is None else edged(base)

    def decode(self, payload: bytes, bounds: np.ndarray, base: np.ndarray | None) -> np.ndarray:
        """The next frame of samples, from a payload without its head."""
        self.bounds = bounds
        self.symbols = None if self.best else Symbols(payload)
        self.rans = RansDecoder(payload, 1) if self.best else None
        self.open_frame(base)
        for row in range(self.rows):
            for index, sums in enumerate(self.sums):
                if row % sums.side == 0:
                    self.fit_row(index, row // sums.side)
            self.decode_row(row)
        (self.rans or self.symbols).finish()
        return self.work[3:-3, 3:-3].astype(np.int64)

    # ------------------------------------------------------------------- planes and tap sets

    def open_frame(self, base: np.ndarray | None) -> None:
        """The frame in work, and what this frame's filters look at."""
        self.work = np.zeros((self.rows + 6, self.columns + 6))
        if self.history:
            self.work[:3] = self.history[0][3]
        history = len(self.history)
        depth = history if history <= 1 else min(history - 1, 2 if self.with_base else 3)
        self.taps, (small, medium, large, largest) = list_taps(depth, self.with_base)
        self.planes = {NOW: self.work, **dict(enumerate(self.history, 1))}
        self.planes_before = dict(enumerate(self.history)) if history >= 2 else None
        if base is not None:
            self.planes[BASE] = edged(base)
            if self.planes_before:
                self.planes_before[BASE] = self.base_before
        if self.best:
            self.sums = [Sums(4, 1, medium), Sums(8, 1, largest)]
            self.filters = [Filter(1, largest, 2), Filter(0, small, 2), Filter(0, medium, 1)]
        else:
            self.sums = [Sums(4, 1, small), Sums(8, self.every, large)]
            self.filters = [Filter(1, large, 2), Filter(0, small, 2)]
        self.products: list[dict[tuple[str, int], np.ndarray]] = [{}, {}]
        self.coefficients: list[np.ndarray] = [np.empty(0)] * self.n_filters
        self.errors_before, self.errors = self.errors, self.no_errors()

    # ------------------------------------------------------------ sums, windows, least squares

    def fit_row(self, index: int, block_row: int) -> None:
        """Fit all filters of one kind of blocks, for a row of them."""
        sums, products = self.sums[index], self.products[index]
        n_rows = -(-self.rows // sums.side)
        if block_row:
            products["now", block_row - 1] = self.sum_row(sums, block_row - 1, self.planes)
        for row in range(n_rows if self.planes_before and not block_row else 0):
            products["before", row] = self.sum_row(sums, row, self.planes_before)
        for k, filter_ in enumerate(self.filters):
            if filter_.sums == index:
                matrix = self.add_windows(products, filter_, block_row)
                self.coefficients[k] = solve(matrix.astype(np.float64))

    def sum_row(self, sums: Sums, block_row: int, planes: dict[int, np.ndarray]) -> np.ndarray:
        """Sums of products of features, [block, i, j], for a row of blocks."""
        blocks = -(-self.columns // sums.side)
        top = block_row * sums.side
        rows = np.arange(top, min(top + sums.side, self.rows), sums.every)
        places = [Tap(NOW, 0, 0), *self.taps[1 : sums.features]]
        features = np.zeros((sums.features, len(rows), blocks * sums.side), np.int64)
        reference = self.coarse(planes, self.taps[0], rows)
        for i, tap in enumerate(places):
            difference = self.coarse(planes, tap, rows) - reference
            features[i, :, : self.columns] = np.clip(difference, -723, 723)
        cut = features.reshape(sums.features, len(rows), blocks, sums.side)
        cut = cut.transpose(2, 0, 1, 3).reshape(blocks, sums.features, -1)
        return np.matmul(cut, cut.transpose(0, 2, 1))

    def coarse(self, planes: dict[int, np.ndarray], tap: Tap, rows: np.ndarray) -> np.ndarray:
        """Samples without their lowest bits, in some rows, where the tap lies."""
        left = 3 + tap.dx
        samples = planes[tap.plane][rows + 3 + tap.dy, left : left + self.columns]
        return samples.astype(np.int64) >> self.shift

    def add_windows(
        self, products: dict[tuple[str, int], np.ndarray], filter_: Filter, block_row: int
    ) -> np.ndarray:
        """Sums over the window around each block of a row, [block, i, j]."""
        reach, n = filter_.window, filter_.features
        blocks = -(-self.columns // self.sums[filter_.sums].side)
        down = np.zeros((blocks + 2 * reach, n, n), np.int64)
        for (frame, row), part in products.items():
            weight = reach + 1 - abs(row - block_row)
            if weight > 0:
                down[reach:-reach] += weight * (2 if frame == "now" else 1) * part[:, :n, :n]
        total = np.zeros((blocks, n, n), np.int64)
        for d in range(-reach, reach + 1):
            total += (reach + 1 - abs(d)) * down[reach + d : reach + d + blocks]
        return total

    # ------------------------------------------------------------------------------ prediction

    def predict_row(self, row: int) -> list[list[float]]:
        """For each filter, all of a row's predictions but what the row itself adds."""
        predictions = []
        for filter_, coefficients in zip(self.filters, self.coefficients, strict=True):
            side = self.sums[filter_.sums].side
            spread = np.repeat(coefficients, side, axis=1)[:, : self.columns]
            total = np.zeros(self.columns)
            for tap, weight in zip(self.taps, spread, strict=False):
                if tap.plane != NOW or tap.dy != 0:
                    left = 3 + tap.dx
                    line = self.planes[tap.plane][row + 3 + tap.dy, left : left + self.columns]
                    total = total + line * weight
            predictions.append(total.tolist())
        return predictions

    def west_weights(self) -> list[list[list[float]]]:
        """Weights of the voxels to the left, the nearest first: [filter][block][distance]."""
        weights = []
        for filter_, coefficients in zip(self.filters, self.coefficients, strict=True):
            taps = self.taps[: filter_.features]
            west = [taps.index((NOW, 0, -d)) for d in (1, 2, 3) if (NOW, 0, -d) in taps]
            weights.append(coefficients[west].T.tolist())
        return weights

    def decode_row(self, row: int) -> None:
        """Decode the voxels of a row, whose filters are known."""
        self.work[row + 3, :3] = self.work[row + 2, 3]
        starts, wests, energies = self.predict_row(row), self.west_weights(), self.energies(row)
        wide = self.wide_energies(row) if self.best else None
        line = self.work[row + 3, :3].tolist()
        recent = [(0, 0)] * (self.n_filters + 1)  # magnitudes of the two voxels to the left
        for column, bound in enumerate(self.bounds[row].tolist()):
            self.bound = bound
            centers = [
                self.predict(start[column], west[column // self.sums[f.sums].side], line)
                for f, start, west in zip(self.filters, starts, wests, strict=True)
            ]
            around = [
                self.scale_up(energy[column] + 3 * near + far)
                for energy, (near, far) in zip(energies, recent, strict=True)
            ]
            centers.append(mean_of(centers, around))
            if self.best:
                around.append(wide[column])
                sample = self.decode_mixed(row, column, centers, around, line)
            else:
                sample = self.decode_plain(centers[-1], around[-1])
            line.append(float(sample))
            errors = [error_of(sample, center) for center in centers]
            recent = [(new, near) for new, (near, _) in zip(errors, recent, strict=True)]
            self.errors[:, row + 3, column + 3] = errors
        self.work[row + 3] = [*line, *[line[-1]] * 3]

    def predict(self, start: float, west: list[float], line: list[float]) -> int:
        """A filter's prediction in sixteenths; `line` is the row up to the voxel."""
        total = start
        for distance, weight in enumerate(west, 1):
            total += weight * line[-distance]
        total = min(total, float(self.span)) if total > 0 else 0.0
        return int(total * 16 + 0.5)

    def decode_plain(self, predicted: int, energy: int) -> int:
        """A sample from a symbol of one of 48 distributions."""
        step, middle = 2 * self.bound + 1, (predicted + 8) >> 4
        most = (self.span + self.bound) // step
        mean = energy // step // 16
        level = self.symbols.take_level(mean, self.contexts, self.escape, most)
        if predicted > 16 * middle:
            level = -level
        return clip(middle + level * step, 0, self.span)

    def decode_mixed(
        self, row: int, column: int, centers: list[int], around: list[int], line: list[float]
    ) -> int:
        """A sample from decisions whose probabilities are mixed."""
        signs = self.signs(row, column, centers[-1] / 16, line[-1])
        voxel = Voxel([*centers, centers[-1]], around, signs, self.bound, self.span)
        return self.mixing.take_sample(self.rans, voxel)

    def signs(self, row: int, column: int, mean: float, west: float) -> int:
        """Which voxels around, and guesses from them, lie above the mean prediction."""
        r, c = row + 3, column + 3
        north, north_west = self.work[r - 1, c], self.work[r - 1, c - 1]
        guesses = {0: west, 1: north, 3: west + north - north_west}
        if self.history:
            before = self.history[0]
            guesses[2] = before[r, c]
            guesses[4] = before[r, c] + west - before[r, c - 1]
            guesses[5] = before[r, c] + north - before[r - 1, c]
        return sum(2**bit for bit, guess in guesses.items() if guess > mean)

    # -------------------------------------------------------------------------------- energies

    def energies(self, row: int) -> list[list[int]]:
        """Weighted sums of magnitudes around each voxel, without those of the row itself."""

        def at(planes: np.ndarray, dy: int, dx: int) -> np.ndarray:
            return planes[:, row + 3 + dy, 3 + dx : 3 + dx + self.columns]

        now, before = self.errors, self.errors_before
        total = 3 * at(now, -1, 0) + 2 * (at(now, -1, -1) + at(now, -1, 1)) + at(now, -2, 0)
        total = total + 2 * at(before, 0, 0) + at(before, 0, 1) + at(before, 0, -1)
        total = total + at(before, -1, 0) + at(before, 1, 0)
        return total.tolist()

    def scale_up(self, energy: int) -> int:
        """A key frame's energy has no part from an earlier frame."""
        return energy if self.history else energy + energy // 2

    def wide_energies(self, row: int) -> list[int]:
        """The same from a wide window around each voxel, without its row."""
        r, now, before = row + 3, self.errors[-1], self.errors_before[-1]
        total = now[r - 3 : r].sum(0)
        if self.history:
            total += before[r - 2 : r + 3].sum(0)
        else:
            total += total + total // 2 + total // 8
        total = np.minimum(total, 2**28 - 1)
        return [int(total[c : c + 7].sum()) // 16 * 5 for c in range(self.columns)]


def edged(frame: np.ndarray) -> np.ndarray:
    """A whole frame as doubles, its edge repeated three times."""
    return np.pad(frame.astype(np.float64), 3, mode="edge")


def solve(matrix: np.ndarray) -> np.ndarray:
    """Least squares: coefficients, [tap, block], of sums of products, [block, i, j].

    Row and column 0 are the target. Every element of the matrix goes through the operations of
    Cholesky's method in the order of the steps `k`; NumPy does a step for all of them at a time.
    """
    m = matrix.transpose(1, 2, 0).copy()
    n = len(m)
    trace = np.zeros(m.shape[2])
    for i in range(1, n):
        trace = trace + m[i, i]
    ridge = trace * 2.0**-16 / n + 8.0
    for i in range(1, n):
        m[i, i] += ridge
    inverse = np.zeros((n, m.shape[2]))
    target = m[:, 0].copy()
    for k in range(1, n):
        positive = m[k, k] > 0
        inverse[k] = np.where(positive, 1 / np.sqrt(np.where(positive, m[k, k], 1.0)), 0.0)
        m[k + 1 :, k] *= inverse[k]
        target[k] *= inverse[k]
        below = m[k + 1 :, k]
        m[k + 1 :, k + 1 :] -= below[:, None] * below[None]
        target[k + 1 :] -= below * target[k]
    coefficients = np.ones((n, m.shape[2]))
    for i in range(n - 1, 0, -1):
        coefficients[i] = target[i] * inverse[i]
        target[1:i] -= m[i, 1:i] * coefficients[i]
        coefficients[0] -= coefficients[i]
    return coefficients


def mean_of(centers: list[int], energies: list[int]) -> int:
    """Mean of the filters' predictions, weighted by how well each did around the voxel."""
    weights = total = 0.0
    for center, energy in zip(centers, energies, strict=False):
        e = energy + 86.0
        weight = 1 / (e * e)
        weights += weight
        total += weight * center
    return int(total / weights + 0.5)


def error_of(sample: int, center: int) -> int:
    """Magnitude of a prediction's error, in sixteenths."""
    return min(abs(16 * sample - center), 2**27 - 1)
