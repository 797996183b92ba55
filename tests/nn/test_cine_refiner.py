"""The network that refines whole cines."""

from __future__ import annotations

import pytest
import torch

from edge_codec.base.titok.refining import AGES, STEPS, places_near
from edge_codec.nn.cine_refiner import CineRefiner, RefinerConfig

SMALL = RefinerConfig(fine=8, middle=8)
SIDE = 32


def given(phases: int) -> tuple[torch.Tensor, ...]:
    draw = torch.Generator().manual_seed(phases)
    frames = torch.rand(phases, 1, SIDE, SIDE, generator=draw)
    ages = torch.arange(phases).clamp(max=AGES - 1)
    return frames, torch.ones(1, 1, SIDE, SIDE), ages, torch.from_numpy(places_near(phases))


@pytest.fixture(scope="module")
def trained() -> CineRefiner:
    """Weights as if something had been learned."""
    torch.manual_seed(0)
    model = CineRefiner(SMALL)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


@torch.no_grad()
def test_a_fresh_network_changes_nothing():
    frames, *rest = given(9)
    assert torch.equal(CineRefiner(SMALL)(frames, *rest), frames)


@torch.no_grad()
@pytest.mark.parametrize("phases", [8, 13, 40])
def test_any_number_of_phases(trained, phases):
    frames, *rest = given(phases)
    refined = trained(frames, *rest)
    assert refined.shape == frames.shape
    assert bool(torch.isfinite(refined).all())


@torch.no_grad()
def test_frames_see_others_around_the_cycle(trained):
    frames, *rest = given(20)
    changed = frames.clone()
    changed[0, 0, :8, :8] += 0.5
    # The mean over time carries a change everywhere; without it only the ways along time do.
    trained.trust.data[:] = -30
    trained.trust.data[19] = 30
    difference = (trained(changed, *rest) - trained(frames, *rest)).abs().amax((1, 2, 3))
    reached = {int(place) for place in torch.nonzero(difference > 1e-7)}
    assert {*STEPS, *(20 - step for step in STEPS)} <= reached


@torch.no_grad()
def test_going_around_the_cycle_goes_along(trained):
    """Ages apart, no phase is the first: turning the cycle turns the result."""
    frames, inside, _, near = given(12)
    ages = torch.zeros(12, dtype=torch.int64)
    turned = trained(frames.roll(5, 0), inside, ages, near)
    assert torch.allclose(turned, trained(frames, inside, ages, near).roll(5, 0), atol=1e-5)
