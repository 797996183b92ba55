"""The fixed waves in time and along the slices that a group of frames is a sum of.

Each has a mean square of 1 over a cycle, or over the slices, and a mean product of 0 with every
other, so that errors of their images are errors of the frames. A wave that a short cycle or few
slices cannot tell from another one is 0.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

CYCLE_WAVES = 3
SLICE_WAVES = 4

Floats = NDArray[np.float32]


def cycle_wave(phase: int, n_phases: int) -> Floats:
    """Return 1, cosine and sine of a phase of the cycle, shape (3,); 1, 0, 0 below 3 phases."""
    wave = np.zeros(CYCLE_WAVES, np.float32)
    wave[0] = 1
    if n_phases > 2:
        angle = 2 * math.pi * (phase % n_phases) / n_phases
        wave[1:] = math.sqrt(2) * math.cos(angle), math.sqrt(2) * math.sin(angle)
    return wave


def slice_wave(index: int, n_slices: int) -> Floats:
    """Return 1 and cosines of a slice's place, shape (4,); 0 from wave number `n_slices` on."""
    wave = np.zeros(SLICE_WAVES, np.float32)
    wave[0] = 1
    for k in range(1, min(SLICE_WAVES, n_slices)):
        wave[k] = math.sqrt(2) * math.cos(math.pi * k * (index + 0.5) / n_slices)
    return wave
