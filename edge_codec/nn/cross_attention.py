"""Cross-attention in three cheap forms, each without softmax.

* `SubbandAttention` lets the subbands of a frame look at each other and at those of the frame's
  prediction, position by position: the part of the encoder that weighs what matters.
* `window_errors` compares the current frame with the previous decoded one in a window of
  displacements: the scores of a windowed attention whose queries and keys are pixels. Only the
  encoder has the current frame, so it sends the best displacement of each block (`find_motion`),
  and what else the scores tell as side latents.
* `attend_window` is the value side of that attention in the decoder: every pixel of the prediction
  is a weighted sum of the previous decoded frame's pixels in a window around it. The weights come
  from the displacement and the features, are separable and sum to one, so that weights of zero
  copy the frame exactly. With them a block moves by fractions of a pixel, sharpens or blurs, as
  adaptive separable convolution does (Niklaus et al., "Video frame interpolation via adaptive
  separable convolution", ICCV 2017).

The first two run in the encoder alone, where floats may decide. The third is sums of products of
integers once the weights are rounded to fractions of a power of two.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own convention)
from torch import Tensor, nn

from edge_codec.nn.lifting import BANDS, COEFFICIENTS, STRIDE

RADIUS = 3
"""Pixels that a block may move between frames, along each axis."""

SCORES = (2 * RADIUS + 1) ** 2
WEIGHTS = 4 * RADIUS
"""Free weights per position: 2 * RADIUS along columns, then as many along rows."""

HEAD = 8  # length of a query

MOVED_BITS = 6
"""What a block that moves costs, roughly, besides a bit per pixel of displacement."""


class SubbandAttention(nn.Module):
    """Subbands of a frame attend to its own subbands and to those of a reference.

    The weights are ReLU of the products of queries and keys over one plus their sum, as linear
    attention uses (Cai et al., "EfficientViT", ICCV 2023): no exponential.
    """

    mask: Tensor

    def __init__(self, outputs: int) -> None:
        super().__init__()
        bands = len(BANDS)
        width = bands * HEAD
        self.query = nn.Conv2d(COEFFICIENTS, width, 1)
        self.own = nn.Conv2d(COEFFICIENTS, 2 * width, 1)
        self.reference = nn.Conv2d(COEFFICIENTS, 2 * width, 1)
        self.project = nn.Conv2d(width, outputs, 1)
        owner = torch.arange(bands).repeat_interleave(torch.tensor(BANDS))
        mask = torch.arange(bands).repeat_interleave(HEAD)[:, None] == owner
        self.register_buffer("mask", mask.float()[:, :, None, None], persistent=False)

    def forward(self, coefficients: Tensor, reference: Tensor) -> Tensor:
        """Apply to two sets of coefficients (n, 64, h, w): gives (n, outputs, h, w)."""
        query = self._per_band(self.query, coefficients, 1)
        keys, values = self._per_band(self.own, coefficients, 2).chunk(2, dim=2)
        more_keys, more_values = self._per_band(self.reference, reference, 2).chunk(2, dim=2)
        keys, values = torch.cat((keys, more_keys), 1), torch.cat((values, more_values), 1)
        weights = torch.einsum("nqdhw,nkdhw->nqkhw", query, keys).relu()
        weights = weights / (1.0 + weights.sum(dim=2, keepdim=True))
        mixed = torch.einsum("nqkhw,nkdhw->nqdhw", weights, values)
        y: Tensor = self.project(mixed.flatten(1, 2))
        return y

    def _per_band(self, layer: nn.Conv2d, x: Tensor, parts: int) -> Tensor:
        """Embed each subband by itself: (n, 64, h, w) to (n, bands, parts * HEAD, h, w)."""
        mask = self.mask.repeat(parts, 1, 1, 1)
        y = F.conv2d(x, layer.weight * mask, layer.bias)
        n, _, h, w = y.shape
        y = y.reshape(n, parts, len(BANDS), HEAD, h, w).transpose(1, 2)
        return y.reshape(n, len(BANDS), parts * HEAD, h, w)


@torch.no_grad()
def window_errors(current: Tensor, previous: Tensor) -> Tensor:
    """Compare each block with the previous frame at each displacement of the window.

    Parameters
    ----------
    current, previous : Tensor, shape (n, 1, 8h, 8w), float

    Returns
    -------
    Tensor, shape (n, SCORES, h, w), float
        Mean squared error, displacement by displacement, row offset first; half of the weight lies
        on the block itself, the rest on it and its eight neighbors.
    """
    rows, columns = current.shape[-2:]
    padded = F.pad(previous, (RADIUS,) * 4, mode="replicate")
    errors = []
    for row in range(2 * RADIUS + 1):
        for column in range(2 * RADIUS + 1):
            moved = padded[..., row : row + rows, column : column + columns]
            errors.append(F.avg_pool2d((current - moved).square(), STRIDE))
    error = torch.cat(errors, dim=1)
    return 0.5 * error + 0.5 * F.avg_pool2d(error, 3, 1, 1, count_include_pad=False)


def match_scores(errors: Tensor) -> Tensor:
    """Turn errors e of `window_errors` into scores (e0 - e) / (e0 + e), same shape.

    e0 is the error of no displacement: -1..1, positive where a displacement fits better. The middle
    one holds sqrt(e0) instead.
    """
    middle = SCORES // 2
    still = errors[:, middle : middle + 1]
    scores = (still - errors) / (still + errors + 1e-6)
    scores[:, middle] = still[:, 0].sqrt()
    return scores


@torch.no_grad()
def find_motion(errors: Tensor, price: Tensor) -> Tensor:
    """Choose each block's displacement by its error and its cost.

    Parameters
    ----------
    errors : Tensor, shape (n, SCORES, h, w), float
        Of `window_errors`.
    price : Tensor, shape (n, 1, 1, 1), float
        Bits that a unit of squared error is worth.

    Returns
    -------
    Tensor, shape (n, 2, h, w), float
        Integers: half pixels down and right to what the block shows in the previous frame, the
        second half of a pixel by a parabola through the errors around the best one.
    """
    n, _, h, w = errors.shape
    side = 2 * RADIUS + 1
    axis = torch.arange(-RADIUS, RADIUS + 1, device=errors.device)
    length = (axis[:, None].abs() + axis.abs()).flatten()
    bits = torch.where(length > 0, MOVED_BITS + length, 0)[:, None, None]
    best = (price * STRIDE * STRIDE * errors + bits).argmin(dim=1)
    row, column = best // side, best % side
    grid = errors.reshape(n, side, side, h, w)
    down = _half_pixel(_along(grid, column, 2), row)
    right = _half_pixel(_along(grid, row, 1), column)
    moved = (best != SCORES // 2)[:, None]
    vector = torch.stack((2 * (row - RADIUS) + down, 2 * (column - RADIUS) + right), dim=1)
    return vector.float() * moved


def motion_weights(motion: Tensor) -> Tensor:
    """Weights of `attend_window` that sample the previous frame linearly at a displacement.

    Takes half pixels (n, 2, h, w), gives (n, WEIGHTS, h, w).
    """
    offsets = [offset for offset in range(-RADIUS, RADIUS + 1) if offset]
    places = torch.tensor(offsets, device=motion.device, dtype=torch.float32)[:, None, None]
    hats = [(1.0 - (0.5 * motion[:, i : i + 1] - places).abs()).relu() for i in (0, 1)]
    return torch.cat(hats, dim=1)


def _along(grid: Tensor, index: Tensor, dim: int) -> Tensor:
    """Take a row or column of displacements per block: (n, side, side, h, w) to (n, side, h, w)."""
    shape = list(grid.shape)
    shape[dim] = 1
    return grid.gather(dim, index[:, None, None].expand(shape)).squeeze(dim)


def _half_pixel(errors: Tensor, index: Tensor) -> Tensor:
    """Refine the place of the least error: -1, 0 or 1 half pixels, 0 at the window's ends."""
    inner = index.clamp(1, 2 * RADIUS - 1)
    before, here, after = (errors.gather(1, (inner + d)[:, None])[:, 0] for d in (-1, 0, 1))
    curvature = (before - 2 * here + after).clamp_min(1e-12)
    shift = (before - after) / curvature  # in half pixels
    return shift.round().clamp(-1, 1).long() * (inner == index)


