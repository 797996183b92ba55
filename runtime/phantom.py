"""A beating heart of numbers alone, to warm up and measure coders with: no data is needed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BEAT = 20  # phases of one heart beat
NOISE = 12.0  # of magnitudes up to about 1000: as in the cine scans that the codec is made for


def heart(
    n_frames: int, rows: int, columns: int, dtype: np.dtype[Any], seed: int = 0
) -> NDArray[Any]:
    """Return frames of a chest with a ring that contracts, and Rician noise.

    Parameters
    ----------
    n_frames, rows, columns : int
        Extent; `BEAT` frames are one beat.
    dtype : numpy.dtype
        Of the voxels; magnitudes go up to about 1100, or 250 in 8 bits.
    seed : int
        Of the noise.

    Returns
    -------
    ndarray, shape (n_frames, rows, columns)
        The same for the same arguments.
    """
    rng = np.random.default_rng(seed)
    y, x = np.meshgrid(np.linspace(-1, 1, rows), np.linspace(-1, 1, columns), indexing="ij")
    chest = np.hypot(x / 0.95, y / 0.75)
    still = 220.0 * (chest < 1) + 160.0 * (abs(chest - 0.95) < 0.05)
    still += 60.0 * np.sin(9 * x + 4 * y) * np.cos(7 * y - 3 * x) * (chest < 0.9)
    scale = 1000 if dtype.itemsize > 1 else 110
    frames = np.empty((n_frames, rows, columns), dtype)
    for i in range(n_frames):
        size = 0.26 + 0.07 * np.cos(2 * np.pi * i / BEAT)
        radius = np.hypot(x + 0.15, 1.1 * (y + 0.05))
        wall = np.clip((size + 0.1 - radius) * 0.5 * columns, 0, 1)
        blood = np.clip((size - radius) * 0.5 * columns, 0, 1)
        clean = still * (1 - wall) + 330.0 * (wall - blood) + 800.0 * blood
        noisy = np.hypot(clean + rng.normal(0, NOISE, clean.shape), rng.normal(0, NOISE, x.shape))
        frames[i] = np.rint(noisy * (scale / 1000))
    return frames
