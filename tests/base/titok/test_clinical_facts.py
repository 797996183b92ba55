"""Facts about patient and phase: the network's input, and the header's bytes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_codec.base.titok.conditions import (
    GROUPS,
    MODEL_DATA_SIZE,
    ClinicalFacts,
    told_cycle,
    unpack_facts,
)
from edge_codec.errors import BitstreamError, SpecError
from edge_codec.spec import TITOK_MODEL_DATA


def test_the_vector():
    facts = ClinicalFacts(height_cm=180, weight_kg=85, group="HCM", n_phases=8)
    expected = [0.1, 1, 0.1, 1, math.sin(math.pi / 2), 0, 1, 0, 0, 1, 0, 0]
    assert np.allclose(facts.vector(2), expected, atol=1e-6)
    assert np.allclose(facts.vector(10), expected, atol=1e-6)


def test_nothing_is_told_unless_it_is_known():
    assert not ClinicalFacts().vector(3).any()
    assert ClinicalFacts().pack() == bytes(MODEL_DATA_SIZE)
    assert np.flatnonzero(ClinicalFacts(n_phases=5).vector(1)).tolist() == [4, 5, 6]
    assert np.flatnonzero(ClinicalFacts(group="NOR").vector(1)).tolist() == [7]
    assert MODEL_DATA_SIZE == TITOK_MODEL_DATA


@given(
    st.sampled_from([0.0, 1.0, 172.5, 300.0]),
    st.sampled_from([0.0, 1.0, 80.1, 1000.0]),
    st.sampled_from(["", *GROUPS]),
    st.integers(0, 65535),
)
def test_facts_come_back(height, weight, group, n_phases):
    facts = ClinicalFacts(height, weight, group, n_phases)
    assert unpack_facts(facts.pack()) == facts


@given(st.binary(min_size=7, max_size=7))
def test_bytes_are_facts_or_refused(data):
    try:
        facts = unpack_facts(data)
    except BitstreamError:
        return
    assert facts.pack() == data
    assert np.isfinite(facts.vector(3)).all()


def test_the_bytes_of_the_specification():
    facts = ClinicalFacts(172.5, 80, "HCM", 30)
    assert facts.pack() == bytes.fromhex("03 bd06 2003 1e00")


@pytest.mark.parametrize(
    "wrong",
    [
        {"height_cm": -1},
        {"height_cm": 301},
        {"height_cm": math.nan},
        {"weight_kg": 0.5},
        {"weight_kg": 1001},
        {"group": "nor"},
        {"n_phases": 65536},
    ],
    ids=str,
)
def test_impossible_facts_are_refused(wrong):
    with pytest.raises(SpecError):
        ClinicalFacts(**wrong)


@pytest.mark.parametrize("data", [b"", bytes(6), bytes(8), b"\6" + bytes(6), b"\0\x09" + bytes(5)])
def test_impossible_bytes_are_refused(data):
    with pytest.raises(BitstreamError):
        unpack_facts(data)


def test_cycles_that_are_too_long_to_say_are_not_told():
    assert told_cycle(65535) == 65535
    assert told_cycle(65536) == 0
