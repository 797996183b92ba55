"""Fixed-point units of the `dwt-cal-vae` base layer: what one step of each kind of integer means.

A number kept with n fraction bits stands for itself over 2**n. One window, from the stream's
`window_low` to its `window_high`, is 1.0 of a pixel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

STRIDE = 8
"""Pixels per position of the coefficients along each axis."""

COEFFICIENTS = 64
"""Channels of the wavelet's coefficients."""

PIXEL_BITS = 11  # of pixels, coefficients and latents
LEAST_PIXEL = -(1 << (PIXEL_BITS - 1))
LARGEST_PIXEL = 7 << (PIXEL_BITS - 1)
"""Pixels lie in -0.5 to 3.5 windows."""

LATENT_LIMIT = 1 << 18
INPUT_BITS = 10  # of coefficients, symbols and expected latents as the networks see and give them
STEP_BITS = 15  # of the latents' quantization steps
SIDE_BITS = 8  # of side latents
SIDE_STEP_BITS = 12
SCALE_BITS = 6  # of indices of scales, before they are rounded
GATE_BITS = 12  # of gates, corrections and weights of the attention
SCALES = 64
"""Distributions of the symbols' table."""

LARGEST_SYMBOL = 4095
SYMBOL_RANGE = 4  # symbols are clipped to this where the second half looks at them
QUALITIES = 64

BALANCE_BITS = np.repeat(np.array([0, 2, 3, 4], np.int32), (1, 3, 12, 48))
BALANCE = np.int32(1) << BALANCE_BITS
"""Networks see and give coefficients times so many quarters, so that all are of one order."""


def round_shift(value: NDArray[Any], bits: int) -> NDArray[Any]:
    """Divide by 2**bits, rounded to the nearest integer, up in the middle."""
    result: NDArray[Any] = (value + (1 << (bits - 1))) >> bits
    return result


def saturate(value: NDArray[Any]) -> NDArray[np.int16]:
    """Clip to 16 bits."""
    clipped: NDArray[np.int16] = np.clip(value, -32768, 32767).astype(np.int16)
    return clipped


def limit_pixels(value: NDArray[Any]) -> NDArray[np.int16]:
    """Clip to the range of pixels."""
    clipped: NDArray[np.int16] = np.clip(value, LEAST_PIXEL, LARGEST_PIXEL).astype(np.int16)
    return clipped


def to_input(coefficients: NDArray[np.int32]) -> NDArray[np.int16]:
    """Turn coefficients or latents (h, w, 64) into what the networks see of them."""
    return saturate(round_shift(coefficients * BALANCE, 2))


def from_output(mean: NDArray[np.int32]) -> NDArray[np.int32]:
    """Turn the networks' expectation (h, w, 64) into latents: `to_input` backwards."""
    latents: NDArray[np.int32] = round_shift(mean * (16 // BALANCE), 2)
    return latents


def space_to_depth(image: NDArray[Any], block: int) -> NDArray[Any]:
    """Turn blocks into channels: (bh, bw) to (h, w, b * b), channel (row, column)."""
    h, w = image.shape[0] // block, image.shape[1] // block
    parts = image.reshape(h, block, w, block).transpose(0, 2, 1, 3)
    return parts.reshape(h, w, block * block)


def depth_to_space(image: NDArray[Any], block: int) -> NDArray[Any]:
    """Turn channels (row, column, c) into blocks: (h, w, b * b * c) to (bh, bw, c)."""
    h, w, channels = image.shape
    c = channels // (block * block)
    parts = image.reshape(h, w, block, block, c).transpose(0, 2, 1, 3, 4)
    return parts.reshape(h * block, w * block, c)
