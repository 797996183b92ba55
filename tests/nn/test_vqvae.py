"""The network's shapes, the codebook's learning, and the token model's training."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from edge_codec.nn.codebook import EmaCodebook, usage  # noqa: E402
from edge_codec.nn.vqvae import VQVAE, VQVAEConfig, depth_to_space, space_to_depth  # noqa: E402

TINY = VQVAEConfig(
    codes=16, code_dim=4, fine=8, coarse=8, embed=8, encoder_depth=1, decoder_depth=1
)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_shapes_for_any_multiple_of_eight() -> None:
    model = VQVAE(TINY).eval()
    frame = torch.rand(2, 1, 24, 40)
    output, tokens, commitment = model(frame)
    assert output.shape == frame.shape
    assert tokens.shape == (2, 3, 5)
    assert commitment.ndim == 0
    assert model.decode(model.encode(frame)).shape == frame.shape


def test_decode_of_tokens_is_the_forward_pass() -> None:
    model = VQVAE(TINY).eval()
    frame = torch.rand(1, 1, 16, 16)
    output, tokens, _ = model(frame)
    torch.testing.assert_close(model.decode(tokens), output, atol=1e-5, rtol=1e-5)


def test_gradient_reaches_the_encoder_through_the_codebook() -> None:
    model = VQVAE(TINY)
    output, _, _ = model(torch.rand(1, 1, 16, 16))
    output.square().mean().backward()
    gradient = model.analysis.layers[0].conv.weight.grad
    assert gradient is not None
    assert float(gradient.abs().sum()) > 0


@pytest.mark.parametrize("block", [2, 4])
def test_shuffles_are_inverse(block: int) -> None:
    x = torch.rand(2, 3, 8, 16)
    assert torch.equal(depth_to_space(space_to_depth(x, block), block), x)


def test_space_to_depth_orders_channels_by_row_column() -> None:
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert space_to_depth(x, 4).flatten().tolist() == list(range(16))
    assert space_to_depth(x, 2)[0, :, 0, 0].tolist() == [0, 1, 4, 5]


def test_nearest_agrees_with_distances() -> None:
    codebook = EmaCodebook(16, 4)
    latent = torch.randn(2, 4, 3, 5)
    rows = latent.permute(0, 2, 3, 1).reshape(-1, 4)
    expected = torch.cdist(rows, codebook.vectors).argmin(1).reshape(2, 3, 5)
    assert torch.equal(codebook.nearest(latent), expected)


def test_codebook_finds_clusters() -> None:
    centers = 10 * torch.randn(8, 4)
    rows = centers.repeat_interleave(64, 0) + 0.1 * torch.randn(512, 4)
    codebook = EmaCodebook(24, 4, decay=0.5)
    codebook.initialize(rows[torch.randperm(512)])
    for _ in range(60):
        latent = rows[torch.randperm(512)].T.reshape(1, 4, 16, 32)
        codebook(latent)
        codebook.revive(latent)
    distance = torch.cdist(centers, codebook.vectors).min(1).values
    assert float(distance.max()) < 1.0


def test_codebook_keeps_still_in_evaluation() -> None:
    codebook = EmaCodebook(8, 4).eval()
    before = codebook.vectors.clone()
    codebook(torch.randn(1, 4, 4, 4))
    assert torch.equal(before, codebook.vectors)


def test_grid_rounds_codes() -> None:
    codebook = EmaCodebook(8, 4)
    codebook.grid = 0.25
    steps = codebook.codes() / 0.25
    assert torch.equal(steps, steps.round())


def test_usage_of_even_and_single_codes() -> None:
    perplexity, used = usage(torch.ones(16))
    assert perplexity == pytest.approx(16)
    assert used == 16
    assert usage(torch.tensor([5.0, 0.0])) == (pytest.approx(1.0), 1)


def test_bisection_is_a_permutation_that_keeps_neighbors_close() -> None:
    from edge_codec.training.token_tables import bisect_codes

    codes = np.random.default_rng(0).normal(size=(64, 3))
    order = bisect_codes(codes)
    assert sorted(order.tolist()) == list(range(64))
    groups = codes[order].reshape(8, 8, 3)
    assert groups.var(axis=1).mean() < 0.5 * codes.var(axis=0).mean()


def test_token_tables_learn_repetition_and_round_without_loss() -> None:
    from edge_codec.training.token_tables import bits_per_token, fit, positions

    rng = np.random.default_rng(0)
    first = rng.integers(0, 64, (1, 24, 24))
    changed = rng.random((40, 24, 24)) < 0.1
    frames = np.where(changed, rng.integers(0, 64, (40, 24, 24)), first).astype(np.int32)
    data = positions(frames, codes=64)
    tables = fit([data], [1.0], clusters=8, leaves=8, steps=150, batch=2048)
    model = tables.integer_model()
    key = bits_per_token(model, data.without_previous(64))
    mean = bits_per_token(model, data)
    assert mean < 0.5 * key
    cluster_cost, leaf_cost = tables(data.around.long(), data.tokens.long())
    floats = float((cluster_cost + leaf_cost).detach()) / np.log(2)
    # 64 codes in 16 bits: rounding and the floor of 1/65536 cost next to nothing.
    assert mean == pytest.approx(floats, abs=0.02)
