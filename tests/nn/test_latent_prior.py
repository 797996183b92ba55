"""What is expected of a latent depends on what the decoder has, and on nothing else."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from edge_codec.nn.latent_prior import LatentPrior, SidePrior  # noqa: E402
from edge_codec.nn.lifting import COEFFICIENTS  # noqa: E402

FEATURES = 8


@pytest.fixture
def prior() -> LatentPrior:
    torch.manual_seed(0)
    prior = LatentPrior(FEATURES, 1, "key").eval()
    for parameter in prior.parameters():  # heads that start at zero expect nothing
        torch.nn.init.normal_(parameter, std=0.2)
    return prior


def inputs() -> tuple[torch.Tensor, ...]:
    return (
        torch.randn(1, COEFFICIENTS, 4, 6),
        torch.randn(1, FEATURES, 4, 6),
        torch.randn(1, COEFFICIENTS, 4, 6),
        torch.tensor([20.0]),
    )


@torch.no_grad()
def test_first_half_is_coded_without_knowing_any_latent(prior: LatentPrior) -> None:
    latents, *known = inputs()
    mask, _ = prior._checkerboard(latents)
    other = torch.where(mask, latents, latents + 1.0)
    first, second = prior.code(latents, *known), prior.code(other, *known)
    where = mask.expand_as(latents)
    assert torch.equal(first.bits[where], second.bits[where])
    assert not torch.equal(first.bits[~where], second.bits[~where])


@torch.no_grad()
def test_second_half_is_coded_without_knowing_itself(prior: LatentPrior) -> None:
    latents, *known = inputs()
    mask, _ = prior._checkerboard(latents)
    channel = int((~mask[0, :, 1, 1]).nonzero()[0])
    other = latents.clone()
    other[0, channel, 1, 1] += 5.0
    first, second = prior.code(latents, *known), prior.code(other, *known)
    changed = (first.bits != second.bits).nonzero().tolist()
    assert changed == [[0, channel, 1, 1]]


@torch.no_grad()
def test_second_half_knows_the_first(prior: LatentPrior) -> None:
    latents, *known = inputs()
    mask, _ = prior._checkerboard(latents)
    channel = int(mask[0, :, 1, 1].nonzero()[0])
    other = latents.clone()
    other[0, channel, 1, 1] += 5.0
    first, second = prior.code(latents, *known), prior.code(other, *known)
    later = ~mask.expand_as(latents)
    assert not torch.equal(first.bits[later], second.bits[later])


def test_checkerboard_takes_half_of_each_position(prior: LatentPrior) -> None:
    mask, board = prior._checkerboard(torch.zeros(1, COEFFICIENTS, 4, 6))
    assert bool((mask.sum(dim=1) == COEFFICIENTS // 2).all())
    assert bool((mask[:, :, 1:] != mask[:, :, :-1]).all())
    assert board.shape == (1, 1, 4, 6)


def test_steps_shrink_with_quality(prior: LatentPrior) -> None:
    fresh = LatentPrior(FEATURES, 1, "inter")
    steps = fresh.steps(torch.tensor([0.0, 12.0, 63.0]))[:, 0, 0, 0].tolist()
    assert steps[0] / steps[1] == pytest.approx(2.0, rel=1e-3)
    assert steps == sorted(steps, reverse=True)


def test_side_features_cover_odd_sizes() -> None:
    torch.manual_seed(0)
    prior = SidePrior(FEATURES, 4).eval()
    context, quality = torch.randn(2, FEATURES, 3, 5), torch.tensor([0.0, 63.0])
    side = prior.code(torch.randn(2, 4, 2, 3), context, quality)
    assert torch.equal(side.symbols.detach(), side.symbols.detach().round())
    assert prior.features(side.latents, context, quality).shape == context.shape


def test_second_half_sends_no_gradient_back_through_the_symbols(prior: LatentPrior) -> None:
    latents, *known = inputs()
    latents = (10.0 * latents).requires_grad_()
    mask, _ = prior._checkerboard(latents)
    coded = prior.code(latents, *known)
    assert bool(torch.where(mask, coded.symbols, 0.0).any())
    torch.where(mask, 0.0, coded.latents).sum().backward()
    assert latents.grad is not None
    assert bool(torch.where(mask, 0.0, latents.grad).any())
    assert not bool(torch.where(mask, latents.grad, 0.0).any())
