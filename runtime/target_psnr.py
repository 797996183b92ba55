"""How far a base layer is from its exam, and the quality that brings it as near as is wanted."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edge_codec.errors import SpecError
from edge_codec.metrics.image import psnr, squared_error
from edge_codec.runtime.base_rate import MAX_QUALITY

FIRST_TRIAL = 32
DB_PER_QUALITY = 0.7  # about; the search is right with any


class BaseError:
    """Adds up the squared error of base layers, frame by frame."""

    def __init__(self) -> None:
        self._sum = 0.0
        self._voxels = 0

    def add(self, samples: NDArray[np.uint32], base: NDArray[np.uint32]) -> None:
        """Count a frame, as the `watch` of an `Encoder`."""
        self._sum += squared_error(samples, base)
        self._voxels += samples.size

    def psnr_db(self, peak: int) -> float | None:
        """Return the PSNR over all voxels so far; None where there are none, or no peak.

        Parameters
        ----------
        peak : int
            Maximum of the exam, in stored units.
        """
        if not self._voxels or peak <= 0:
            return None
        return psnr(self._sum / self._voxels, peak)


def find_quality(measure: Callable[[int], float | None], psnr_db: float) -> int:
    """Return the least quality whose PSNR is as high as wanted.

    PSNR grows nearly evenly with quality, so that from a trial the next one is guessed: three or
    four trials find what bisection takes six for.

    Parameters
    ----------
    measure : callable
        Quality -> PSNR of the whole exam in dB, which does not fall as quality grows.
    psnr_db : float
        What is wanted.

    Raises
    ------
    SpecError
        If no quality is good enough, or the exam has no PSNR.
    """
    low, high = -1, MAX_QUALITY + 1  # too low, high enough
    found: dict[int, float] = {}
    quality = FIRST_TRIAL
    while high - low > 1:
        reached = measure(quality)
        if reached is None:
            raise SpecError("the exam has no positive voxel, so a PSNR has no peak; use a quality")
        found[quality] = reached
        if reached >= psnr_db:
            high = quality
        else:
            low = quality
        slope = DB_PER_QUALITY / len(found)  # a wrong guess is followed by a bolder one
        if low in found and high in found and math.isfinite(found[high]):
            slope = (found[high] - found[low]) / (high - low)
        guess = quality + math.ceil(max(-64.0, (psnr_db - reached) / slope))
        quality = max(low + 1, min(high - 1, guess))
    if high > MAX_QUALITY:
        raise SpecError(
            f"quality {MAX_QUALITY} reaches {found[MAX_QUALITY]:.2f} dB, and {psnr_db:g} dB are "
            "wanted; a bound such as max_error 1 (--max-error 1) goes further"
        )
    return high
