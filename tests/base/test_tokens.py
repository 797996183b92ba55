from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_codec.base.token_model import TokenModel, exp2_table, neighbours
from edge_codec.base.tokens import TokenCoder
from edge_codec.entropy.rans_reference import Decoder, encode_pairs
from edge_codec.errors import BitstreamError, EngineError, FrameError, SpecError

Grid = NDArray[np.uint16]
seeds = st.integers(0, 2**32 - 1)


def random_model(seed: int, c: int, leaves: int, spread: int = 1500) -> TokenModel:
    rng = np.random.default_rng(seed)
    k = c * leaves

    def table(*shape: int) -> NDArray[np.int16]:
        return rng.integers(-spread, spread + 1, shape, dtype=np.int16)

    return TokenModel(
        cluster_bias=table(c),
        cluster_west=table(k + 1, c),
        cluster_north=table(k + 1, c),
        cluster_previous=table(k + 1, c),
        cluster_northwest=table(c + 1, c),
        cluster_northeast=table(c + 1, c),
        cluster_previous_east=table(c + 1, c),
        cluster_previous_south=table(c + 1, c),
        leaf_bias=table(c, leaves),
        leaf_west=table(k, leaves),
        leaf_north=table(k, leaves),
        leaf_previous=table(k, leaves),
        exp2=exp2_table(),
    )


def random_frames(seed: int, h: int, w: int, n_codes: int) -> tuple[Grid, Grid]:
    """Two frames in which neighbours often share a cluster."""
    rng = np.random.default_rng(seed)
    steps = rng.integers(-2, 3, (2, h, w)).cumsum(axis=2)
    first, second = ((steps + rng.integers(0, n_codes)) % n_codes).astype(np.uint16)
    return first, second


def pair(cdf: NDArray[np.uint32], symbol: int) -> tuple[int, int]:
    return int(cdf[symbol]), int(cdf[symbol + 1] - cdf[symbol])


def plain_encode(model: TokenModel, tokens: Grid, previous: Grid | None) -> bytes:
    pairs = []
    for row, column in np.ndindex(tokens.shape):
        around = neighbours(tokens, previous, row, column)
        cluster, leaf = divmod(int(tokens[row, column]), model.n_leaves)
        pairs.append(pair(model.cluster_cdf(around), cluster))
        pairs.append(pair(model.leaf_cdf(cluster, around), leaf))
    return encode_pairs(pairs, 1)


def plain_decode(model: TokenModel, payload: bytes, h: int, w: int, previous: Grid | None) -> Grid:
    tokens = np.zeros((h, w), np.uint16)
    decoder = Decoder(payload, 1)

    def symbol(cdf: NDArray[np.uint32]) -> int:
        found = int(np.searchsorted(cdf, decoder.peek(0), side="right")) - 1
        decoder.advance(0, *pair(cdf, found))
        return found

    for row, column in np.ndindex(h, w):
        around = neighbours(tokens, previous, row, column)
        cluster = symbol(model.cluster_cdf(around))
        leaf = symbol(model.leaf_cdf(cluster, around))
        tokens[row, column] = cluster * model.n_leaves + leaf
    decoder.finish()
    return tokens


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    seeds,
    st.integers(0, 6),
    st.integers(0, 6),
    st.sampled_from([(1, 1), (1, 9), (9, 1), (3, 5), (8, 4), (64, 32)]),
    st.sampled_from([0, 40, 1500, 4000]),
    st.booleans(),
)
def test_c_and_plain_python_agree_on_every_byte(
    seed: int, h: int, w: int, sizes: tuple[int, int], spread: int, key: bool
) -> None:
    model = random_model(seed, *sizes, spread)
    previous, tokens = random_frames(seed, h, w, model.n_codes)
    before = None if key else previous
    coder = TokenCoder(model)
    payload = coder.encode(tokens, before)
    assert payload == plain_encode(model, tokens, before)
    np.testing.assert_array_equal(coder.decode(payload, h, w, before), tokens)
    np.testing.assert_array_equal(plain_decode(model, payload, h, w, before), tokens)


