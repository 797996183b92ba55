"""Probabilities of a frame's tokens on the GPU: what the rANS encoder needs to code them.

An encoder knows the whole frame, so the distributions of all its tokens can be computed at once,
each from its neighbours: the integers of `edge_codec.base.token_model`, which defines them. Of each
distribution only the part of the token that occurred is kept. The pairs of a frame then go through
`edge_codec.kernels.rans.encode` in one lane, and the bytes are those of
`edge_codec.base.tokens.TokenCoder`.

That one lane is a chain of `2 * h * w` dependent steps, each a comparison, a division and a
multiplication long; no GPU shortens it, only the format could, by more lanes at 3 bytes each.
Frames of several slices are coded side by side.

Decoding tokens stays on the CPU (`TokenCoder.decode`): the distribution of a token depends on the
tokens decoded just before it, so that nothing could be computed at once.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
import triton
import triton.language as tl

from edge_codec.base.token_model import TokenModel, exp2_table
from edge_codec.errors import EngineError, FrameError
from edge_codec.kernels import rans
from edge_codec.kernels.rans import check_tensor, launch_config
from edge_codec.kernels.spec import KernelSpec
from edge_codec.kernels.tables import config

MAX_SYMBOLS = 4096
"""Clusters, or leaves of a cluster: the C coder's limit as well."""

ZOO = (64, 32)
"""Clusters and leaves of the shipped model, which is compiled ahead of time."""


@triton.jit
def neighbour(grid, at, row, column, h, w, valid, CODES: tl.constexpr):
    """Token at a place, `CODES` where there is none."""
    inside = valid & (row >= 0) & (row < h) & (column >= 0) & (column < w)
    token = tl.load(grid + at, mask=inside, other=CODES)
    return tl.where((token >= 0) & (token < CODES), token, CODES)


@triton.jit
def symbol_pair(logits, index, symbol, exp2, N: tl.constexpr):
    """`start | frequency - 1 << 16` of a symbol in the distribution that N logits make."""
    exists = index < N
    logits = tl.where(exists, logits, -(1 << 20))  # below any sum of logits
    largest = tl.max(logits, axis=1, keep_dims=True)
    below = tl.minimum(largest - logits, 4095)
    weights = tl.load(exp2 + below, mask=exists, other=0)
    total = tl.sum(weights, axis=1, keep_dims=True).to(tl.uint64)  # 2**16 to 2**28
    reciprocal = tl.full(total.shape, 1 << 46, tl.uint64) // total
    shares = (weights.to(tl.uint64) * reciprocal) >> 16
    counts = (1 + ((shares * (65536 - N)) >> 30)).to(tl.int32)
    counts = tl.where(exists, counts, 0)
    first = tl.min(tl.where(logits == largest, index, N), axis=1, keep_dims=True)
    left = 65536 - tl.sum(counts, axis=1, keep_dims=True)
    counts += tl.where(index == first, left, 0)
    start = tl.sum(tl.where(index < symbol, counts, 0), axis=1, keep_dims=True)
    frequency = tl.sum(tl.where(index == symbol, counts, 0), axis=1, keep_dims=True)
    return start | ((frequency - 1) << 16)


