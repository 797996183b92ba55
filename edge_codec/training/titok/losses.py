"""The loss of the tokenizer, from pixels to what a clinician measures.

Each term is one number a frame; its weight is in the configuration, and a term of weight 0 is not
computed. All squared and absolute errors are in units of the window, within the frame, and weigh
more in the heart.

===============  ==================================================================================
pixel_squared    mean squared error
pixel_absolute   mean absolute error
structural       1 - SSIM (Wang et al., 2004), windows of 7x7
perceptual       distance of the segmentation encoder's features (`feature_distance`)
segmentation     Kullback-Leibler divergence of the classes seen in the decoded from those seen in
                 the original frame, summed over classes
temporal         squared error of the change since the frame before: flicker, and motion lost
periodicity      squared difference to the decoded frame a whole heart cycle before, which showed
                 the same original frame
clinical         relative error of the areas of RV, myocardium and LV, which add up to the volumes
consistency      squared distance of the decoded frame's latents to the frame's: coding a decoded
                 frame once more changes nothing
commitment       squared distance of the latents to their codes
entropy          how far the codes are from being used alike, and each latent from a clear choice,
                 in parts of log(codes) (Yu et al., 2024, "Language model beats diffusion", eq. 5)
===============  ==================================================================================

Frames may weigh more the worse they came out (`quality`): then bits, of which all frames have the
same number, are spent where the error is largest.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own convention)
from torch import Tensor

from edge_codec.errors import SpecError
from edge_codec.nn.titok import Coded
from edge_codec.training.titok.config import LossWeights
from edge_codec.training.titok.judge import BRIGHTEST, Judge, Judgment, feature_distance

HEART_MARGIN = 9
"""Side of the square of pixels around the heart that weigh like it."""

LEAST_AREA = 0.01
"""Of the canvas, added to an area before an error is divided by it: small areas are uncertain."""

TEMPERATURE = 0.05
"""Of the soft choice of codes: neighbors among 4,096 codes of length 12 differ by about as much."""

QUALITY_RANGE = (0.25, 4.0)
SSIM_WINDOW = 7


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """One coded frame of every stream with what its loss depends on.

    Attributes
    ----------
    frame, inside, heart : Tensor, shape (n, 1, side, side)
        The original, where the canvas shows it, and where its heart is.
    coded : Coded
    change : Tensor, shape (n, 1, side, side)
        Of the original since the frame before.
    past_frame : Tensor, shape (n, 1, side, side)
        The decoded frame before.
    known : Tensor, shape (n,)
        1 where there was a frame before.
    cycle_frame : Tensor, shape (n, 1, side, side)
        The decoded frame a whole cycle before.
    cycle_known : Tensor, shape (n,)
        1 where there was one.
    vectors : Tensor, shape (codes, dim)
        The codebook.
    judged : Judgment or None
        Of the original.
    again : callable
        Gives the latents of a frame in the frame's place.
    """

    frame: Tensor
    inside: Tensor
    heart: Tensor
    coded: Coded
    change: Tensor
    past_frame: Tensor
    known: Tensor
    cycle_frame: Tensor
    cycle_known: Tensor
    vectors: Tensor
    judged: Judgment | None
    again: Callable[[Tensor], Tensor]


class HierarchicalLoss:
    """Sum of the terms that have a weight.

    Parameters
    ----------
    weights : LossWeights
    judge : Judge, optional

    Raises
    ------
    SpecError
        If a term needs the judge and there is none.
    """

    def __init__(self, weights: LossWeights, judge: Judge | None) -> None:
        if weights.need_judge and judge is None:
            raise SpecError(
                "the perceptual, segmentation and clinical terms look through the segmentation "
                "network; name one by --segmenter, or give them the weight 0"
            )
        self.weights = weights
        self._judge = judge

    def __call__(self, seen: Seen) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss.

        Returns
        -------
        total : Tensor, scalar
        terms : dict of str to Tensor
            Mean of each term over the frames, without its weight and without gradient.
        """
        pixels = pixel_weights(seen.inside, seen.heart, self.weights.heart)
        terms = {**self._of_pixels(seen, pixels), **self._of_anatomy(seen, pixels)}
        terms.update(self._of_tokens(seen))
        shares = _frame_shares(seen, self.weights.quality)
        total = sum(
            (getattr(self.weights, name) * (shares * term).mean() for name, term in terms.items()),
            start=seen.frame.new_zeros(()),
        )
        return total, {name: term.detach().mean() for name, term in terms.items()}

    def _of_pixels(self, seen: Seen, pixels: Tensor) -> dict[str, Tensor]:
        weights, terms = self.weights, {}
        error = seen.coded.frame - seen.frame
        if weights.pixel_squared > 0:
            terms["pixel_squared"] = _mean(pixels * error.square())
        if weights.pixel_absolute > 0:
            terms["pixel_absolute"] = _mean(seen.inside * error.abs())
        if weights.structural > 0:
            terms["structural"] = 1 - structural_similarity(seen.coded.frame, seen.frame)
        if weights.temporal > 0:
            flicker = seen.coded.frame - seen.past_frame - seen.change
            terms["temporal"] = seen.known * _mean(pixels * flicker.square())
        if weights.periodicity > 0:
            apart = seen.coded.frame - seen.cycle_frame
            terms["periodicity"] = seen.cycle_known * _mean(pixels * apart.square())
        return terms

    def _of_anatomy(self, seen: Seen, pixels: Tensor) -> dict[str, Tensor]:
        weights, terms = self.weights, {}
        if not weights.need_judge or self._judge is None or seen.judged is None:
            return {}
        original, decoded = seen.judged, self._judge(seen.coded.frame)
        if weights.perceptual > 0:
            terms["perceptual"] = feature_distance(decoded.maps, original.maps)
        if weights.segmentation > 0:
            expected, found = (j.logits.log_softmax(1) for j in (original, decoded))
            divergence = F.kl_div(found, expected, reduction="none", log_target=True)
            terms["segmentation"] = _mean(pixels * divergence.sum(1, keepdim=True))
        if weights.clinical > 0:
            terms["clinical"] = _area_error(decoded, original, seen.inside)
        return terms

    def _of_tokens(self, seen: Seen) -> dict[str, Tensor]:
        weights, coded, terms = self.weights, seen.coded, {}
        if weights.consistency > 0:
            again = seen.again(coded.frame.clamp(0.0, BRIGHTEST))
            terms["consistency"] = _apart(again, coded.latents.detach())
        if coded.tokens is None:  # noise in the quantizer's place: there are no codes yet
            return terms
        if weights.commitment > 0:
            terms["commitment"] = _apart(coded.latents, coded.codes.detach())
        if weights.entropy > 0:
            terms["entropy"] = usage_penalty(coded.latents, seen.vectors)
        return terms


