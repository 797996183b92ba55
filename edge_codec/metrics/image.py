"""Image fidelity of decoded against original voxels.

Every figure depends on its definition, so each function names its own: which peak, which voxels,
which mean.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

SSIM_WINDOW = 7


def squared_error(original: NDArray[Any], decoded: NDArray[Any]) -> float:
    """Return the sum of squared differences, exact for integers up to 32 bit."""
    difference = original.astype(np.float64) - decoded.astype(np.float64)
    return float(np.vdot(difference, difference))


def psnr(mean_squared_error: float, peak: float) -> float:
    """Return 10 log10(peak^2 / MSE) in dB, infinite for equal images.

    This project's headline figure takes the maximum of the whole exam as `peak` and the mean over
    every voxel of the exam, as fastMRI's evaluation does (its `data_range`).
    """
    if mean_squared_error == 0:
        return math.inf
    return 10 * math.log10(peak * peak / mean_squared_error)


def ssim(original: NDArray[Any], decoded: NDArray[Any], data_range: float) -> float:
    """Return the mean structural similarity of two frames.

    Wang et al., IEEE TIP 13(4), 2004, eq. 13, with a uniform 7x7 window, unbiased variances,
    K1 = 0.01, K2 = 0.03, averaged over the windows that lie inside the frame: the definition of
    scikit-image's default, which fastMRI's evaluation uses.

    Parameters
    ----------
    original, decoded : ndarray, shape (rows, columns), both at least 7
        Frames in the same units.
    data_range : float
        Span of possible values; the maximum of the exam in this project's tables.
    """
    x, y = original.astype(np.float64), decoded.astype(np.float64)
    count = SSIM_WINDOW**2
    unbias = count / (count - 1)
    mean_x, mean_y = _window_mean(x), _window_mean(y)
    variance_x = unbias * (_window_mean(x * x) - mean_x**2)
    variance_y = unbias * (_window_mean(y * y) - mean_y**2)
    covariance = unbias * (_window_mean(x * y) - mean_x * mean_y)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    similarity = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
        (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    )
    return float(similarity.mean())


def _window_mean(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over each 7x7 window, one axis after the other."""
    rows, columns = (length - SSIM_WINDOW + 1 for length in image.shape)
    below = image[:rows].copy()
    for first in range(1, SSIM_WINDOW):
        below += image[first : first + rows]
    total = below[:, :columns].copy()
    for first in range(1, SSIM_WINDOW):
        total += below[:, first : first + columns]
    total /= SSIM_WINDOW**2
    return total
