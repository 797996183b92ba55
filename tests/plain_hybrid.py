"""The hybrid layer's decoder, plainly: slow, and without a thought for hostile payloads.

Written from docs/bitstream.md, section 13, alone; it shares no code with `edge_codec`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from plain_bins import Bins, DamagedError, Inventor, Reader
from plain_intra import predict_intra
from plain_levels import Levels
from plain_loop_filter import classes, filter_square
from plain_motion import motion_plane
from plain_units import INTER, INTRA, MERGE, SKIP, Frame, Models, Motion, Unit


def step_of(index: int) -> int:
    """Delta of a quantizer, in 1/64 of a pixel value."""
    return round(64 * 2 ** ((index - 24) / 6))


def mode_kind(mode: int) -> int:
    """Which of five kinds an intra mode is of."""
    if mode < 2:
        return mode
    return 2 if abs(mode - 10) <= 4 else 3 if abs(mode - 26) <= 4 else 4


class PlainHybrid:
    """Decodes the frames of one slice."""

    def __init__(
        self, rows: int, columns: int, inside: np.ndarray | None = None, gain: int = 0
    ) -> None:
        self.rows, self.columns = rows, columns
        self.height, self.width = (rows + 7) // 8 * 8, (columns + 7) // 8 * 8
        if inside is None:
            inside = np.zeros(((rows + 15) // 16, (columns + 15) // 16), bool)
        self.inside, self.gain = inside, gain
        self.slots: dict[int, Frame] = {}
        self.filtered: set[tuple[bool, int]] = set()  # classes that were

    def frame(self, slot: int) -> np.ndarray:
        """The frame in a slot."""
        return self.slots[slot].pixels[: self.rows, : self.columns].astype(np.int16)

    def decode(self, payload: bytes, key: bool, references: Sequence[int], slot: int) -> None:
        """Decode a payload into a slot."""
        if not payload or payload[0] > 127:
            raise DamagedError
        self._walk(Reader(payload[1:]), payload[0], key, references, slot)

    def invent(
        self, inventor: Inventor, quantizer: int, key: bool, references: Sequence[int], slot: int
    ) -> bytes:
        """Make up a payload, and decode it into a slot."""
        self._walk(inventor, quantizer, key, references, slot)
        return bytes([quantizer]) + inventor.code()

    def _walk(
        self, bins: Bins, quantizer: int, key: bool, references: Sequence[int], slot: int
    ) -> None:
        if key:
            self.models = Models()
        self.bins, self.key = bins, key
        finer = max(quantizer - self.gain, min(quantizer, 24))
        self.deltas = step_of(quantizer), step_of(finer)
        self.references = [] if key else [self.slots[i] for i in references]
        self.now = Frame(np.zeros((self.height, self.width), np.int64))
        self.levels = Levels(bins, self.models)
        for y in range(0, self.height, 64):
            for x in range(0, self.width, 64):
                self._node(x, y, 6)
        self._filter()
        bins.finish()
        self.slots[slot] = self.now

    def _filter(self) -> None:
        deltas = np.where(self.inside, self.deltas[1], self.deltas[0]).repeat(4, 0).repeat(4, 1)
        deltas = deltas[: self.height // 4, : self.width // 4]
        kinds = classes(self.now.pixels, deltas)
        filtered = self.now.pixels.copy()
        for top in range(0, self.height, 32):
            for left in range(0, self.width, 32):
                rows = range(top, min(top + 32, self.height), 4)
                columns = range(left, min(left + 32, self.width), 4)
                places = [(x, y) for y in rows for x in columns if not self._is_skipped(x, y)]
                if not places or not self.bins.bin(self.models("filtered", int(self.key))):
                    continue
                for x, y in places:
                    self.filtered.add((self.key, int(kinds[y // 4, x // 4])))
                    filtered[y : y + 4, x : x + 4] = filter_square(
                        self.now.pixels, kinds, x, y, self.key, self._delta(x, y)
                    )
        self.now.pixels = filtered

    def _is_skipped(self, x: int, y: int) -> bool:
        unit = self.now.unit(x, y)
        return unit is not None and unit.mode == SKIP

    def _delta(self, x: int, y: int) -> int:
        return self.deltas[int(self.inside[y // 16, x // 16])]

    # ---------------------------------------------------------------------------------- the tree

    def _around(self, x: int, y: int) -> list[Unit]:
        """The units to the left and above, of those that are decoded."""
        units = (self.now.unit(x - 1, y), self.now.unit(x, y - 1))
        return [unit for unit in units if unit]

    def _before(self, x: int, y: int, side: int) -> list[Unit]:
        """The units of the first reference at three places."""
        places = ((x + side // 2, y + side // 2), (x, y), (x + side - 1, y + side - 1))
        units = [self.references[0].unit(*at) for at in places] if self.references else []
        return [unit for unit in units if unit]

    def _node(self, x: int, y: int, log_side: int) -> None:
        side = 1 << log_side
        if x >= self.width or y >= self.height:
            return
        split = x + side > self.width or y + side > self.height or (self.key and log_side == 6)
        squares = self.inside[y // 16 : (y + side + 15) // 16, x // 16 : (x + side + 15) // 16]
        split = split or squares.min() != squares.max()
        if not split and log_side > 3:
            before = self._before(x, y, side)
            smaller = sum(u.log_side < log_side for u in before)
            split = self.bins.mixed(
                self.models(
                    "split", log_side, sum(u.log_side < log_side for u in self._around(x, y))
                ),
                self.models("split_before", log_side, bool(before) + smaller),
                self.models.mixer("split"),
            )
        if not split:
            self._block(x, y, log_side)
            return
        for k in range(4):
            self._node(x + side // 2 * (k & 1), y + side // 2 * (k >> 1), log_side - 1)

    def _block(self, x: int, y: int, log_side: int) -> None:
        mode = INTRA if self.key else self._mode(x, y, log_side)
        if mode == INTRA:
            if log_side == 3 and self.bins.bin(self.models("four_parts")):
                for k in range(4):
                    self._intra(x + 4 * (k & 1), y + 4 * (k >> 1), 2, 3)
            else:
                self._intra(x, y, log_side, log_side)
            return
        side, coded = 1 << log_side, 1
        if mode == INTER:
            motion = self._motion(x, y, log_side)
            coded = self.bins.bin(self.models("residual", log_side))
        else:
            motion = self._merge(x, y, side)
            coded = mode == MERGE
        self._record(x, y, side, Unit(log_side, mode, motion, coded=bool(coded)))
        self._predict(x, y, side, motion)
        if coded:
            self._residual(x, y, log_side)

    def _mode(self, x: int, y: int, log_side: int) -> int:
        around, before = self._around(x, y), self._before(x, y, 1 << log_side)
        skipped = 1 + sum(u.mode == SKIP for u in before)
        if self.bins.mixed(
            self.models("skip", sum(u.mode == SKIP for u in around)),
            self.models("skip_before", log_side, skipped),
            self.models.mixer("skip"),
        ):
            return SKIP
        intra = self.models("intra", sum(u.mode == INTRA for u in around))
        if log_side < 6 and self.bins.bin(intra):
            return INTRA
        return MERGE if self.bins.bin(self.models("merge")) else INTER

    def _record(self, x: int, y: int, side: int, unit: Unit) -> None:
        for j in range(y >> 2, (y + side) >> 2):
            for i in range(x >> 2, (x + side) >> 2):
                self.now.units[i, j] = unit

    # ------------------------------------------------------------------------------------ motion

    def _predict(self, x: int, y: int, side: int, motion: Motion) -> None:
        planes = [
            motion_plane(self.references[r].pixels, x, y, side, vector)
            for r, *vector in motion.parts
        ]
        total = sum(planes)
        value = (total + 2) >> 2 if len(planes) == 1 else (total + 4) >> 3
        self.now.pixels[y : y + side, x : x + side] = np.clip(value, 0, 4095)

    def _neighbors(self, x: int, y: int, side: int) -> list[Motion]:
        places = (
            (x - 1, y + side - 1),
            (x + side - 1, y - 1),
            (x + side, y - 1),
            (x - 1, y + side),
            (x - 1, y - 1),
        )
        units = [self.now.unit(*at) for at in places]
        return [u.motion for u in units if u and u.mode != INTRA]

    def _candidates(self, x: int, y: int, side: int) -> list[Motion]:
        n = len(self.references)
        found: list[Motion] = []

        def add(motion: Motion, most: int = 6) -> None:
            if len(found) < most and motion not in found:
                found.append(motion)

        for motion in self._neighbors(x, y, side):
            add(motion, 5)
        middle = min(x + side // 2, self.width - 1), min(y + side // 2, self.height - 1)
        unit = self.references[0].unit(*middle)
        if unit and unit.mode != INTRA:
            add(Motion(tuple((r if r < n else 0, *v) for r, *v in unit.motion.parts)))
        sofar = list(found)
        for first in sofar:
            for second in sofar:
                if first is not second and len(second.parts) == 2:
                    add(Motion((first.parts[0], second.parts[1])))
        for r in range(n):
            add(Motion(((r, 0, 0),)))
        for r in range(1, n):
            add(Motion(((0, 0, 0), (r, 0, 0))))
        return found + [Motion()] * (6 - len(found))

    def _merge(self, x: int, y: int, side: int) -> Motion:
        index = self._unary("merge_index", 5)
        return self._candidates(x, y, side)[index]

    def _motion(self, x: int, y: int, log_side: int) -> Motion:
        both = self.bins.bin(self.models("both", log_side))
        return Motion(tuple(self._vector(x, y, 1 << log_side) for _ in range(1 + both)))

    def _vector(self, x: int, y: int, side: int) -> tuple[int, int, int]:
        reference = self._unary("reference", len(self.references) - 1)
        difference = self._difference(0), self._difference(1)
        which = self.bins.bin(self.models("predictor"))
        parts = [part for motion in self._neighbors(x, y, side) for part in motion.parts]
        found = [v for r, *v in parts if r == reference] + [v for r, *v in parts if r != reference]
        distinct: list[list[int]] = []
        for vector in found:
            if vector not in distinct:
                distinct.append(vector)
        predictor = [*distinct, [0, 0], [0, 0]][which]
        moved = [min(max(p + d, -16383), 16383) for p, d in zip(predictor, difference, strict=True)]
        return reference, moved[0], moved[1]

    def _difference(self, axis: int) -> int:
        if not self.bins.bin(self.models("motion_some", axis)):
            return 0
        size = 1
        if self.bins.bin(self.models("motion_more", axis)):
            ones = self._unary(("motion_prefix", axis), 14)
            size = 2 ** (ones + 1) + self.bins.bits(ones + 1)
        return -size if self.bins.bits(1) else size

    def _unary(self, name: object, most: int) -> int:
        ones = 0
        while ones < most and self.bins.bin(self.models(name, ones)):
            ones += 1
        return ones

    # ------------------------------------------------------------------------------- the residual

    def _add(self, x: int, y: int, residual: np.ndarray) -> None:
        side = len(residual)
        block = self.now.pixels[y : y + side, x : x + side]
        block[:] = np.clip(block + residual, 0, 4095)

    def _transform(self, x: int, y: int, log_side: int, intra: int, is_sine: bool) -> None:
        """Add a transform to the prediction."""
        side, pixels = 1 << log_side, self.now.pixels
        left = above = None
        if self.now.unit(x - 1, y):
            near, far, own = (pixels[y : y + side, x + i] for i in (-1, -2, 0))
            left = 12 * near - 4 * far - 8 * own
        if self.now.unit(x, y - 1):
            near, far, own = (pixels[y + i, x : x + side] for i in (-1, -2, 0))
            above = 12 * near - 4 * far - 8 * own
        delta = self._delta(x, y)
        self._add(x, y, self.levels.residual(log_side, intra, is_sine, (left, above), delta))

    def _residual(self, x: int, y: int, log_side: int) -> None:
        if log_side < 6 and not self.bins.bin(self.models("split_transform", log_side)):
            self._transform(x, y, log_side, 0, False)
            return
        half, some = 1 << (log_side - 1), False
        for k in range(4):
            coded = (k == 3 and not some) or self.bins.bin(self.models("coded_part", log_side))
            some = some or bool(coded)
            if coded:
                at = x + half * (k & 1), y + half * (k >> 1)
                self._transform(*at, log_side - 1, 0, False)

    def _intra(self, x: int, y: int, log_side: int, log_block: int) -> None:
        mode, side = self._intra_mode(x, y), 1 << log_side
        near = sum(unit.coded for unit in self._around(x, y))
        coded = self.bins.mixed(
            self.models("coded_intra", log_side),
            self.models("coded_around", near, mode_kind(mode)),
            self.models.mixer("coded_intra"),
        )
        decoded = {at: self.now.pixels[at[1], at[0]] for at in self._edge(x, y, side)}
        self.now.pixels[y : y + side, x : x + side] = predict_intra(x, y, side, mode, decoded)
        self._record(x, y, side, Unit(log_block, INTRA, Motion(), mode, bool(coded)))
        if coded:
            choice = side in (8, 16) and self.bins.bin(self.models("sine", log_side))
            self._transform(x, y, log_side, 1, side == 4 or bool(choice))

    def _edge(self, x: int, y: int, side: int) -> list[tuple[int, int]]:
        """The pixels around a block that are decoded."""
        places = [(x + i, y - 1) for i in range(-1, 2 * side)]
        places += [(x - 1, y + i) for i in range(2 * side)]
        return [at for at in places if self.now.unit(*at)]

    def _intra_mode(self, x: int, y: int) -> int:
        a, b = (
            unit.intra_mode if unit and unit.mode == INTRA else 1
            for unit in (self.now.unit(x - 1, y), self.now.unit(x, y - 1))
        )
        if a != b:
            third = next(mode for mode in (0, 1, 26) if mode not in (a, b))
            likely = [a, b, third]
        else:
            likely = [0, 1, 26] if a < 2 else [a, 2 + (a + 29) % 32, 2 + (a - 1) % 32]
        if self.bins.bin(self.models("likely")):
            return likely[self._unary("likely_index", 2)]
        rank = 0
        for i in range(4, -1, -1):
            rank = 2 * rank + self.bins.bin(self.models("other_mode", i))
        return [mode for mode in range(35) if mode not in likely][rank]