def attend_window(previous: Tensor, weights: Tensor) -> Tensor:
    """Predict a frame from the previous one by windowed, separable weights.

    Parameters
    ----------
    previous : Tensor, shape (n, 1, 8h, 8w), float
    weights : Tensor, shape (n, WEIGHTS, h, w), float
        Of the neighbors at -RADIUS..-1, 1..RADIUS down columns, then along rows; the pixel itself
        has one minus their sum. Interpolated bilinearly between the middles of blocks.

    Returns
    -------
    Tensor, shape (n, 1, 8h, 8w), float
        The frame itself where the weights are zero.
    """
    fine = F.interpolate(weights, scale_factor=STRIDE, mode="bilinear", align_corners=False)
    down, along = fine.chunk(2, dim=1)
    return _weigh(_weigh(previous, down, -2), along, -1)


def _weigh(frame: Tensor, weights: Tensor, dim: int) -> Tensor:
    """Add weighted differences to the neighbors along one axis."""
    length = frame.shape[dim]
    margin = (0, 0, RADIUS, RADIUS) if dim == -2 else (RADIUS, RADIUS, 0, 0)
    padded = F.pad(frame, margin, mode="replicate")
    offsets = [offset for offset in range(2 * RADIUS + 1) if offset != RADIUS]
    neighbors = torch.cat([padded.narrow(dim, offset, length) for offset in offsets], dim=1)
    return frame + ((neighbors - frame) * weights).sum(dim=1, keepdim=True)
