"""Codes stay on the sphere, follow their latents, and come back to life."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402, N812

from edge_codec.nn import sphere_codebook  # noqa: E402
from edge_codec.nn.sphere_codebook import SphereCodebook, blurred  # noqa: E402


def directions(*shape: int) -> torch.Tensor:
    return F.normalize(torch.randn(*shape), dim=-1)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_the_nearest_code_is_that_of_the_least_distance() -> None:
    codebook = SphereCodebook(16, 4).eval()
    latents = directions(2, 5, 4)
    codes, tokens, commitment = codebook(latents)
    distances = torch.cdist(latents, codebook.vectors[None])
    assert torch.equal(tokens, distances.argmin(2))
    assert torch.allclose(codes, codebook.lookup(tokens), atol=1e-6)
    assert float(commitment) == pytest.approx(float(distances.amin(2).square().mean()), rel=1e-4)


def test_gradients_pass_straight_to_the_latents() -> None:
    codebook = SphereCodebook(16, 4).eval()
    latents = directions(1, 3, 4).requires_grad_()
    codes, _, _ = codebook(latents)
    direction = torch.randn(1, 3, 4)
    (codes * direction).sum().backward()
    assert torch.equal(latents.grad, direction)


def test_codes_follow_their_latents_while_training_only() -> None:
    codebook = SphereCodebook(2, 3, decay=0.5)
    latents = F.normalize(codebook.vectors + 0.2 * directions(2, 3), dim=1)[None]
    before = codebook.vectors.clone()
    codebook.eval()(latents)
    assert torch.equal(codebook.vectors, before)
    codebook.train()
    for _ in range(20):
        _, tokens, _ = codebook(latents)
    assert tokens.tolist() == [[0, 1]]
    assert torch.allclose(codebook.vectors, latents[0], atol=1e-3)


def test_dead_codes_become_latents() -> None:
    codebook = SphereCodebook(8, 3, decay=0.5)
    latents = codebook.vectors[:2].repeat(4, 1)[None].clone()
    for _ in range(12):
        codebook(latents)
    rows = directions(20, 3)
    assert codebook.revive(rows) == 6
    found = torch.cdist(codebook.vectors[2:][None], rows[None])[0].amin(1)
    assert float(found.max()) < 1e-3
    assert torch.allclose(codebook.vectors[:2], latents[0, :2], atol=1e-4)
    assert codebook.revive(rows) == 0


def test_codebook_starts_from_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    centers = directions(4, 6)
    rows = F.normalize(centers.repeat(50, 1) + 0.02 * torch.randn(200, 6), dim=1)
    whole, parts = SphereCodebook(4, 6), SphereCodebook(4, 6)
    torch.manual_seed(3)
    whole.initialize(rows)
    nearest = torch.cdist(centers[None], whole.vectors[None])[0].amin(1)
    assert float(nearest.median()) < 0.05
    assert float(whole.counts.sum()) == pytest.approx(4.0, rel=1e-4)
    # Comparing in parts changes nothing.
    monkeypatch.setattr(sphere_codebook, "ROWS_AT_ONCE", 30)
    torch.manual_seed(3)
    parts.initialize(rows)
    assert torch.equal(parts.vectors, whole.vectors)


def test_noise_turns_latents_away_to_a_cosine() -> None:
    latents = directions(50, 8, 12)
    turned = blurred(latents, 0.86)
    assert torch.allclose((turned * latents).sum(2), torch.full((50, 8), 0.86), atol=1e-4)
    assert torch.allclose(turned.norm(dim=2), torch.ones(50, 8), atol=1e-4)
