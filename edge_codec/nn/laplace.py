"""Quantized latents and what they cost: Laplace distributions with a table of scales.

A latent y is coded as the integer r nearest to (y - mean) / step, or one nearer to zero where that
is cheaper, and comes back as r * step + mean. The probability of r is that of a zero-mean Laplace
variable in the interval [r - 1/2, r + 1/2]. Its scale is one of `SCALES` values, spaced evenly in
their logarithm, so that the entropy coder needs one table of frequencies for each and an integer
index per symbol.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from edge_codec.nn.quality import bounded

SCALES = 64
"""Tables of the entropy coder."""

SMALLEST_LOG_SCALE = -4.75
"""log2 of the first scale, in steps: a zero then costs 2e-6 bits."""

LARGEST_LOG_SCALE = 6.5
"""log2 of the last scale, in steps."""

MAX_SHIFT = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Coded:
    """Latents as the decoder has them.

    Attributes
    ----------
    symbols : Tensor, shape (n, c, h, w), float
        The integers that are entropy coded.
    latents : Tensor, same shape, float
        symbols * step + mean.
    bits : Tensor, same shape, float
        Cost of each symbol.
    """

    symbols: Tensor
    latents: Tensor
    bits: Tensor

    def where(self, mask: Tensor, other: Coded) -> Coded:
        """Take these latents where `mask` is true, and `other` elsewhere."""
        return Coded(
            torch.where(mask, self.symbols, other.symbols),
            torch.where(mask, self.latents, other.latents),
            torch.where(mask, self.bits, other.bits),
        )


def clip_log_scale(log_scale: Tensor) -> Tensor:
    """Keep log2 of a scale within the table's; the gradient passes unless it leads outside."""
    return bounded(log_scale, SMALLEST_LOG_SCALE, LARGEST_LOG_SCALE)


def table_scale(log_scale: Tensor) -> Tensor:
    """Round log2 of a scale to the table's nearest entry; the gradient passes."""
    interval = (LARGEST_LOG_SCALE - SMALLEST_LOG_SCALE) / (SCALES - 1)
    index = ((log_scale - SMALLEST_LOG_SCALE) / interval).round().clamp(0, SCALES - 1)
    rounded = SMALLEST_LOG_SCALE + interval * index
    return torch.exp2(rounded.detach() + _only_gradient(log_scale))


def _only_gradient(x: Tensor) -> Tensor:
    """Zero that has the gradient of `x`: added to a rounded value it changes no bit of it."""
    return x - x.detach()


def laplace_bits(symbols: Tensor, scale: Tensor) -> Tensor:
    """Cost of integers under zero-mean Laplace distributions.

    Parameters
    ----------
    symbols : Tensor, float
        Integers.
    scale : Tensor, float, same shape
        Mean magnitude of the variable, in steps, of `SCALES`' range.

    Returns
    -------
    Tensor, float
        Bits: -log2 of P(0) = 1 - exp(-1 / (2 b)), P(r) = exp(-(|r| - 1/2) / b) (1 - exp(-1/b)) / 2.
    """
    size = symbols.abs()
    rate = 1.0 / scale
    zero = -torch.log(-torch.expm1(-0.5 * rate))
    other = (size - 0.5) * rate - torch.log(-0.5 * torch.expm1(-rate))
    return torch.where(size < 0.5, zero, other) / math.log(2.0)


def noisy_bits(values: Tensor, scale: Tensor) -> Tensor:
    """Cost of values between the integers: `laplace_bits` continued to all real numbers.

    -log2 of the probability of [x - 1/2, x + 1/2], which is the density of the Laplace variable
    after uniform noise of width one (Balle et al., "End-to-end optimized image compression", ICLR
    2017), so that also values that would be rounded to zero feel what they would cost.
    """
    size = values.abs()
    rate = 1.0 / scale
    inner = size.clamp(max=0.5)
    above, below = torch.exp((inner - 0.5) * rate), torch.exp((-inner - 0.5) * rate)
    zero = -torch.log1p(-0.5 * (above + below))
    other = (size - 0.5) * rate - torch.log(-0.5 * torch.expm1(-rate))
    return torch.where(size < 0.5, zero, other) / math.log(2.0)


@torch.no_grad()
def choose_symbols(value: Tensor, scale: Tensor, weight: Tensor) -> Tensor:
    """Round with the cost in mind: the best of the two integers around a value, and zero.

    Parameters
    ----------
    value : Tensor, float
        (y - mean) / step.
    scale : Tensor, float, same shape
        Of the Laplace distribution, in steps.
    weight : Tensor, float, broadcast
        Bits that a squared error of one step is worth: the frame's trade-off times step squared.

    Returns
    -------
    Tensor, float
        Integers.

    Notes
    -----
    From |r| to |r| + 1 costs 1 / (b ln 2) bits for |r| > 0 and saves weight (2 a - 2 |r| - 1), so
    the rounding's threshold moves up by half of cost over weight, here by no more than half a step.
    """
    size = value.abs()
    shift = (0.5 / math.log(2.0)) / (scale * weight).clamp_min(1e-9)
    rounded = (size + 0.5 - shift.clamp(max=MAX_SHIFT)).floor().clamp_min(1.0)
    saved = weight * (size.square() - (size - rounded).square())
    cost = laplace_bits(rounded, scale) - laplace_bits(torch.zeros_like(rounded), scale)
    return torch.where(saved > cost, rounded, torch.zeros_like(rounded)) * value.sign()


def code(value: Tensor, mean: Tensor, step: Tensor, log_scale: Tensor, weight: Tensor) -> Coded:
    """Quantize latents around their means.

    Parameters
    ----------
    value, mean : Tensor, shape (n, c, h, w), float
        Latents and what the decoder expects.
    step : Tensor, shape (n, c, 1, 1), float
    log_scale : Tensor, shape (n, c, h, w), float
        log2 of the scale in the units of the latents, clipped and rounded here.
    weight : Tensor, shape (n, 1, 1, 1), float
        The frame's trade-off: bits that a squared error of one is worth.

    Returns
    -------
    Coded
    """
    scale = table_scale(clip_log_scale(log_scale - torch.log2(step)))
    exact = (value - mean) / step
    symbols = choose_symbols(exact.detach(), scale.detach(), weight * step.detach().square())
    # A symbol of zero decodes to the mean, whatever the value: the mean feels the whole error and
    # the value none of it. Any other follows the value. To pretend that all do lets a gradient
    # through everything that was skipped, and it grows tenfold with every frame it goes back.
    decoded = symbols + (symbols != 0) * _only_gradient(exact)
    symbols = symbols + _only_gradient(exact)
    return Coded(symbols, decoded * step + mean, laplace_bits(symbols, scale))


def code_noisily(value: Tensor, mean: Tensor, step: Tensor, log_scale: Tensor) -> Coded:
    """Stand in for `code` in training: add noise instead of rounding, so that weak latents learn.

    Rounding hides latents below half a step from all that follows, and those that nobody uses yet
    stay there.
    """
    scale = table_scale(clip_log_scale(log_scale - torch.log2(step)))
    noise = torch.rand_like(value) - 0.5
    symbols = (value - mean) / step + noise
    return Coded(symbols, symbols * step + mean, noisy_bits(symbols, scale))


def read(symbols: Tensor, mean: Tensor, step: Tensor, log_scale: Tensor) -> Coded:
    """Rebuild latents from symbols that were read from a stream; see `code`."""
    scale = table_scale(clip_log_scale(log_scale - torch.log2(step)))
    return Coded(symbols, symbols * step + mean, laplace_bits(symbols, scale))
