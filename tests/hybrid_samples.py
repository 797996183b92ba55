"""Streams of the hybrid layer that tests share, and the native modules that this processor runs."""

from __future__ import annotations

import functools
import importlib
from dataclasses import dataclass
from types import ModuleType

import numpy as np
from plain_bins import Inventor
from plain_hybrid import PlainHybrid

from edge_codec.base.hybrid import _hybrid

# How likely contexts choose a 1, each of them one of these: dense, sparse and mixed trees.
TASTES = (
    (0.1, 0.3, 0.5, 0.7, 0.9),
    (0.3, 0.5, 0.6),
    (0.03, 0.5, 0.97),
    (0.6, 0.8, 0.95),
)
FAR = {  # many long vectors and high levels
    "skip": 0.1, "merge": 0.1, "split": 0.7, "motion_some": 0.9, "motion_more": 0.9,
    ("motion_prefix", 0): 0.97, ("motion_prefix", 1): 0.97, "greater": 0.95, "residual": 0.2,
}  # fmt: skip
FLAT = {  # hardly any level, far from the last one: probabilities at their bounds
    "significant": 0.002, "last": 0.95, "coded_intra": 0.95, "coded_part": 0.95, "skip": 0.05,
    "residual": 0.95, "split": 0.05,
}  # fmt: skip
SPECIAL = {8: FAR, 9: FLAT}
QUANTIZERS = (52, 34, 70, 127, 0)


def native_modules() -> list[ModuleType]:
    """The modules that this processor runs."""
    modules = [_hybrid]
    for name, present in _hybrid.features().items():
        if present:
            modules.append(importlib.import_module(f"edge_codec.base.hybrid._hybrid_{name}"))
    return modules


@dataclass(frozen=True)
class Step:
    """One frame of a stream, and what the plain decoder makes of it."""

    payload: bytes
    key: bool
    references: tuple[int, ...]
    slot: int
    frame: np.ndarray


def decoded(coder: object, step: Step) -> np.ndarray:
    """Decode the frame by a native coder."""
    coder.decode(step.payload, step.key, step.references, step.slot)
    out = np.empty(step.frame.shape, np.int16)
    coder.frame(step.slot, out)
    return out


@functools.cache
def invented(seed: int, rows: int, columns: int) -> tuple[tuple[Step, ...], PlainHybrid]:
    """A made-up stream of six frames, and the plain decoder that it was made with."""
    plain = PlainHybrid(rows, columns)
    steps: list[Step] = []
    for i in range(6):
        slot = (3 * i) % 8
        kept = [step.slot for step in steps[::-1] if step.slot != slot]
        references = tuple(kept[: 4 if i == 5 else 1 + i % 2])
        inventor = Inventor(97 * seed + i, TASTES[seed % len(TASTES)], SPECIAL.get(seed))
        quantizer = QUANTIZERS[seed % len(QUANTIZERS)]
        payload = plain.invent(inventor, quantizer, i == 0, references, slot)
        steps.append(Step(payload, i == 0, references, slot, plain.frame(slot)))
    return tuple(steps), plain


def moving_frames(rows: int, columns: int, n: int) -> np.ndarray:
    """A bright disc that moves and beats on a noisy ramp: (n, rows, columns) from 0 to 4095."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[0:rows, 0:columns]
    noise = rng.normal(0, 25, (rows, columns))
    frames = []
    for i in range(n):
        distance = np.hypot(y - rows / 2 - i / 2, x - columns / 2 + 0.75 * i)
        disc = 1500 / (1 + np.exp((distance - 12 - 3 * np.sin(i)) / 2))
        frames.append(500 + 8 * x + disc + noise + rng.normal(0, 5, (rows, columns)))
    return np.clip(np.rint(frames), 0, 4095).astype(np.int16)
