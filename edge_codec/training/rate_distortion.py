"""The objective: bits per pixel plus a trade-off times the weighted squared error.

Each frame of a group has its own quality index: the group's plus an offset. The key frame, which
all others inherit from, gets more, and the frames between get more or less in a cycle of four, as
video encoders do and as Li et al. ("Neural video compression with diverse contexts", CVPR 2023)
train for. The loss is over the whole group with gradients through all its frames, so that a frame
also pays for what it leaves to its successors.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from edge_codec.nn.dwt_cal import Rollout
from edge_codec.nn.quality import MAX_QUALITY, trade_off

BALANCE_QUALITY = 24.0
BALANCE_POWER = 0.6


@dataclass(frozen=True, slots=True)
class GroupOffsets:
    """Offsets of the quality index within a group of frames.

    Attributes
    ----------
    key : float
        Of the key frame.
    cycle : tuple of float
        Of frames 1, 2, ... after it, repeated.
    """

    key: float = 8.0
    cycle: tuple[float, ...] = (-2.0, 0.0, -2.0, 2.0)

    def quality(self, base: Tensor, frames: int) -> Tensor:
        """Give the frames (n, frames) of groups with indices `base` (n,) theirs, within 0..63."""
        offsets = [self.key] + [self.cycle[i % len(self.cycle)] for i in range(frames - 1)]
        every = torch.tensor(offsets, dtype=base.dtype, device=base.device)
        return (base[:, None] + every).clamp(0.0, float(MAX_QUALITY))


@dataclass(frozen=True, slots=True, eq=False)
class GroupLoss:
    """Loss of a batch of groups, and what it is made of.

    Attributes
    ----------
    total : Tensor, scalar
        What to minimize.
    rate : Tensor, shape (n, t)
        Bits per pixel.
    error : Tensor, shape (n, t)
        Mean squared error, weighted, in squared units of the window.
    """

    total: Tensor
    rate: Tensor
    error: Tensor


def group_loss(
    rollout: Rollout,
    frames: Tensor,
    weights: Tensor,
    base: Tensor,
    quality: Tensor,
    prediction_weight: float,
    side_weight: float,
) -> GroupLoss:
    """Compare decoded groups with their originals.

    Parameters
    ----------
    rollout : Rollout
    frames : Tensor, shape (n, t, rows, columns), float
    weights : Tensor, shape (n, 1, rows, columns), float
        Of squared errors.
    base : Tensor, shape (n,), float
        The groups' quality indices.
    quality : Tensor, shape (n, t), float
        The frames' indices.
    prediction_weight : float
        Share of the prediction's error that counts as well, so that motion is learned directly.
    side_weight : float
        Share of the side latents' bits that counts: below 1 they are used before they pay.

    Returns
    -------
    GroupLoss

    Notes
    -----
    Bits grow about as the 0.6th power of the trade-off. Dividing by that power lets all rates have
    a like say in the mean.
    """
    rate = rollout.bits / frames[0, 0].numel()
    error = _weighted(rollout.decoded - frames, weights)
    price = trade_off(quality)
    cost = rate + price * error
    cost = cost - (1.0 - side_weight) * rollout.side_bits / frames[0, 0].numel()
    if prediction_weight > 0 and frames.shape[1] > 1:
        ahead = _weighted(rollout.prediction[:, 1:] - frames[:, 1:], weights)
        guide = prediction_weight * price[:, 1:] * ahead
        cost = torch.cat((cost[:, :1], cost[:, 1:] + guide), dim=1)
    balance = (trade_off(base) / trade_off(torch.full_like(base, BALANCE_QUALITY))) ** BALANCE_POWER
    return GroupLoss((cost / balance[:, None]).mean(), rate, error)


def _weighted(difference: Tensor, weights: Tensor) -> Tensor:
    return (difference.square() * weights).mean(dim=(2, 3))
