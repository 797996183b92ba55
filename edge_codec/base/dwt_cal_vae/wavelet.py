"""The three-level wavelet in integers: each lifting step is rounded, and its operands are bounded.

The float model is `edge_codec.nn.lifting`. Its inverse needs no exact inverse here: both ways are
defined by their own arithmetic, and the networks see only what this module gives.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_codec.base.dwt_cal_vae.numbers import (
    COEFFICIENTS,
    LATENT_LIMIT,
    STRIDE,
    depth_to_space,
    round_shift,
    saturate,
    space_to_depth,
)

LEVELS = 3
STEP_BITS = 12  # of the multiples of the lifting steps
GAIN_BITS = 16
MORE_BITS = 1  # that signals have between the steps than pixels, as each step is rounded
SIGNAL_LIMIT = 1 << 16
"""Signals are clipped to this magnitude before each step, so that sums fit 32 bits."""

Image = NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class Wavelet:
    """Analysis and synthesis.

    Attributes
    ----------
    steps : ndarray, shape (3, n), int32
        Multiples of the lifting steps, alternately for odd and even samples, `STEP_BITS`.
    gains, inverse_gains : ndarray, shape (64,), int64
        Scales of the coefficients, `GAIN_BITS`.
    """

    steps: NDArray[np.int32]
    gains: NDArray[np.int64]
    inverse_gains: NDArray[np.int64]

    def forward(self, frame: NDArray[np.int16]) -> Image:
        """Coefficients, shape (h, w, 64), of pixels, shape (8h, 8w)."""
        parts: list[Image] = []
        low = frame.astype(np.int32) << MORE_BITS
        for level in range(LEVELS):
            steps = self.steps[level].tolist()
            top, bottom = _split(low, steps)
            low, hl = (band.T for band in _split(top.T, steps))
            lh, hh = (band.T for band in _split(bottom.T, steps))
            block = STRIDE >> (level + 1)
            parts[:0] = [space_to_depth(band, block) for band in (hl, lh, hh)]
        raw = np.concatenate([low[..., None], *parts], axis=2).astype(np.int64)
        return _limit(round_shift(raw * self.gains, GAIN_BITS + MORE_BITS))

    def inverse(self, coefficients: Image) -> Image:
        """Pixels, shape (8h, 8w), not clipped, of coefficients, shape (h, w, 64)."""
        raw = round_shift(coefficients.astype(np.int64) * self.inverse_gains, GAIN_BITS - MORE_BITS)
        raw = np.clip(raw, -SIGNAL_LIMIT, SIGNAL_LIMIT).astype(np.int32)
        low, start = np.ascontiguousarray(raw[..., 0]), 1
        for level in reversed(range(LEVELS)):
            steps = self.steps[level].tolist()
            block = STRIDE >> (level + 1)
            size = block * block
            ends = range(start, start + 3 * size, size)
            hl, lh, hh = (depth_to_space(raw[..., at : at + size], block)[..., 0] for at in ends)
            start += 3 * size
            top, bottom = _join(low.T, hl.T, steps).T, _join(lh.T, hh.T, steps).T
            low = _join(top, bottom, steps)
        # Halves away from zero: always up would brighten a sequence with every frame.
        return (low + (low > 0)) >> MORE_BITS

    def change(self, prediction: NDArray[np.int16], coefficients: Image) -> NDArray[np.int16]:
        """Add what coefficients stand for to a frame."""
        return saturate(prediction + self.inverse(coefficients))


def check_steps(steps: NDArray[np.int32]) -> bool:
    """Whether no sum of a lifting step can leave 32 bits, whatever the signal."""
    shape_is_right = steps.ndim == 2 and steps.shape[0] == LEVELS and steps.shape[1] % 2 == 0
    return shape_is_right and all(
        _largest_sum(order) < 1 << 31
        for level in np.abs(steps).tolist()
        for order in (level, level[::-1])
    )


def _largest_sum(steps: list[int]) -> int:
    """Bound of the sums of steps in an order that alternates between the two halves."""
    one, other, largest = SIGNAL_LIMIT, SIGNAL_LIMIT, 0
    for step in steps:
        total = 2 * other * step + (1 << (STEP_BITS - 1))
        largest = max(largest, total)
        one, other = other, one + (total >> STEP_BITS) + 1
    return largest


def _limit(values: NDArray[np.int64]) -> Image:
    """Clip coefficients to the range of latents."""
    limited = np.clip(values, -LATENT_LIMIT, LATENT_LIMIT).astype(np.int32)
    return limited.reshape(*values.shape[:2], COEFFICIENTS)


def _clip(signal: Image) -> Image:
    return np.clip(signal, -SIGNAL_LIMIT, SIGNAL_LIMIT)


def _split(signal: Image, steps: list[int]) -> tuple[Image, Image]:
    """Lift along the first axis, of even length: low and high half."""
    even, odd = _clip(signal[0::2]), _clip(signal[1::2])
    for index, step in enumerate(steps):
        if index % 2 == 0:
            odd += round_shift(step * _around_odd(even), STEP_BITS)
        else:
            even += round_shift(step * _around_even(odd), STEP_BITS)
    return even, odd


def _join(even: Image, odd: Image, steps: list[int]) -> Image:
    """Turn low and high half into a signal twice as long: `_split` backwards."""
    even, odd = _clip(even), _clip(odd)
    for index, step in reversed(tuple(enumerate(steps))):
        if index % 2 == 0:
            odd -= round_shift(step * _around_odd(even), STEP_BITS)
        else:
            even -= round_shift(step * _around_even(odd), STEP_BITS)
    return np.stack((even, odd), axis=1).reshape(2 * even.shape[0], even.shape[1])


def _around_odd(even: Image) -> Image:
    """Sum of the even samples before and after each odd one; the last one twice."""
    return even + np.concatenate((even[1:], even[-1:]))


def _around_even(odd: Image) -> Image:
    """Sum of the odd samples before and after each even one; the first one twice."""
    return odd + np.concatenate((odd[:1], odd[:-1]))
