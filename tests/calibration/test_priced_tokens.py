"""The benchmark's price on bits: the token model's own costs, and the number of bits asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

from benchmarks.priced_tokens import (
    CANDIDATES,
    Candidates,
    TokenPrices,
    choose,
    tokens_within,
)
from edge_codec.base.token_model import TokenModel, load_token_model, neighbours
from edge_codec.base.tokens import TokenCoder
from edge_codec.calibration.chain import token_rate

ZOO = Path(__file__).parents[2] / "edge_codec" / "zoo" / "vqvae"


@pytest.fixture(scope="module")
def model() -> TokenModel:
    return load_token_model((ZOO / "token_model.npz").read_bytes())


def cost(logits: np.ndarray, index: int) -> float:
    scaled = logits / 256
    return float(np.log2(np.exp2(scaled - scaled.max()).sum()) + scaled.max() - scaled[index])


def test_bits_are_those_of_the_token_model(model: TokenModel) -> None:
    rng = np.random.default_rng(0)
    tokens, past = rng.integers(0, 2048, (2, 5, 4))
    past[2:] = tokens[2:]  # some neighbors of the same cluster
    tokens[1] = tokens[0] ^ 1
    for previous in (None, past):
        found = TokenPrices(model).bits(tokens[..., None], tokens, previous)[..., 0]
        before = None if previous is None else previous.astype(np.uint16)
        for place in np.ndindex(5, 4):
            around = neighbours(tokens.astype(np.uint16), before, *place)
            cluster, leaf = divmod(int(tokens[place]), model.n_leaves)
            expected = cost(model.cluster_logits(around), cluster)
            expected += cost(model.leaf_logits(cluster, around), leaf)
            assert found[place] == pytest.approx(expected)


def frames(count: int) -> list[Candidates]:
    rng = np.random.default_rng(1)
    tokens = rng.integers(0, 2048, (count, 6, 6, CANDIDATES))
    distances = np.sort(rng.exponential(1, (count, 6, 6, CANDIDATES)), axis=-1)
    distances[..., 0] = 0
    return [Candidates(*pair) for pair in zip(tokens, distances.astype(np.float32), strict=True)]


def test_no_price_takes_the_nearest_and_a_price_saves_bits(model: TokenModel) -> None:
    some, prices, rate = frames(6), TokenPrices(model), token_rate(TokenCoder(model))
    nearest = choose(some, (2, 3), prices, 0.0)
    for chosen, frame in zip(nearest, some, strict=True):
        assert np.array_equal(chosen, frame.tokens[..., 0])
    free = rate(np.stack(nearest).reshape(2, 3, 6, 6))
    within = tokens_within(some, (2, 3), prices, rate, 0.9 * free)
    assert 0.85 * free < rate(np.stack(within).reshape(2, 3, 6, 6)) <= 0.9 * free
