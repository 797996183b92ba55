"""What the decoder expects of the latents before it reads them: a mean and a scale for each.

Two kinds of latents are coded for a frame. The *side latents*, few and at a sixteenth of the
resolution, come first; what is expected of them comes from the previous frame's features alone.
They carry motion and what else the previous frame cannot tell. The *latents* of the subbands come
in two steps of a checkerboard over positions and coefficients: half of them from the features
alone, the other half knowing the first (He et al., "Checkerboard context model", CVPR 2021; mixing
the checkerboard over channels as well, as Li et al., "DCVC-DC", CVPR 2023, do, gives every latent
known neighbors within its own block too).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from edge_codec.nn.depth_unit import depth_units, silent
from edge_codec.nn.laplace import (
    Coded,
    clip_log_scale,
    code,
    code_noisily,
    laplace_bits,
    read,
    table_scale,
)
from edge_codec.nn.lifting import (
    COEFFICIENTS,
    coefficient_balance,
    coefficient_levels,
    coefficient_parity,
)
from edge_codec.nn.quality import (
    ANCHORS,
    MAX_QUALITY,
    QualityTable,
    best_step,
    bias_table,
    trade_off,
)
from edge_codec.nn.vqvae import ConvUnit, depth_to_space

SYMBOL_RANGE = 4.0
"""Symbols are clipped to this magnitude where the second step looks at them."""

START_LOG_SCALES = {
    "key": (0.0, -2.0, -3.0, -4.0),
    "inter": (-4.0, -4.5, -5.0, -5.5),
}
"""log2 of the latents' scale at the start, by level from the mean to the finest subbands."""

HEAD_GAIN = 4.0
"""log2 of a scale is this times the network's output, so that it is found sooner."""


SIDE_WEIGHT = 1e4
"""Price of a side latent's rounding: so high that it goes to the nearest integer. What an error in
motion costs is not known in pixels."""


class Expectation(nn.Module):
    """Last layer of a prior: features to mean and log2 of the scale of each latent.

    Parameters
    ----------
    features, latents : int
        Channels.
    start : Tensor, shape (latents,), float
        log2 of the scales at the start; the means start at zero.
    """

    start: Tensor

    def __init__(self, features: int, latents: int, start: Tensor) -> None:
        super().__init__()
        self.head = silent(ConvUnit(features, 2 * latents, 1, relu=False))
        self.register_buffer("start", start[None, :, None, None].clone(), persistent=False)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log2 of the scale: (n, features, h, w) to two of (n, latents, h, w)."""
        mean, log_scale = self.head(features).float().chunk(2, dim=1)
        return mean, self.start + HEAD_GAIN * log_scale


class SidePrior(nn.Module):
    """Codes the side latents, and turns them into features for everything that follows.

    Parameters
    ----------
    features : int
        Channels at an eighth of the resolution.
    latents : int
        Side latents per position at a sixteenth.
    """

    def __init__(self, features: int, latents: int) -> None:
        super().__init__()
        self.reduce = ConvUnit(features, features // 2, 3, stride=2)
        self.expect = Expectation(features // 2, latents, torch.full((latents,), -1.0))
        self.step = QualityTable(torch.zeros(ANCHORS, latents))  # log2 of the steps
        self.widen = ConvUnit(latents, 2 * features, 1)
        self.enter = ConvUnit(features // 2 + features, features, 1, relu=False)
        self.bias = bias_table(features)
        self.units = depth_units(features, 1)

    def code(self, side: Tensor, context: Tensor, quality: Tensor) -> Coded:
        """Quantize side latents (n, latents, ceil(h / 2), ceil(w / 2)) given the context.

        In training they get noise instead.
        """
        mean, log_scale = self.expect(self.reduce(context))
        side = side.float()
        if self.training:
            return code_noisily(side, mean, torch.exp2(self.step(quality)), log_scale)
        weight = side.new_full((1, 1, 1, 1), SIDE_WEIGHT)
        return code(side, mean, torch.exp2(self.step(quality)), log_scale, weight)

    def decode(self, symbols: Tensor, context: Tensor, quality: Tensor) -> Coded:
        """Undo `code` from its symbols."""
        mean, log_scale = self.expect(self.reduce(context))
        return read(symbols, mean, torch.exp2(self.step(quality)), log_scale)

    def features(self, side: Tensor, context: Tensor, quality: Tensor) -> Tensor:
        """Features (n, features, h, w) from decoded side latents and the context."""
        h, w = context.shape[-2:]
        fine = depth_to_space(self.widen(side), 2)[..., :h, :w]
        x = (self.enter(torch.cat((fine, context), dim=1)) + self.bias(quality)).relu()
        y: Tensor = self.units(x)
        return y


class MotionPrior(nn.Module):
    """What the motion of blocks costs: Laplace distributions about no motion."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.expect = Expectation(features, 2, torch.full((2,), -2.5))

    def forward(self, features: Tensor, motion: Tensor) -> Tensor:
        """Bits of half pixels (n, 2, h, w) given the features (n, features, h, w)."""
        _, log_scale = self.expect(features)
        return laplace_bits(motion, table_scale(clip_log_scale(log_scale)))


