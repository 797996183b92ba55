"""What is expected of tokens: exact integers, whatever adds them up."""

from __future__ import annotations

import dataclasses
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_titok import PlainTitok
from titok_samples import random_tables

from edge_codec.base.titok import token_prior
from edge_codec.base.titok.token_prior import (
    TokenPrior,
    frequencies,
    load_tables,
    stage_of,
    weights,
)
from edge_codec.errors import EngineError
from edge_codec.training.titok_tables import pack_tables


def test_powers_are_rounded_right_and_near_no_half():
    with localcontext() as context:
        context.prec = 40
        parts = [Decimal(2) ** (-Decimal(d) / 256) for d in range(256)]
        exact = [part * 2 ** (24 - octave) for octave in range(24) for part in parts]
    found = token_prior.powers()
    assert [int(x.to_integral_value()) for x in exact] == found.tolist()
    assert min(abs(x % 1 - Decimal("0.5")) for x in exact) > Decimal("1e-6")


@pytest.mark.parametrize("age", [0, 1, 5, 14])
def test_logits_are_those_of_the_specification(age):
    tables = random_tables()
    plain = PlainTitok(pack_tables(tables))
    rng = np.random.default_rng(age)
    frames = rng.integers(0, 4096, (3, 32)).tolist()
    before = frames[1 : 1 + min(age, 2)]
    plain.age = age
    prior = TokenPrior(tables)
    around = np.stack([plain.inputs(i, frames[0][:i], before) for i in range(32)])
    logits = prior.logits(around.astype(np.int8), stage_of(age), slice(None))
    together = weights(logits).reshape(32, -1)
    for i in (0, 1, 7, 18, 31):
        expected = plain.weights(i, frames[0][:i], before)
        assert together[i].tolist() == expected
        one = prior.logits(around[i : i + 1].astype(np.int8), stage_of(age), i)
        assert np.array_equal(one[0], logits[i])


def test_the_same_integers_whatever_order_adds_them():
    tables = random_tables(3, hidden=64, dim=32)
    turned = np.random.default_rng(0).permutation(64)
    other = dataclasses.replace(
        tables,
        enter=np.ascontiguousarray(tables.enter[:, turned]),
        enter_bias=np.ascontiguousarray(tables.enter_bias[:, :, turned]),
        middle=np.ascontiguousarray(tables.middle[turned][:, turned]),
        middle_bias=tables.middle_bias[turned],
        leave=tables.leave[turned],
    )
    around = np.random.default_rng(1).integers(-127, 128, (32, 192)).astype(np.int8)
    one, two = (TokenPrior(each).logits(around, 2, slice(None)) for each in (tables, other))
    assert np.array_equal(one, two)
    assert np.unique(one).size > 100


def test_neighbors():
    places = token_prior.neighbor_places()
    assert places.shape == (32, 16)
    assert places[0].tolist() == [96] * 6 + [32, 96, 33, 96, 36, 96, 96, 96, 37] + [64]
    own = places[:, :6]
    assert all((row[row < 32] < i).all() for i, row in enumerate(own))
    assert places[17, 0] == 16
    assert places[17, 3] == 13
    assert places[16, 0] == 96  # nothing to the left of the first column


@settings(deadline=None)
@given(st.lists(st.integers(0, 1 << 30), min_size=64, max_size=64).filter(any))
def test_frequencies_add_up(shares):
    counts = frequencies(np.array([shares]))[0]
    assert counts.sum() == 65536
    assert counts.min() >= 1
    expected = [1 + share * 65472 // sum(shares) for share in shares]
    expected[shares.index(max(shares))] += 65536 - sum(expected)
    assert counts.tolist() == expected


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("codes", np.zeros((4096, 12), np.int16)),
        ("enter", np.zeros((191, 12), np.int16)),
        ("leave", np.zeros(12, np.int16)),
        ("embed", np.zeros((4095, 6), np.int8)),
        ("bias", np.zeros(4096, np.int32)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_tables_that_do_not_fit_are_refused(name, table):
    with pytest.raises(EngineError, match="reinstall"):
        TokenPrior(random_tables(**{name: table}))


def test_sums_that_floats_could_round_are_refused():
    with pytest.raises(EngineError, match="add exactly"):
        TokenPrior(random_tables(dim=65, embed=np.full((4096, 65), 127, np.int8)))


def test_files_come_back_or_are_refused():
    tables = random_tables()
    data = pack_tables(tables)
    back = load_tables(data)
    for field in dataclasses.fields(tables):
        assert np.array_equal(getattr(tables, field.name), getattr(back, field.name))
    for wrong in (b"", data[:-30], b"PK\5\6" + bytes(18), bytes(token_prior.MAX_FILE + 1)):
        with pytest.raises(EngineError):
            load_tables(wrong)
