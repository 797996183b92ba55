"""The hybrid layer's frames in their order: samples, slots and references, in plain Python.

Written from docs/bitstream.md, sections 13.1 and 13.10, alone.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from plain_hybrid import PlainHybrid
from plain_order import coding_order


class HybridBase:
    """The base layer of one slice."""

    def __init__(
        self, header: SimpleNamespace, inside: np.ndarray | None = None, gain: int = 0
    ) -> None:
        self.header = header
        self.hybrid = PlainHybrid(header.rows, header.columns, inside, gain)
        self.place = 0

    def decode(self, payload: bytes, phase: int, key: bool) -> np.ndarray:
        """The base frame of samples."""
        self.place = 0 if key else self.place + 1
        k = self.header.key_interval
        if self.header.archive:
            length = min(k, self.header.phases - phase // k * k)
            slot, references = archive_plan(length)[self.place]
        else:
            slot, references = low_delay_plan(self.place)
        self.hybrid.decode(payload, key, references, slot)
        return self._samples(self.hybrid.frame(slot).astype(np.int64))

    def _samples(self, pixels: np.ndarray) -> np.ndarray:
        span = self.header.span
        up = 12 - span.bit_length()
        if up >= 0:
            return np.minimum((pixels + ((1 << up) >> 1)) >> up, span)
        return np.minimum(pixels << -up, span)


def low_delay_plan(n: int) -> tuple[int, list[int]]:
    """Slot and references of a frame n phases after its key frame."""
    if n == 0:
        return 0, []
    a = 4 * ((n - 1) // 4)
    latest = different([frame for frame in (n - 1, a, a - 4, a - 8) if frame > 0])[:3]
    return low_delay_slot(n), [low_delay_slot(frame) for frame in [*latest, 0]]


def low_delay_slot(n: int) -> int:
    """Where a frame is kept."""
    if n == 0:
        return 0
    return 4 + n % 2 if n % 4 else 1 + (n // 4 - 1) % 3


def archive_plan(length: int) -> list[tuple[int, list[int]]]:
    """Slot and references of each frame of a group, in the order of coding."""
    header = SimpleNamespace(archive=1, key_interval=length, phases=length)
    order = coding_order(header, length)
    kept: dict[int, int] = {}
    plans = []
    for turn, g in enumerate(order):
        slot = next(slot for slot in range(8) if slot not in kept.values())
        plans.append((slot, [kept[f] for f in neighbors(g, order[:turn], length)]))
        kept[g] = slot
        for f in list(kept):
            if not needed(f, order, turn):
                del kept[f]
    return plans


def neighbors(g: int, coded: list[int], length: int) -> list[int]:
    """The references of a frame among those coded before it."""
    if not coded:
        return []
    a = min(coded, key=lambda f: (g - f) % length)
    b = min(coded, key=lambda f: (f - g) % length)
    return different([b, a] if (b - g) % length < (g - a) % length else [a, b])


def needed(f: int, order: list[int], turn: int) -> bool:
    """Whether a frame is a reference of one that is coded after a turn."""
    later = range(turn + 1, len(order))
    return any(f in neighbors(order[i], order[:i], len(order)) for i in later)


def different(frames: list[int]) -> list[int]:
    """Each frame once, where it is first."""
    return sorted(set(frames), key=frames.index)