class LatentPrior(nn.Module):
    """Codes the latents of the subbands in two steps of a checkerboard.

    Parameters
    ----------
    features : int
        Channels.
    depth : int
        Units before the first step.
    kind : str
        "key" or "inter".
    """

    parity: Tensor
    balance: Tensor

    def __init__(self, features: int, depth: int, kind: str) -> None:
        super().__init__()
        start = torch.tensor(START_LOG_SCALES[kind])[coefficient_levels()]
        self.enter = ConvUnit(features + COEFFICIENTS, features, 1, relu=False)
        self.bias = bias_table(features)
        self.units = depth_units(features, depth)
        self.expect_first = Expectation(features, COEFFICIENTS, start)
        self.enter_second = ConvUnit(features + 2 * COEFFICIENTS + 1, features, 1)
        self.units_second = depth_units(features, 1)
        self.expect_second = Expectation(features, COEFFICIENTS, torch.zeros(COEFFICIENTS))
        anchors = [best_step(MAX_QUALITY * i / (ANCHORS - 1)) for i in range(ANCHORS)]
        start_step = torch.log2(torch.tensor(anchors))[:, None].expand(ANCHORS, COEFFICIENTS)
        self.step = QualityTable(start_step)  # log2 of the steps
        parity = coefficient_parity()[None, :, None, None]
        self.register_buffer("parity", parity, persistent=False)
        self.register_buffer("balance", coefficient_balance(), persistent=False)

    def steps(self, quality: Tensor) -> Tensor:
        """Quantization steps (n, 64, 1, 1) at quality indices (n,)."""
        return torch.exp2(self.step(quality))

    def code(self, latents: Tensor, features: Tensor, known: Tensor, quality: Tensor) -> Coded:
        """Quantize latents.

        Parameters
        ----------
        latents : Tensor, shape (n, 64, h, w), float
        features : Tensor, shape (n, features, h, w), float
            Of the side latents.
        known : Tensor, shape (n, 64, h, w), float
            Coefficients of the prediction.
        quality : Tensor, shape (n,), float
        """
        quantize = partial(code, latents, weight=trade_off(quality)[:, None, None, None])
        return self._in_two_steps(quantize, features, known, quality)

    def decode(self, symbols: Tensor, features: Tensor, known: Tensor, quality: Tensor) -> Coded:
        """Undo `code` from its symbols; the second half's are not looked at before the first's."""
        return self._in_two_steps(partial(read, symbols), features, known, quality)

    def _in_two_steps(
        self,
        take: Callable[..., Coded],
        features: Tensor,
        known: Tensor,
        quality: Tensor,
    ) -> Coded:
        """Quantize or read by `take`, given the mean, the step and log2 of the scale."""
        step = self.steps(quality)
        x = self.enter(torch.cat((features, known * self.balance), dim=1)) + self.bias(quality)
        x = self.units(x.relu())
        mean, log_scale = self.expect_first(x)
        first = take(mean=mean, step=step, log_scale=log_scale)
        mask, board = self._checkerboard(known)
        # Integers to look at, without a gradient: one over the step, it would grow from frame to
        # frame on its way back.
        known_symbols = torch.where(mask, first.symbols.detach(), 0.0)
        symbols = known_symbols.clamp(-SYMBOL_RANGE, SYMBOL_RANGE)
        change = known_symbols * step * self.balance
        x = self.enter_second(torch.cat((x, symbols, change, board), dim=1))
        more_mean, more_log_scale = self.expect_second(self.units_second(x))
        second = take(mean=mean + more_mean, step=step, log_scale=log_scale + more_log_scale)
        return first.where(mask, second)

    def _checkerboard(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Which latents come first, (1, 64, h, w) bool, and the parity of positions as floats."""
        h, w = latents.shape[-2:]
        row = torch.arange(h, device=latents.device)[:, None]
        column = torch.arange(w, device=latents.device)
        board = ((row + column) % 2)[None, None]
        mask = (self.parity + board) % 2 == 0
        return mask, board.to(latents.dtype).expand(len(latents), 1, h, w)
