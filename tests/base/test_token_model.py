"""Integer probabilities of tokens: valid for all logits, and refused when tables do not fit."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_codec.base.token_model import (
    EXP2_SIZE,
    TOTAL,
    TokenModel,
    exp2_table,
    frequencies,
    load_token_model,
    neighbours,
)
from edge_codec.errors import EngineError

C, L = 8, 4


def tables(limit: int = 900) -> dict[str, NDArray[np.generic]]:
    rng = np.random.default_rng(0)

    def random(*shape: int) -> NDArray[np.int16]:
        return rng.integers(-limit, limit + 1, shape).astype(np.int16)

    k = C * L
    return {
        "cluster_bias": random(C),
        **{f"cluster_{n}": random(k + 1, C) for n in ("west", "north", "previous")},
        **{f"cluster_{n}": random(C + 1, C) for n in ("northwest", "northeast")},
        **{f"cluster_previous_{n}": random(C + 1, C) for n in ("east", "south")},
        "leaf_bias": random(C, L),
        **{f"leaf_{n}": random(k, L) for n in ("west", "north", "previous")},
        "exp2": exp2_table(),
    }


def packed(arrays: dict[str, NDArray[np.generic]]) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


@pytest.mark.parametrize("n", [2, 32, 64, 1000])
def test_frequencies_are_positive_and_sum_to_the_total(n: int) -> None:
    rng = np.random.default_rng(n)
    logits = rng.integers(-32767, 32768, (200, n)).astype(np.int32)
    logits[0], logits[1], logits[2, 0] = 0, np.arange(n), 32767
    counts = frequencies(logits).astype(np.int64)
    assert (counts >= 1).all()
    assert (counts.sum(axis=1) == TOTAL).all()


def test_frequencies_follow_powers_of_two() -> None:
    counts = frequencies(np.array([0, 256, 512], np.int32)).astype(float)
    assert counts / TOTAL == pytest.approx([1 / 7, 2 / 7, 4 / 7], abs=1e-4)


def test_remainder_goes_to_the_first_largest() -> None:
    counts = frequencies(np.zeros(3, np.int32))
    assert counts.tolist() == [21846, 21845, 21845]


def test_exponentials_are_away_from_rounding_doubt() -> None:
    exact = 2.0 ** (16 - np.arange(EXP2_SIZE) / 256)
    assert np.abs(exact % 1 - 0.5).min() > 1e-5


def test_cdfs_at_every_position_of_a_frame() -> None:
    model = load_token_model(packed(tables()))
    rng = np.random.default_rng(1)
    tokens = rng.integers(0, C * L, (4, 5)).astype(np.uint16)
    previous = rng.integers(0, C * L, (4, 5)).astype(np.uint16)
    for past in (None, previous):
        for row in range(4):
            for column in range(5):
                around = neighbours(tokens, past, row, column)
                cluster = int(tokens[row, column]) // L
                for cdf in (model.cluster_cdf(around), model.leaf_cdf(cluster, around)):
                    assert cdf[0] == 0
                    assert cdf[-1] == TOTAL
                    assert (np.diff(cdf.astype(np.int64)) > 0).all()


def test_neighbours_at_corners() -> None:
    tokens = np.arange(6, dtype=np.uint16).reshape(2, 3)
    assert neighbours(tokens, None, 0, 0) == (-1,) * 7
    assert neighbours(tokens, tokens, 1, 2) == (4, 2, 1, -1, 5, -1, -1)
    assert neighbours(tokens, tokens, 1, 0) == (-1, 0, -1, 1, 3, 4, -1)


def test_leaf_rows_count_only_within_the_cluster() -> None:
    model = load_token_model(packed(tables()))
    tokens = np.array([[5, 0]], np.uint16)
    around = neighbours(tokens, None, 0, 1)
    inside = model.leaf_logits(5 // L, around)
    assert np.array_equal(inside, model.leaf_bias[1].astype(int) + model.leaf_west[5])
    assert np.array_equal(model.leaf_logits(0, around), model.leaf_bias[0])


@pytest.mark.parametrize(
    ("name", "table", "message"),
    [
        ("leaf_bias", np.zeros(4, np.int16), "leaf_bias"),
        ("cluster_west", np.zeros((C * L, C), np.int16), "cluster_west"),
        ("leaf_north", np.zeros((C * L, L), np.int32), "leaf_north is int32"),
        ("cluster_bias", np.full(C, 32767, np.int16), "more than int16"),
        ("exp2", np.ones(EXP2_SIZE, np.uint32), "exp2"),
    ],
)
def test_tables_that_do_not_fit_are_refused(
    name: str, table: NDArray[np.generic], message: str
) -> None:
    with pytest.raises(EngineError, match=message):
        load_token_model(packed({**tables(), name: table}))


def test_damaged_files_are_refused() -> None:
    missing = tables()
    missing.pop("leaf_west")
    for data in (b"", b"not a zip", packed(tables())[:500], packed(missing)):
        with pytest.raises(EngineError):
            load_token_model(data)


def test_fields_are_the_documented_arrays() -> None:
    assert {field.name for field in dataclasses.fields(TokenModel)} == set(tables())