def pixel_weights(inside: Tensor, heart: Tensor, extra: float) -> Tensor:
    """Weights of the pixels (n, 1, side, side): their mean over all is 1, outside is 0."""
    near = F.max_pool2d(heart, HEART_MARGIN, 1, HEART_MARGIN // 2)
    weights = inside * (1 + extra * near)
    return weights / weights.mean()


def structural_similarity(first: Tensor, second: Tensor) -> Tensor:
    """Mean SSIM of frames where 0..1.33 are the values, shape (n,), as `metrics.image.ssim`."""
    c1, c2 = ((k * BRIGHTEST) ** 2 for k in (0.01, 0.03))
    unbias = SSIM_WINDOW**2 / (SSIM_WINDOW**2 - 1)
    planes = torch.cat([first, second, first * first, second * second, first * second], 1)
    mx, my, xx, yy, xy = F.avg_pool2d(planes, SSIM_WINDOW, 1).chunk(5, 1)
    variances = unbias * (xx - mx * mx + yy - my * my)
    covariance = unbias * (xy - mx * my)
    similarity = ((2 * mx * my + c1) * (2 * covariance + c2)) / (
        (mx * mx + my * my + c1) * (variances + c2)
    )
    return _mean(similarity)


def usage_penalty(latents: Tensor, vectors: Tensor) -> Tensor:
    """Entropy of each latent's soft choice minus that of the mean choice, in parts of log(codes).

    Between -1, every code used alike and every choice clear, and about 0.

    Parameters
    ----------
    latents : Tensor, shape (n, tokens, dim), of length 1
    vectors : Tensor, shape (codes, dim), of length 1

    Returns
    -------
    Tensor, shape (n,)
        The entropy of the mean choice is over all frames together.
    """
    choice = ((latents @ vectors.T) / TEMPERATURE).softmax(2)
    each = -torch.special.xlogy(choice, choice).sum(2).mean(1)
    mean = choice.mean((0, 1))
    together = -torch.special.xlogy(mean, mean).sum()
    penalty: Tensor = (each - together) / math.log(len(vectors))
    return penalty


def _mean(plane: Tensor) -> Tensor:
    """Mean of each frame."""
    mean: Tensor = plane.mean((1, 2, 3))
    return mean


def _apart(first: Tensor, second: Tensor) -> Tensor:
    """Mean squared distance of each frame's latents."""
    distance: Tensor = (first - second).square().sum(2).mean(1)
    return distance


def _area_error(decoded: Judgment, original: Judgment, inside: Tensor) -> Tensor:
    """Mean relative error of the heart's areas, shape (n,)."""
    found, expected = (_mean_classes(one, inside) for one in (decoded, original))
    return ((found - expected).abs() / (expected + LEAST_AREA)).mean(1)


def _mean_classes(judgment: Judgment, inside: Tensor) -> Tensor:
    """Share of the canvas that is RV, myocardium and LV, shape (n, 3)."""
    return (judgment.probabilities[:, 1:] * inside).mean((2, 3))


def _frame_shares(seen: Seen, power: float) -> Tensor:
    """Weights of the frames, of mean 1: larger where the error is, shape (n,)."""
    error = _mean(seen.inside * (seen.coded.frame.detach() - seen.frame).square())
    shares = (error / error.mean().clamp_min(1e-12)).clamp(*QUALITY_RANGE) ** power
    return shares / shares.mean()
