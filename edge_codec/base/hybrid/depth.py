"""Samples of any range as values of 12 bits and back."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

INTERNAL_BITS = 12
INTERNAL_MAX = (1 << INTERNAL_BITS) - 1


class DepthMap:
    """Takes samples of 0 to `span` to the 12 bits that the codec works in, and back.

    Narrow samples are shifted up, so that their steps are whole multiples of the codec's; wide
    ones are rounded to its steps.

    Parameters
    ----------
    span : int
        Greatest sample, at most 32 bits.

    Examples
    --------
    >>> import numpy as np
    >>> depth = DepthMap(1000)
    >>> inside = np.empty((1, 3), np.int16)
    >>> depth.narrow(np.array([[0, 7, 1000]], np.uint32), inside)
    >>> inside.tolist()
    [[0, 28, 4000]]
    >>> samples = np.empty((1, 3), np.uint32)
    >>> depth.widen(inside, samples)
    >>> samples.tolist()
    [[0, 7, 1000]]
    """

    def __init__(self, span: int) -> None:
        self._span = np.uint32(span)
        self._up = INTERNAL_BITS - span.bit_length()

    def narrow(self, samples: NDArray[np.uint32], out: NDArray[np.int16]) -> None:
        """Write the 12-bit values of samples.

        Parameters
        ----------
        samples : ndarray, shape (rows, columns), uint32
            0 to `span`.
        out : ndarray, shape (rows, columns), int16
            Takes 0 to 4095.
        """
        if self._up >= 0:
            np.left_shift(samples, np.uint32(self._up), out=out, casting="unsafe")
            return
        down = -self._up
        # Half a step is added after the shift: before it, samples of 32 bits would overflow.
        rounded = (samples >> np.uint32(down)) + (samples >> np.uint32(down - 1) & np.uint32(1))
        np.minimum(rounded, np.uint32(INTERNAL_MAX), out=out, casting="unsafe")

    def widen(self, internal: NDArray[np.int16], out: NDArray[np.uint32]) -> None:
        """Write the samples of 12-bit values.

        Parameters
        ----------
        internal : ndarray, shape (rows, columns), int16
            0 to 4095.
        out : ndarray, shape (rows, columns), uint32
            Takes 0 to `span`.
        """
        np.copyto(out, internal, casting="unsafe")
        if self._up > 0:
            out += np.uint32(1 << self._up >> 1)
            out >>= np.uint32(self._up)
        elif self._up < 0:
            out <<= np.uint32(-self._up)
        np.minimum(out, self._span, out=out)
