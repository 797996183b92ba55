"""The windowed attention of the decoder: a frame as weighted sums of the previous one's pixels.

Each position has 12 weights, of the neighbors at -3 to -1 and 1 to 3 down columns, then along rows;
a pixel itself has one minus their sum. They come from the block's displacement, and from the
features through a gate. Between the middles of blocks they are interpolated.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_codec.base.dwt_cal_vae.numbers import (
    GATE_BITS,
    STRIDE,
    limit_pixels,
    round_shift,
    saturate,
)

RADIUS = 3
WEIGHTS = 4 * RADIUS
MOST_MOTION = 2 * RADIUS
"""Displacements are half pixels of at most this magnitude."""

WEIGHT_BITS = 10  # of weights at single pixels
ONE = 1 << GATE_BITS
OFFSETS = tuple(offset for offset in range(-RADIUS, RADIUS + 1) if offset)
NEAR = np.array([9, 11, 13, 15, 15, 13, 11, 9], np.int32)
"""Sixteenths that a position's own weight has at the pixels of its block; the next one has the
rest, the one before in the first half."""


def motion_weights(motion: NDArray[np.int16]) -> NDArray[np.int32]:
    """Weights (h, w, 12), `GATE_BITS`, that sample linearly at half pixels (h, w, 2)."""
    places = np.array(OFFSETS, np.int32) * ONE
    distance = np.abs(motion[..., None].astype(np.int32) * (ONE // 2) - places)
    weights: NDArray[np.int32] = np.maximum(ONE - distance, 0)
    return weights.reshape(*motion.shape[:2], WEIGHTS)


def gated_weights(window: NDArray[np.int16]) -> NDArray[np.int32]:
    """Weights (h, w, 12), `GATE_BITS`, of the network's outputs (h, w, 13), the last the gate."""
    gate = np.clip(window[..., WEIGHTS:].astype(np.int32) + ONE // 2, 0, ONE)
    return round_shift(np.clip(window[..., :WEIGHTS], -ONE, ONE) * gate, GATE_BITS)


def attend(previous: NDArray[np.int16], weights: NDArray[np.int32]) -> NDArray[np.int16]:
    """Predict a frame (8h, 8w) from the previous one by weights (h, w, 12)."""
    rows = np.ascontiguousarray(weights.transpose(2, 0, 1))
    down = _weigh(previous, rows[: 2 * RADIUS])
    along = _weigh(down.T, rows[2 * RADIUS :].transpose(0, 2, 1))
    return limit_pixels(np.ascontiguousarray(along.T))


def _weigh(frame: NDArray[np.int16], weights: NDArray[np.int32]) -> NDArray[np.int16]:
    """Add weighted differences to the neighbors along the first axis."""
    rows = frame.shape[0]
    own = frame.astype(np.int32)
    padded = np.pad(own, ((RADIUS, RADIUS), (0, 0)), mode="edge")
    total = np.zeros_like(own)
    for offset, coarse in zip(OFFSETS, weights, strict=True):
        start = RADIUS + offset
        total += (padded[start : start + rows] - own) * _interpolate(coarse)
    return saturate(own + round_shift(total, WEIGHT_BITS))


def _interpolate(coarse: NDArray[np.int32]) -> NDArray[np.int32]:
    """Interpolate (h, w), `GATE_BITS`, to (8h, 8w), `WEIGHT_BITS`."""
    fine = _stretch(_stretch(coarse).T).T
    return round_shift(fine, GATE_BITS + 8 - WEIGHT_BITS)


def _stretch(coarse: NDArray[np.int32]) -> NDArray[np.int32]:
    """Interpolate along the first axis, times 16."""
    before = np.concatenate((coarse[:1], coarse[:-1]))
    after = np.concatenate((coarse[1:], coarse[-1:]))
    fine = coarse[:, None] * NEAR[:, None]
    fine[:, : STRIDE // 2] += before[:, None] * (16 - NEAR[: STRIDE // 2, None])
    fine[:, STRIDE // 2 :] += after[:, None] * (16 - NEAR[STRIDE // 2 :, None])
    return fine.reshape(STRIDE * coarse.shape[0], coarse.shape[1])
