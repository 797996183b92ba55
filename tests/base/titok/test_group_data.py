"""Tokens of groups in the header: every one comes back, and nothing else is taken for some."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from group_samples import group_spec, random_tokens
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edge_codec.base.titok.groups.data import MOST_GROUPS, GroupData, unpack_groups
from edge_codec.errors import BitstreamError, SpecError
from edge_codec.spec import MAX_MODEL_DATA, CineInfo, StreamSpec, TokensPer


def spec_of(data: bytes, slices: int) -> StreamSpec:
    info = CineInfo(slices, 4, 8, 8, np.dtype(np.int16))
    return replace(group_spec(), info=info, model_data=data)


@given(
    st.sampled_from([TokensPer.CINE, TokensPer.EXAM]),
    st.integers(1, 65_535),
    st.integers(1, MOST_GROUPS).flatmap(
        lambda n: arrays(np.uint16, (n, 32), elements=st.integers(0, 4095))
    ),
)
def test_tokens_come_back(per, n_phases, tokens):
    groups = tokens if per is TokensPer.CINE else tokens[:1]
    packed = GroupData(per, n_phases, groups).pack()
    assert len(packed) == 3 + 48 * len(groups) <= MAX_MODEL_DATA
    found = unpack_groups(spec_of(packed, len(tokens)))
    assert (found.per, found.n_phases) == (per, n_phases)
    assert np.array_equal(found.tokens, groups)
    last = len(tokens) - 1
    assert np.array_equal(found.of_slice(last), groups[-1])


@given(st.binary(min_size=1, max_size=200), st.integers(1, 5))
def test_any_bytes_are_groups_or_refused(data, slices):
    spec = spec_of(data, slices)
    try:
        found = unpack_groups(spec)
    except BitstreamError:
        return
    assert found.pack() == data
    assert len(found.tokens) == (slices if found.per is TokensPer.CINE else 1)


def test_the_first_tokens_bits_come_first():
    tokens = np.zeros((1, 32), np.uint16)
    tokens[0, 0], tokens[0, 1] = 0xABC, 0x123
    packed = GroupData(TokensPer.EXAM, 300, tokens).pack()
    assert packed == b"\2\x2c\1\xab\xc1\x23" + bytes(45)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\1", "kind 0"),
        (b"\3\1\0" + bytes(48), "kind 3"),
        (b"\0\1\0" + bytes(48), "kind 0"),
        (b"\2\0\0" + bytes(48), "cycle of 0"),
        (b"\2\1\0" + bytes(47), "50 bytes"),
        (b"\1\1\0" + bytes(48), "2 groups"),
    ],
    ids=str,
)
def test_what_is_none_is_refused(data, message):
    with pytest.raises(BitstreamError, match=message):
        unpack_groups(spec_of(data, 2))


def test_what_has_no_place_is_refused():
    with pytest.raises(SpecError, match="86 groups"):
        GroupData(TokensPer.CINE, 3, random_tokens(MOST_GROUPS + 1))
    with pytest.raises(SpecError, match="keeps 1 to 1"):
        GroupData(TokensPer.EXAM, 3, random_tokens(2))
    with pytest.raises(SpecError, match="cycle of 65536"):
        GroupData(TokensPer.EXAM, 65_536, random_tokens(1))
    with pytest.raises(SpecError, match="titok's"):
        GroupData(TokensPer.FRAME, 3, random_tokens(1))
    with pytest.raises(SpecError, match="4096"):
        GroupData(TokensPer.EXAM, 3, np.full((1, 32), 4096, np.uint16))
    with pytest.raises(SpecError, match="int64"):
        GroupData(TokensPer.EXAM, 3, np.zeros((1, 32), np.int64))
