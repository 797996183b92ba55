"""Samples to pixels and back: the stream's window, at 2048 steps, in integers only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_codec.base.dwt_cal_vae.numbers import (
    LARGEST_PIXEL,
    LEAST_PIXEL,
    PIXEL_BITS,
    STRIDE,
    limit_pixels,
)
from edge_codec.spec import StreamSpec


class PixelWindow:
    """Maps the samples of a stream's frames to pixels and back.

    Pixel 0 is `spec.window_low`, pixel 2048 is `spec.window_high`; what lies further out than half
    a window below or three and a half above saturates.

    Parameters
    ----------
    spec : StreamSpec
        Gives frame size, window and bounds of the samples.
    """

    def __init__(self, spec: StreamSpec) -> None:
        self._low = spec.window_low - spec.low
        self._width = spec.window_high - spec.window_low
        self._shape = spec.info.frame_shape
        pixels = np.arange(LEAST_PIXEL, LARGEST_PIXEL + 1, dtype=np.int64)
        half = 1 << (PIXEL_BITS - 1)
        samples = self._low + ((pixels * self._width + half) >> PIXEL_BITS)
        self._samples = np.clip(samples, 0, spec.high - spec.low).astype(np.uint32)

    @property
    def size(self) -> tuple[int, int]:
        """Positions of the coefficients, down and along."""
        rows, columns = self._shape
        return -(-rows // STRIDE), -(-columns // STRIDE)

    def narrow(self, samples: NDArray[np.uint32]) -> NDArray[np.int16]:
        """Return pixels, extended to multiples of 8 by repeating the edge."""
        # Beyond what saturates nothing changes, and products stay within 64 bits.
        reach = 4 * self._width
        centered = np.clip(samples.astype(np.int64) - self._low, -reach, reach)
        doubled = (centered << (PIXEL_BITS + 1)) + self._width
        pixels = limit_pixels(doubled // (2 * self._width))
        (rows, columns), (h, w) = self._shape, self.size
        below, right = h * STRIDE - rows, w * STRIDE - columns
        return np.pad(pixels, ((0, below), (0, right)), mode="edge")

    def widen(self, pixels: NDArray[np.int16]) -> NDArray[np.uint32]:
        """Return the samples of padded pixels, within the stream's bounds."""
        rows, columns = self._shape
        samples: NDArray[np.uint32] = self._samples[
            pixels[:rows, :columns].astype(np.intp) - LEAST_PIXEL
        ]
        return samples
