"""What the hybrid layer's plain decoder knows of a frame: its units, its motion, its contexts.

Written from docs/bitstream.md, section 13, alone; it shares no code with `edge_codec`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from plain_bins import Context, Mixer

SKIP, MERGE, INTER, INTRA = range(4)


@dataclass(frozen=True)
class Motion:
    """One or two predictions: reference, horizontal, vertical in quarter pixels."""

    parts: tuple[tuple[int, int, int], ...] = ((0, 0, 0),)


@dataclass(frozen=True)
class Unit:
    """What is known of a square of 4 x 4."""

    log_side: int
    mode: int
    motion: Motion = Motion()
    intra_mode: int = 1
    coded: bool = False


@dataclass
class Frame:
    """Pixels, and the units that are decoded."""

    pixels: np.ndarray
    units: dict[tuple[int, int], Unit] = field(default_factory=dict)

    def unit(self, x: int, y: int) -> Unit | None:
        """The unit of a pixel, if it is decoded."""
        return self.units.get((x >> 2, y >> 2))


class Models:
    """Contexts by name and place; all begin alike."""

    def __init__(self) -> None:
        self.contexts: dict[tuple[object, ...], Context] = {}
        self.mixers: dict[tuple[object, ...], Mixer] = {}

    def __call__(self, *name: object) -> Context:
        return self.contexts.setdefault(name, Context(name[0]))

    def mixer(self, *name: object) -> Mixer:
        return self.mixers.setdefault(name, Mixer())