@pytest.mark.parametrize("key", [True, False])
def test_round_trip_of_a_whole_frame(key: bool) -> None:
    model = random_model(1, 64, 32)
    previous, tokens = random_frames(2, 32, 40, model.n_codes)
    before = None if key else previous
    payload = TokenCoder(model).encode(tokens, before)
    np.testing.assert_array_equal(TokenCoder(model).decode(payload, 32, 40, before), tokens)


def test_strided_tokens_are_read_as_they_look() -> None:
    coder = TokenCoder(random_model(1, 8, 4))
    previous, tokens = random_frames(2, 6, 5, 32)
    payload = coder.encode(tokens.T, previous.T)
    np.testing.assert_array_equal(coder.decode(payload, 5, 6, previous.T), tokens.T)


@settings(derandomize=True, max_examples=150, deadline=None)
@given(seeds, st.binary(max_size=60), st.booleans())
def test_any_bytes_give_tokens_or_bitstream_error(seed: int, noise: bytes, whole: bool) -> None:
    model = random_model(3, 8, 4)
    coder = TokenCoder(model)
    previous, tokens = random_frames(seed, 4, 5, model.n_codes)
    payload = bytearray(noise if whole else coder.encode(tokens, previous))
    if payload and not whole:
        payload[seed % len(payload)] ^= 1 + seed % 255
    try:
        decoded = coder.decode(bytes(payload), 4, 5, previous)
    except BitstreamError:
        with pytest.raises(BitstreamError):
            plain_decode(model, bytes(payload), 4, 5, previous)
    else:
        assert decoded.max() < model.n_codes
        assert coder.encode(decoded, previous) == bytes(payload)


def test_decoding_with_other_tables_or_neighbours_is_noticed() -> None:
    model = random_model(4, 8, 4)
    previous, tokens = random_frames(5, 9, 9, model.n_codes)
    payload = TokenCoder(model).encode(tokens, previous)
    with pytest.raises(BitstreamError):
        TokenCoder(random_model(5, 8, 4)).decode(payload, 9, 9, previous)
    with pytest.raises(BitstreamError):
        TokenCoder(model).decode(payload, 9, 9, None)
    with pytest.raises(BitstreamError):
        TokenCoder(model).decode(payload, 9, 8, previous[:, :8])


@pytest.mark.parametrize(
    "tokens",
    [
        np.zeros((4, 5), np.int32),
        np.zeros((4, 5, 1), np.uint16),
        np.full((4, 5), 32, np.uint16),
        [[0, 1]],
    ],
)
def test_wrong_frames_are_refused(tokens: Grid) -> None:
    coder = TokenCoder(random_model(6, 8, 4))
    right = np.zeros((4, 5), np.uint16)
    with pytest.raises(FrameError):
        coder.encode(tokens, None)
    with pytest.raises(FrameError):
        coder.encode(right, tokens)
    with pytest.raises(FrameError):
        coder.decode(coder.encode(right, None), 4, 5, tokens)


def test_wrong_sizes_are_refused() -> None:
    coder = TokenCoder(random_model(7, 8, 4))
    with pytest.raises(FrameError):
        coder.encode(np.zeros((4, 5), np.uint16), np.zeros((5, 4), np.uint16))
    for h, w in ((-1, 4), (65536, 1), (65535, 65535)):
        with pytest.raises(SpecError):
            coder.decode(bytes(4), h, w, None)


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(TokenModel)])
def test_tables_that_do_not_fit_are_refused(name: str) -> None:
    model = random_model(8, 8, 4)
    table = getattr(model, name)
    for wrong in (table.astype(np.int64), np.concatenate([table, table])[: len(table) + 1]):
        with pytest.raises(EngineError):
            TokenCoder(dataclasses.replace(model, **{name: wrong}))
