"""How noisy an exam is, and what bound a loss of signal-to-noise ratio allows.

**The estimate.** White noise of standard deviation sigma, filtered with the difference of second
differences

     1 -2  1
    -2  4 -2
     1 -2  1

has standard deviation 6 sigma, and half of the magnitudes lie above 6 * 0.6745 sigma. The filter
is Immerkaer's (Fast noise variance estimation, 1996): a diagonal detail that is blind to all that
is linear along rows or along columns, so anatomy hardly shows in it. The median of the magnitudes
is Donoho and Johnstone's (Ideal spatial adaptation by wavelet shrinkage, 1994): edges hardly move
it. (The diagonal Haar wavelet, the more usual filter, sees more of the edges that cine images
are full of, and finds more noise in them. A noise that is overestimated is a promise broken.)

**Which voxels.** Noise of magnitude images is smaller in the air around the body, where it follows
Rayleigh's distribution, or was set to zero. So a place counts only where the mean of its 3x3 voxels
is above the mean of its frame. Flat places above it count: to leave them out would make sigma that
of the edges where an image is clipped or has no noise. Where most places are flat, sigma is 0.

**What it is not.** Images that a scanner interpolated or filtered have correlated noise, weak in
the fine detail that the filter sees: sigma is then underestimated, and the bound smaller than it
might be. Noise that varies over the image (parallel imaging, coil correction) is described by its
median over the brighter half of the voxels.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.io.statistics import Histogram

_NORM = 6.0  # of the filter: square root of the sum of its squares
_MEDIAN = 0.6744897501960817  # of the magnitude of a standard normal variable
_MAX_BOUND = (1 << 31) - 1


class NoiseMeter:
    """Measures the noise of an exam, frame by frame, in flat memory.

    The result depends on the frames, not on their order.
    """

    def __init__(self) -> None:
        self._magnitudes = Histogram()

    def add(self, frame: NDArray[Any]) -> None:
        """Take in a frame.

        Parameters
        ----------
        frame : ndarray, shape (rows, columns), integer
            Stored values, of a range below 2**32. Frames with a side below 3 show no noise.
        """
        if min(frame.shape) < 3:
            return
        # Modulo 2**64 exact, since the differences are known to fit.
        samples = frame.astype(np.int64) - frame.min().astype(np.int64)
        detail = np.abs(_second_difference(_second_difference(samples).T).T)
        near = _sum_of_three(_sum_of_three(samples).T).T
        self._magnitudes.add(detail[near * samples.size > 9 * int(samples.sum())])

    def sigma(self) -> float:
        """Return the standard deviation of the noise in stored units, 0 if none is to be seen."""
        values, counts = self._magnitudes.counts()
        if not values.size:
            return 0.0
        below = np.cumsum(counts) - counts
        half = float(counts.sum()) / 2
        place = int(np.searchsorted(below, half, side="right")) - 1
        if values[place] == 0:
            return 0.0
        # Each value stands for an interval, half as wide to both sides as the nearer neighbor is
        # far: without this, small noise could only be one of a few numbers.
        step = float(np.diff(values[max(0, place - 1) : place + 2]).min(initial=values[-1]))
        within = (half - float(below[place])) / float(counts[place])
        return (float(values[place]) + (within - 0.5) * step) / (_NORM * _MEDIAN)


def allowed_variance(sigma: float, snr_loss_percent: float) -> float:
    """Return the mean squared error that a loss of signal-to-noise ratio allows.

    An error of variance v beside noise of variance sigma^2 divides the signal-to-noise ratio by
    sqrt(1 + v / sigma^2).

    Parameters
    ----------
    sigma : float
        Standard deviation of the noise, stored units.
    snr_loss_percent : float
        Loss, above 0 and below 100.

    Returns
    -------
    float
        Square of stored units.
    """
    kept = 1 - snr_loss_percent / 100
    return sigma * sigma * (1 / (kept * kept) - 1)


def bound_of(variance: float) -> int:
    """Return the largest bound whose errors have at most this variance.

    Errors of a coder with bound N are taken as spread evenly over -N..N: N * (N + 1) / 3.

    Parameters
    ----------
    variance : float
        Square of stored units, 0 or more.

    Returns
    -------
    int
        The bound in stored units, below 2**31; 0 is lossless.
    """
    bound = min(math.isqrt(int(3 * variance)), _MAX_BOUND)
    return bound if bound * (bound + 1) <= 3 * variance else bound - 1


def _second_difference(samples: NDArray[np.int64]) -> NDArray[np.int64]:
    """Difference of differences along the first axis, which loses two."""
    return samples[2:] - 2 * samples[1:-1] + samples[:-2]


def _sum_of_three(samples: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sum of neighbors along the first axis, which loses two."""
    return samples[2:] + samples[1:-1] + samples[:-2]