@triton.jit
def token_rates_kernel(
    tokens,  # (n_frames, h, w) int32
    previous,  # (n_frames, h, w) int32: the slices' previous frames, unread unless PREDICTED
    rows,  # int16: all tables but exp2 one after the other, in the order of TokenModel's fields
    exp2,  # (4096,) int32
    n_tokens,
    h,
    w,
    pairs,  # (n_frames, h, w, 2) int32: start | frequency - 1 << 16 of cluster and leaf
    CLUSTERS: tl.constexpr,
    LEAVES: tl.constexpr,
    PREDICTED: tl.constexpr,
    TOKENS: tl.constexpr,
    CLUSTER_BLOCK: tl.constexpr,
    LEAF_BLOCK: tl.constexpr,
):
    """Add up each token's logits, and turn them into the frequencies of its two symbols."""
    CODES: tl.constexpr = CLUSTERS * LEAVES
    WEST: tl.constexpr = CLUSTERS
    BY_TOKEN: tl.constexpr = (CODES + 1) * CLUSTERS
    NORTHWEST: tl.constexpr = WEST + 3 * BY_TOKEN
    BY_CLUSTER: tl.constexpr = (CLUSTERS + 1) * CLUSTERS
    LEAF_BIAS: tl.constexpr = NORTHWEST + 4 * BY_CLUSTER
    LEAF_WEST: tl.constexpr = LEAF_BIAS + CODES
    LEAF: tl.constexpr = CODES * LEAVES

    at = tl.program_id(0) * TOKENS + tl.arange(0, TOKENS)[:, None]
    valid = at < n_tokens
    row = at % (h * w) // w
    column = at % w
    west = neighbour(tokens, at - 1, row, column - 1, h, w, valid, CODES)
    north = neighbour(tokens, at - w, row - 1, column, h, w, valid, CODES)
    northwest = neighbour(tokens, at - w - 1, row - 1, column - 1, h, w, valid, CODES)
    northeast = neighbour(tokens, at - w + 1, row - 1, column + 1, h, w, valid, CODES)
    before = valid & PREDICTED
    same = neighbour(previous, at, row, column, h, w, before, CODES)
    east = neighbour(previous, at + 1, row, column + 1, h, w, before, CODES)
    south = neighbour(previous, at + w, row + 1, column, h, w, before, CODES)

    index = tl.arange(0, CLUSTER_BLOCK)[None, :]
    exists = index < CLUSTERS
    logits = tl.load(rows + index, mask=exists, other=0).to(tl.int32)
    table = rows + WEST + index
    logits += tl.load(table + west * CLUSTERS, mask=exists, other=0)
    logits += tl.load(table + BY_TOKEN + north * CLUSTERS, mask=exists, other=0)
    logits += tl.load(table + 2 * BY_TOKEN + same * CLUSTERS, mask=exists, other=0)
    table = rows + NORTHWEST + index
    # No token is CODES, and CODES // LEAVES is CLUSTERS, the row for no neighbour.
    logits += tl.load(table + northwest // LEAVES * CLUSTERS, mask=exists, other=0)
    table += BY_CLUSTER
    logits += tl.load(table + northeast // LEAVES * CLUSTERS, mask=exists, other=0)
    table += BY_CLUSTER
    logits += tl.load(table + east // LEAVES * CLUSTERS, mask=exists, other=0)
    table += BY_CLUSTER
    logits += tl.load(table + south // LEAVES * CLUSTERS, mask=exists, other=0)
    token = tl.load(tokens + at, mask=valid, other=0)
    token = tl.where((token >= 0) & (token < CODES), token, 0)
    cluster = token // LEAVES
    pair = symbol_pair(logits, index, cluster, exp2, CLUSTERS)
    tl.store(pairs + 2 * at, pair, mask=valid)

    index = tl.arange(0, LEAF_BLOCK)[None, :]
    exists = index < LEAVES
    logits = tl.load(rows + LEAF_BIAS + cluster * LEAVES + index, mask=exists, other=0)
    logits = logits.to(tl.int32)
    table = rows + LEAF_WEST + index
    near = exists & (west // LEAVES == cluster)
    logits += tl.load(table + west * LEAVES, mask=near, other=0)
    near = exists & (north // LEAVES == cluster)
    logits += tl.load(table + LEAF + north * LEAVES, mask=near, other=0)
    near = exists & (same // LEAVES == cluster)
    logits += tl.load(table + 2 * LEAF + same * LEAVES, mask=near, other=0)
    pair = symbol_pair(logits, index, token - cluster * LEAVES, exp2, LEAVES)
    tl.store(pairs + 2 * at + 1, pair, mask=valid)


@dataclass(frozen=True, slots=True, eq=False)
class RateTables:
    """Tables of a token model in memory of a device.

    Attributes
    ----------
    rows : torch.Tensor, int16
        All tables of `TokenModel` but the last, one after the other.
    exp2 : torch.Tensor, shape (4096,), int32
    n_clusters, n_leaves : int
    """

    rows: torch.Tensor
    exp2: torch.Tensor
    n_clusters: int
    n_leaves: int


def rate_tables(model: TokenModel, device: torch.device | str) -> RateTables:
    """Put the tables of a token model on a device.

    Raises
    ------
    EngineError
        If they do not fit each other.
    """
    c, leaves, k = model.n_clusters, model.n_leaves, model.n_codes
    if not (1 <= c <= MAX_SYMBOLS and 1 <= leaves <= MAX_SYMBOLS and k <= 1 << 16):
        raise EngineError(
            f"token model: {c} clusters of {leaves} codes; {MAX_SYMBOLS} are possible"
        )
    shapes = [(c,), *[(k + 1, c)] * 3, *[(c + 1, c)] * 4, (c, leaves), *[(k, leaves)] * 3]
    tables = [getattr(model, field.name) for field in fields(TokenModel)[:-1]]
    for table, shape, field in zip(tables, shapes, fields(TokenModel), strict=False):
        if table.shape != shape or table.dtype != np.int16:
            raise EngineError(
                f"token model: {field.name} is {table.dtype} {table.shape}, not int16 {shape}; "
                "reinstall the model"
            )
    if not np.array_equal(model.exp2, exp2_table()):
        raise EngineError("token model: exp2 is not the table of powers; reinstall the model")
    return RateTables(
        rows=torch.from_numpy(np.concatenate([table.ravel() for table in tables])).to(device),
        exp2=torch.from_numpy(model.exp2.astype(np.int32)).to(device),
        n_clusters=c,
        n_leaves=leaves,
    )


def token_pairs(
    tokens: torch.Tensor,
    previous: torch.Tensor | None,
    tables: RateTables,
    *,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """Compute what `rans.encode` codes for frames of tokens.

    Parameters
    ----------
    tokens : torch.Tensor, shape (n_frames, h, w), int32
        Tokens that the codebook does not have count as token 0, or as no neighbor: nothing is read
        outside of the tables, but what is coded is not the frame. `encode_tokens` refuses them.
    previous : torch.Tensor, shape (n_frames, h, w), int32, or None
        The previous frame of each slice, None for key frames.
    tables : RateTables
    out : torch.Tensor, shape (n_frames, h, w, 2), int32, optional

    Returns
    -------
    torch.Tensor, shape (n_frames, h, w, 2), int32
        `start | frequency - 1 << 16` of each token's cluster and leaf, the bits of a uint32.

    Raises
    ------
    EngineError
        If a tensor has a wrong dtype, shape or device.
    """
    device = tokens.device
    variant = "key" if previous is None else "predicted"
    tile = launch_config("token_rates", variant, token_rates_kernel, device)
    if tokens.ndim != 3:
        raise EngineError(f"tokens of shape {tuple(tokens.shape)}; expected (frames, h, w)")
    n_frames, h, w = tokens.shape
    check_tensor("tokens", tokens, (torch.int32,), tokens.shape, device)
    if previous is not None:
        check_tensor("previous", previous, (torch.int32,), tokens.shape, device)
    check_tensor("the tables", tables.rows, (torch.int16,), tables.rows.shape, device)
    if out is None:
        out = torch.empty((n_frames, h, w, 2), dtype=torch.int32, device=device)
    check_tensor("out", out, (torch.int32,), (n_frames, h, w, 2), device)
    if tokens.numel():
        token_rates_kernel[(triton.cdiv(tokens.numel(), tile.constants["TOKENS"]),)](
            tokens,
            tokens if previous is None else previous,
            tables.rows,
            tables.exp2,
            tokens.numel(),
            h,
            w,
            out,
            **_sizes(tables.n_clusters, tables.n_leaves),
            PREDICTED=previous is not None,
            **tile.constants,
            num_warps=tile.num_warps,
            num_stages=tile.num_stages,
        )
    return out


def encode_tokens(
    tokens: torch.Tensor, previous: torch.Tensor | None, tables: RateTables
) -> list[bytes]:
    """Code frames of tokens: the bytes of `TokenCoder.encode`, one payload per frame.

    Parameters
    ----------
    tokens, previous, tables
        As in `token_pairs`.

    Raises
    ------
    FrameError
        If a token is not in the codebook.
    EngineError
        If a tensor has a wrong dtype, shape or device.
    """
    pairs = token_pairs(tokens, previous, tables)
    n_codes = tables.n_clusters * tables.n_leaves
    for grid in (tokens, previous):
        if grid is not None and grid.numel() and not bool(((grid >= 0) & (grid < n_codes)).all()):
            raise FrameError(f"token {int(grid.max())}, but the codebook has {n_codes} codes")
    n_frames, h, w = tokens.shape
    offsets = torch.arange(n_frames + 1, dtype=torch.int32, device=tokens.device) * (2 * h * w)
    capacity = rans.slot_words(2 * h * w, 1)
    return rans.download(rans.encode(pairs.view(-1), offsets, 1, capacity))


def specs(capability: int) -> tuple[KernelSpec, ...]:
    """Return what is compiled ahead of time: key and predicted frames of the shipped model."""
    types = {"tokens": "*i32", "previous": "*i32", "rows": "*i16", "exp2": "*i32"} | {
        "n_tokens": "i32", "h": "i32", "w": "i32", "pairs": "*i32"
    }  # fmt: skip
    variants = []
    for variant in ("key", "predicted"):
        tile = config("token_rates", variant, capability)
        constants = {**_sizes(*ZOO), "PREDICTED": variant == "predicted", **tile.constants}
        name = f"token_rates_{variant}"
        variants.append(
            KernelSpec(name, token_rates_kernel, types, constants, tile.num_warps, tile.num_stages)
        )
    return tuple(variants)


def _sizes(n_clusters: int, n_leaves: int) -> dict[str, int]:
    """Constants that follow from the model."""
    return {
        "CLUSTERS": n_clusters,
        "LEAVES": n_leaves,
        "CLUSTER_BLOCK": triton.next_power_of_2(n_clusters),
        "LEAF_BLOCK": triton.next_power_of_2(n_leaves),
    }
