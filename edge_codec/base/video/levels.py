"""Samples of up to 32 bits as the levels of a video of 10 or 12, and back, in integers only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Levels:
    """Shifts samples so that they fill a depth: exact where they have no more bits than it.

    Parameters
    ----------
    span : int
        Largest sample, below 2**32.
    depth : int
        Bits of a level.
    """

    def __init__(self, span: int, depth: int) -> None:
        self._span = span
        self._top = (1 << depth) - 1
        self._up = depth - span.bit_length()

    def encode(self, samples: NDArray[np.uint32]) -> NDArray[np.uint16]:
        """Return the levels of samples 0 to `span`: the nearest, half upwards."""
        if self._up >= 0:
            return (samples << np.uint32(self._up)).astype(np.uint16)
        down = -self._up
        rounded = (samples.astype(np.uint64) + np.uint64(1 << down >> 1)) >> np.uint64(down)
        levels: NDArray[np.uint16] = np.minimum(rounded, self._top).astype(np.uint16)
        return levels

    def decode(self, levels: NDArray[np.uint16]) -> NDArray[np.uint32]:
        """Return the samples, 0 to `span`, of levels."""
        samples = levels.astype(np.uint32)  # enough: a decoder's levels have `depth` bits
        if self._up >= 0:
            samples += np.uint32(1 << self._up >> 1)
            samples >>= np.uint32(self._up)
        else:
            samples <<= np.uint32(-self._up)
        return np.minimum(samples, np.uint32(self._span), out=samples)
