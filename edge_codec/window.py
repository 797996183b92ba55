"""The integer window between stored samples and the 8-bit codes of the networks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_codec.spec import WINDOW_ONE, StreamSpec

MAX_TABLE = 1 << 16


class Window:
    """Maps samples to 8-bit window codes and back, in integers only.

    Code 0 is `spec.window_low`, code 192 is `spec.window_high`; codes up to 255 leave room for
    voxels a third brighter than the window, and what lies outside saturates.

    Parameters
    ----------
    spec : StreamSpec
        Gives the window and the bounds of the samples.
    """

    def __init__(self, spec: StreamSpec) -> None:
        self._low = spec.window_low - spec.low
        self._width = spec.window_high - spec.window_low
        span = spec.high - spec.low
        codes = np.arange(256, dtype=np.int64)
        samples = self._low + (codes * self._width + WINDOW_ONE // 2) // WINDOW_ONE
        self._samples = np.clip(samples, 0, span).astype(np.uint32)
        self._codes: NDArray[np.uint8] | None = None
        if span < MAX_TABLE:
            self._codes = self._compute(np.arange(span + 1, dtype=np.int64))

    def _compute(self, samples: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Evaluate the definition: round half up of `(x - low) * 192 / width`, saturated."""
        numerator = (samples - self._low) * (2 * WINDOW_ONE) + self._width
        return np.clip(numerator // (2 * self._width), 0, 255).astype(np.uint8)

    @property
    def codes(self) -> NDArray[np.uint8] | None:
        """The window codes of samples 0, 1, ...; None where there are too many for a table."""
        return self._codes

    @property
    def samples(self) -> NDArray[np.uint32]:
        """The samples that stand for codes 0 to 255, clamped to the stream's bounds."""
        return self._samples

    def normalize(self, samples: NDArray[np.uint32]) -> NDArray[np.uint8]:
        """Return the window codes of `samples`, same shape."""
        if self._codes is not None:
            return self._codes[samples]
        return self._compute(samples.astype(np.int64))

    def denormalize(self, codes: NDArray[np.uint8]) -> NDArray[np.uint32]:
        """Return the samples that stand for `codes`, clamped to the stream's bounds."""
        return self._samples[codes]


def pad(codes: NDArray[np.uint8], stride: int) -> NDArray[np.uint8]:
    """Extend a frame below and to the right to multiples of `stride` by repeating its edge."""
    rows, columns = codes.shape
    below, right = -rows % stride, -columns % stride
    if not below and not right:
        return codes
    return np.pad(codes, ((0, below), (0, right)), mode="edge")
