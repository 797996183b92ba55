"""Changes of a clip that leave a plausible cine: place, motion, intensity and noise.

Places are changed by one resampling of all frames of a clip (bicubic, so that noise keeps its
grain): rotation, zoom, a smooth deformation, and a smooth motion that comes back after a cycle,
which makes a cine out of a single frame too. Intensities follow a gain and a gamma, and the noise
is Rician, as that of magnitude images is.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own convention)
from torch import Tensor

KNOTS = 4  # of a smooth random field, along each axis


def warp(
    frames: Tensor,
    center: tuple[float, float],
    size: int,
    rng: np.random.Generator,
    motion_px: float,
) -> Tensor:
    """Cut a turned, zoomed, deformed and moving square out of frames.

    Parameters
    ----------
    frames : Tensor, shape (t, rows, columns), float
    center : (float, float)
        Row and column of the square's middle.
    size : int
        Rows and columns of the result.
    rng : numpy Generator
    motion_px : float
        Largest displacement of the added motion; 0 for none.

    Returns
    -------
    Tensor, shape (t, size, size), float
    """
    count, rows, columns = frames.shape
    angle = math.radians(rng.uniform(-20.0, 20.0))
    zoom = float(np.exp(rng.uniform(-0.2, 0.2)))
    axis = (torch.arange(size) - (size - 1) / 2) / zoom
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    row = center[0] + math.cos(angle) * y - math.sin(angle) * x
    column = center[1] + math.sin(angle) * y + math.cos(angle) * x
    place = torch.stack((row, column))[None] + smooth_field(size, 1.5, rng)
    if motion_px > 0:
        period, phase = rng.uniform(10.0, 30.0), rng.uniform(0.0, 2 * math.pi)
        time = torch.arange(count) * (2 * math.pi / period) + phase
        place = place + torch.sin(time)[:, None, None, None] * smooth_field(size, motion_px, rng)
    place = place.expand(count, -1, -1, -1)
    # grid_sample counts from -1 to 1 between the outer edges of the image, columns first.
    grid = torch.stack((
        (2 * place[:, 1] + 1) / columns - 1,
        (2 * place[:, 0] + 1) / rows - 1,
    ), dim=-1)  # fmt: skip
    moved = F.grid_sample(
        frames[:, None], grid, mode="bicubic", padding_mode="border", align_corners=False
    )
    return moved[:, 0]


def smooth_field(size: int, amplitude_px: float, rng: np.random.Generator) -> Tensor:
    """Random smooth displacements, shape (1, 2, size, size), of about `amplitude_px`."""
    knots = torch.from_numpy(rng.uniform(-1.0, 1.0, (1, 2, KNOTS, KNOTS)).astype(np.float32))
    field = F.interpolate(knots, (size, size), mode="bicubic", align_corners=True)
    return amplitude_px * field


def vary_intensity(frames: Tensor, rng: np.random.Generator) -> Tensor:
    """Change gain and gamma of frames in units of the window."""
    gain, gamma = rng.uniform(0.75, 1.3), rng.uniform(0.85, 1.2)
    return gain * frames.clamp_min(0.0) ** gamma


def add_noise(frames: Tensor, rng: np.random.Generator) -> Tensor:
    """Add Rician noise of a random strength: the magnitude after complex Gaussian noise.

    Gudbjartsson and Patz, "The Rician distribution of noisy MRI data", MRM 1995.
    """
    sigma = rng.uniform(0.003, 0.02)
    real, imaginary = (
        torch.from_numpy(rng.standard_normal(frames.shape, np.float32)) for _ in range(2)
    )
    return torch.hypot(frames + sigma * real, sigma * imaginary)
