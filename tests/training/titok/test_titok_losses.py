"""Each term of the loss measures what it says, and only if it has a weight."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402, N812

from edge_codec.errors import SpecError  # noqa: E402
from edge_codec.metrics.image import ssim  # noqa: E402
from edge_codec.nn.segmentation import SegmentationConfig, SegmentationNetwork  # noqa: E402
from edge_codec.nn.titok import Coded  # noqa: E402
from edge_codec.training.titok.config import LossWeights  # noqa: E402
from edge_codec.training.titok.judge import BRIGHTEST, Judge, feature_distance  # noqa: E402
from edge_codec.training.titok.losses import (  # noqa: E402
    LEAST_AREA,
    HierarchicalLoss,
    Seen,
    pixel_weights,
    structural_similarity,
    usage_penalty,
)

SIDE = 32


@pytest.fixture
def judge() -> Judge:
    torch.manual_seed(4)
    return Judge(SegmentationNetwork(SegmentationConfig((4, 4, 4, 4))))


def seen(judge: Judge | None = None, decoded: Any = None, **changes: Any) -> Seen:
    torch.manual_seed(0)
    frame = torch.rand(2, 1, SIDE, SIDE)
    painted = torch.rand(2, 1, SIDE, SIDE) if decoded is None else decoded(frame)
    latents = F.normalize(torch.randn(2, 3, 4), dim=2).requires_grad_()
    codes = F.normalize(torch.randn(2, 3, 4), dim=2)
    coded = Coded(painted, latents, codes, torch.zeros(2, 3, dtype=torch.int64), codes.sum())
    values = Seen(
        frame=frame, inside=torch.ones_like(frame), heart=torch.zeros_like(frame), coded=coded,
        change=torch.zeros_like(frame), past_frame=frame, known=torch.ones(2),
        cycle_frame=frame + 0.5, cycle_known=torch.tensor([1.0, 0.0]),
        vectors=F.normalize(torch.randn(16, 4), dim=1),
        judged=None if judge is None else judge(frame), again=lambda x: latents.detach() + 0.5,
    )  # fmt: skip
    return dataclasses.replace(values, **changes)


def term(name: str, given: Seen, judge: Judge | None = None, **weights: float) -> float:
    total, terms = HierarchicalLoss(LossWeights(**{name: 2.0}, **weights), judge)(given)
    assert list(terms) == [name]
    if not weights:
        assert float(total.detach()) == pytest.approx(2 * float(terms[name]), rel=1e-5)
    return float(terms[name])


def brighter(frame: torch.Tensor) -> torch.Tensor:
    return frame + 0.1


def test_pixel_terms_are_mean_errors() -> None:
    assert term("pixel_squared", seen(decoded=brighter)) == pytest.approx(0.01, rel=1e-4)
    assert term("pixel_absolute", seen(decoded=brighter)) == pytest.approx(0.1, rel=1e-4)


def test_the_heart_weighs_more_and_the_border_nothing() -> None:
    inside, heart = torch.ones(1, 1, SIDE, SIDE), torch.zeros(1, 1, SIDE, SIDE)
    inside[..., :8] = 0
    heart[..., 16, 20] = 1
    weights = pixel_weights(inside, heart, 3.0)[0, 0]
    assert float(weights.mean()) == pytest.approx(1.0, rel=1e-5)
    assert float(weights[:, :8].max()) == 0.0
    assert float(weights[16, 20] / weights[0, 31]) == pytest.approx(4.0, rel=1e-5)
    # A square of 9x9 around the heart counts like it.
    assert float(weights[12, 20]) == float(weights[16, 24]) == float(weights[16, 20])
    assert float(weights[11, 20]) == float(weights[0, 31])


def test_similarity_is_that_of_the_metrics() -> None:
    given = seen()
    expected = [
        ssim(a[0].numpy(), b[0].numpy(), BRIGHTEST)
        for a, b in zip(given.coded.frame, given.frame, strict=True)
    ]
    found = structural_similarity(given.coded.frame, given.frame)
    assert found.tolist() == pytest.approx(expected, abs=1e-4)
    assert term("structural", given) == pytest.approx(1 - np.mean(expected), abs=1e-4)


def test_temporal_term_sees_flicker_and_not_a_constant_error() -> None:
    steady = seen(decoded=brighter)
    steady = dataclasses.replace(steady, past_frame=steady.frame + 0.1)
    assert term("temporal", steady) == pytest.approx(0.0, abs=1e-8)
    flicker = dataclasses.replace(steady, past_frame=steady.frame - 0.1)
    assert term("temporal", flicker) == pytest.approx(0.04, rel=1e-4)
    half = dataclasses.replace(flicker, known=torch.tensor([1.0, 0.0]))
    assert term("temporal", half) == pytest.approx(0.02, rel=1e-4)
    moving = dataclasses.replace(flicker, change=torch.full_like(flicker.frame, 0.2))
    assert term("temporal", moving) == pytest.approx(0.0, abs=1e-8)


def test_periodicity_compares_with_the_cycle_before_where_there_was_one() -> None:
    assert term("periodicity", seen(decoded=lambda x: x)) == pytest.approx(0.125, rel=1e-4)


def test_terms_of_the_judge_are_zero_for_equal_frames_and_pull_towards_them(judge: Judge) -> None:
    for name in ("perceptual", "segmentation", "clinical"):
        same = seen(judge, decoded=lambda x: x)
        assert term(name, same, judge) == pytest.approx(0.0, abs=1e-6), name
        painted = torch.rand(2, 1, SIDE, SIDE).requires_grad_()
        given = seen(judge, decoded=lambda _, painted=painted: painted)
        total, _ = HierarchicalLoss(LossWeights(**{name: 1.0}), judge)(given)
        total.backward()
        assert float(total.detach()) > 0, name
        assert painted.grad is not None
        assert float(painted.grad.abs().sum()) > 0, name


def test_segmentation_term_is_the_divergence(judge: Judge) -> None:
    given = seen(judge)
    expected, found = (judge(x).probabilities for x in (given.frame, given.coded.frame))
    divergence = (expected * (expected.log() - found.log())).sum(1).mean()
    assert term("segmentation", given, judge) == pytest.approx(float(divergence), rel=1e-3)


def test_clinical_term_is_the_relative_error_of_areas(judge: Judge) -> None:
    given = seen(judge)
    expected, found = (
        judge(x).probabilities[:, 1:].mean((2, 3)) for x in (given.frame, given.coded.frame)
    )
    error = ((found - expected).abs() / (expected + LEAST_AREA)).mean()
    assert term("clinical", given, judge) == pytest.approx(float(error), rel=1e-4)


def test_features_of_a_frame_are_nearer_than_those_of_another(judge: Judge) -> None:
    given = seen(judge)
    near = judge(given.frame + 0.01 * torch.randn_like(given.frame)).maps
    own, other = judge(given.frame).maps, judge(given.coded.frame).maps
    assert torch.all(feature_distance(near, own) < feature_distance(other, own))


def test_a_judge_that_is_needed_must_be_there(judge: Judge) -> None:
    with pytest.raises(SpecError, match="--segmenter"):
        HierarchicalLoss(LossWeights(clinical=0.1), None)
    # What has no weight is not computed, though there is a judge.
    _, terms = HierarchicalLoss(LossWeights(pixel_squared=1.0), judge)(seen(judge))
    assert list(terms) == ["pixel_squared"]


def test_token_terms() -> None:
    given = seen()
    commitment = (given.coded.latents - given.coded.codes).square().sum(2).mean()
    assert term("commitment", given) == pytest.approx(float(commitment.detach()), rel=1e-4)
    assert term("consistency", given) == pytest.approx(1.0, rel=1e-4)
    noisy = dataclasses.replace(given, coded=dataclasses.replace(given.coded, tokens=None))
    _, terms = HierarchicalLoss(LossWeights(commitment=1.0, entropy=1.0), None)(noisy)
    assert terms == {}


def test_commitment_moves_latents_only() -> None:
    given = seen()
    total, _ = HierarchicalLoss(LossWeights(commitment=1.0), None)(given)
    total.backward()
    assert float(given.coded.latents.grad.abs().sum()) > 0


def test_usage_is_best_where_all_codes_are_chosen_clearly() -> None:
    vectors = torch.eye(8)
    all_used = usage_penalty(vectors[None], vectors)
    one_used = usage_penalty(vectors[:1].expand(8, 8)[None], vectors)
    unclear = usage_penalty(torch.full((1, 8, 8), math.sqrt(1 / 8)), vectors)
    assert float(all_used) == pytest.approx(-1.0, abs=1e-3)
    assert float(one_used) == pytest.approx(0.0, abs=1e-3)
    assert float(unclear) == pytest.approx(0.0, abs=1e-3)


def test_frames_that_came_out_worse_weigh_more() -> None:
    def painted(frame: torch.Tensor) -> torch.Tensor:
        return frame + torch.tensor([0.1, 0.2])[:, None, None, None]

    plain = LossWeights(pixel_squared=1.0)
    even, _ = HierarchicalLoss(plain, None)(seen(decoded=painted))
    weighted, _ = HierarchicalLoss(
        dataclasses.replace(plain, quality=1.0), None
    )(seen(decoded=painted))  # fmt: skip
    assert float(even) == pytest.approx(0.025, rel=1e-4)
    # Errors of 0.4 and 1.6 of the mean: (0.4 * 0.01 + 1.6 * 0.04) / 2.
    assert float(weighted) == pytest.approx(0.034, rel=1e-4)
