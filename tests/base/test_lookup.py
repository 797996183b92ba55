"""Codebook lookup against its definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_codec.base import _lookup
from edge_codec.base.lookup import CodebookLookup
from edge_codec.errors import EngineError


def nearest_by_definition(latents, codebook):
    """Return the index of the smallest squared distance, the lowest of equal ones."""
    difference = latents[:, None].astype(np.int64) - codebook[None].astype(np.int64)
    return np.argmin((difference**2).sum(axis=-1), axis=1)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(16, 16, 1), (32, 32, 7), (64, 16, 32)]))
def test_exhaustive_search_is_exact(seed, sizes):
    clusters, leaves, dim = sizes
    rng = np.random.default_rng(seed)
    # Few distinct values make ties, duplicates included.
    codebook = rng.integers(-3, 3, (clusters * leaves, dim)).astype(np.int8)
    latents = rng.integers(-3, 3, (50, dim)).astype(np.int8)
    tokens = CodebookLookup(codebook, clusters, probes=clusters).nearest(latents)
    np.testing.assert_array_equal(tokens, nearest_by_definition(latents, codebook))


def test_extreme_values_are_exact():
    rng = np.random.default_rng(1)
    codebook = rng.choice(np.array([-128, 127], np.int8), (256, 32))
    latents = rng.choice(np.array([-128, 127], np.int8), (64, 32))
    tokens = CodebookLookup(codebook, 16, probes=16).nearest(latents)
    np.testing.assert_array_equal(tokens, nearest_by_definition(latents, codebook))


def test_probing_finds_nearly_all_of_a_clustered_codebook():
    rng = np.random.default_rng(2)
    centers = rng.integers(-90, 90, (64, 1, 32))
    codebook = (centers + rng.integers(-30, 30, (64, 32, 32))).astype(np.int8).reshape(-1, 32)
    picked = codebook[rng.integers(0, len(codebook), 500)]
    latents = (picked + rng.integers(-8, 8, picked.shape)).astype(np.int8)
    tokens = CodebookLookup(codebook).nearest(latents)
    assert (tokens == nearest_by_definition(latents, codebook)).mean() > 0.99


def test_shape_follows_the_latents():
    codebook = np.zeros((256, 4), np.int8)
    tokens = CodebookLookup(codebook, 16).nearest(np.zeros((2, 3, 5, 4), np.int8))
    assert tokens.shape == (2, 3, 5)
    assert not tokens.any()


@pytest.mark.parametrize("shape", [(100, 4), (256,), (0, 4)])
def test_codebooks_that_cannot_be_cut(shape):
    with pytest.raises(EngineError):
        CodebookLookup(np.zeros(shape, np.int8), 16)


def test_latents_that_do_not_fit():
    lookup = CodebookLookup(np.zeros((256, 4), np.int8), 16)
    for latents in (np.zeros((5, 3), np.int8), np.zeros((5, 4), np.float32)):
        with pytest.raises(EngineError, match="latents"):
            lookup.nearest(latents)


@pytest.mark.skipif(not _lookup.has_vnni(), reason="no AVX-512 VNNI")
@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([(16, 16, 1), (32, 32, 7), (64, 32, 32), (16, 16, 256), (64, 16, 32)]),
    st.integers(1, 64),
    st.integers(1, 40),
    st.sampled_from([2, 20, 128]),
)
def test_vnni_gives_the_same_tokens(seed, sizes, probes, count, spread):
    clusters, leaves, dim = sizes
    rng = np.random.default_rng(seed)
    codebook = rng.integers(-spread, spread, (clusters * leaves, dim)).astype(np.int8)
    latents = rng.integers(-spread, spread, (count, dim)).astype(np.int8)
    lookup = CodebookLookup(codebook, clusters, probes)
    tokens = lookup.nearest(latents)
    lookup._integer_codes = None
    np.testing.assert_array_equal(tokens, lookup.nearest(latents))
