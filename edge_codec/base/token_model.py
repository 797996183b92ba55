"""Probabilities of tokens from their neighbours, in integers only: the definition of the coding.

A token of a codebook of `K` codes is `cluster * L + leaf` with `C` clusters of `L = K / C` leaves;
similar codes share a cluster. Tokens are coded in raster order, each as its cluster and then its
leaf. Logits are integers in units of 1/256 bit, added up from one table row per neighbour:

- cluster: `cluster_bias + cluster_west[W] + cluster_north[N] + cluster_previous[P]`, with the
  rows chosen by the whole token (row `K`: no such neighbour), plus
  `cluster_northwest + cluster_northeast + cluster_previous_east + cluster_previous_south`, with
  the rows chosen by the neighbour's cluster (row `C`: no such neighbour);
- leaf: `leaf_bias[cluster]`, plus `leaf_west[W]`, `leaf_north[N]`, `leaf_previous[P]` for each of
  these neighbours that exists and is in the same cluster.

W, N, NW, NE are in the same frame, and P, its east and its south are in the previous frame of the
slice, at the same position and right of and below it; a key frame has no previous frame.

Logits become frequencies of 16 bits without a division per symbol (`frequencies`). The sum of the
tables' largest magnitudes is at most 32,767, so 16-bit additions in any order cannot wrap.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_codec.errors import EngineError

TOTAL = 1 << 16
"""Sum of the frequencies of one distribution."""

EXP2_SIZE = 4096
"""Entries of the table of powers; logits further below the largest count as the last entry."""

MAX_FILE = 1 << 24
"""Bytes of a token model's file that are read at most."""

# What NumPy raises for files that are empty, cut, no archive, or a bare array.
LOAD_ERRORS = (OSError, EOFError, KeyError, ValueError, TypeError, zipfile.BadZipFile, zlib.error)


class Neighbours(NamedTuple):
    """Tokens around a position, -1 where there is none."""

    west: int
    north: int
    northwest: int
    northeast: int
    previous: int
    previous_east: int
    previous_south: int


@dataclass(frozen=True, slots=True, eq=False)
class TokenModel:
    """Tables of the model, all C-contiguous, as stored in `token_model.npz` under the same names.

    Attributes
    ----------
    cluster_bias : ndarray, shape (C,), int16
    cluster_west, cluster_north, cluster_previous : ndarray, shape (K + 1, C), int16
    cluster_northwest, cluster_northeast : ndarray, shape (C + 1, C), int16
    cluster_previous_east, cluster_previous_south : ndarray, shape (C + 1, C), int16
    leaf_bias : ndarray, shape (C, L), int16
    leaf_west, leaf_north, leaf_previous : ndarray, shape (K, L), int16
    exp2 : ndarray, shape (4096,), uint32
        `exp2[d]` is 2**16 * 2**(-d/256), rounded; 65536 down to 1.
    """

    cluster_bias: NDArray[np.int16]
    cluster_west: NDArray[np.int16]
    cluster_north: NDArray[np.int16]
    cluster_previous: NDArray[np.int16]
    cluster_northwest: NDArray[np.int16]
    cluster_northeast: NDArray[np.int16]
    cluster_previous_east: NDArray[np.int16]
    cluster_previous_south: NDArray[np.int16]
    leaf_bias: NDArray[np.int16]
    leaf_west: NDArray[np.int16]
    leaf_north: NDArray[np.int16]
    leaf_previous: NDArray[np.int16]
    exp2: NDArray[np.uint32]

    @property
    def n_clusters(self) -> int:
        """C, the number of clusters."""
        return int(self.leaf_bias.shape[0])

    @property
    def n_leaves(self) -> int:
        """L, the number of codes per cluster."""
        return int(self.leaf_bias.shape[1])

    @property
    def n_codes(self) -> int:
        """K, the number of codes."""
        return self.n_clusters * self.n_leaves

    def cluster_cdf(self, around: Neighbours) -> NDArray[np.uint32]:
        """Cumulative frequencies of the clusters, shape (C + 1,), from 0 to 65536."""
        return cdf(self.cluster_logits(around))

    def leaf_cdf(self, cluster: int, around: Neighbours) -> NDArray[np.uint32]:
        """Cumulative frequencies of the leaves of a cluster, shape (L + 1,), from 0 to 65536."""
        return cdf(self.leaf_logits(cluster, around))

    def cluster_logits(self, around: Neighbours) -> NDArray[np.int32]:
        """Logits of the clusters, shape (C,), in 1/256 bit."""
        logits = self.cluster_bias.astype(np.int32)
        logits += self.cluster_west[around.west]
        logits += self.cluster_north[around.north]
        logits += self.cluster_previous[around.previous]
        # -1 is the last row of a table in NumPy's counting as well: the row for "no neighbour".
        logits += self.cluster_northwest[self._cluster(around.northwest)]
        logits += self.cluster_northeast[self._cluster(around.northeast)]
        logits += self.cluster_previous_east[self._cluster(around.previous_east)]
        logits += self.cluster_previous_south[self._cluster(around.previous_south)]
        return logits

    def leaf_logits(self, cluster: int, around: Neighbours) -> NDArray[np.int32]:
        """Logits of the leaves of `cluster`, shape (L,), in 1/256 bit."""
        logits: NDArray[np.int32] = self.leaf_bias[cluster].astype(np.int32)
        for token, table in (
            (around.west, self.leaf_west),
            (around.north, self.leaf_north),
            (around.previous, self.leaf_previous),
        ):
            if self._cluster(token) == cluster:
                logits += table[token]
        return logits

    def _cluster(self, token: int) -> int:
        """Cluster of a token, -1 of -1."""
        return token // self.n_leaves


def neighbours(
    tokens: NDArray[np.uint16], previous: NDArray[np.uint16] | None, row: int, column: int
) -> Neighbours:
    """Collect the tokens around a position.

    Parameters
    ----------
    tokens : ndarray, shape (h, w), uint16
        The frame; what lies at or after the position in raster order is not read.
    previous : ndarray, shape (h, w), uint16, or None
        The slice's previous frame, None for a key frame.
    row, column : int
    """
    h, w = tokens.shape

    def at(grid: NDArray[np.uint16] | None, r: int, c: int) -> int:
        inside = grid is not None and 0 <= r < h and 0 <= c < w
        return int(grid[r, c]) if grid is not None and inside else -1

    return Neighbours(
        west=at(tokens, row, column - 1),
        north=at(tokens, row - 1, column),
        northwest=at(tokens, row - 1, column - 1),
        northeast=at(tokens, row - 1, column + 1),
        previous=at(previous, row, column),
        previous_east=at(previous, row, column + 1),
        previous_south=at(previous, row + 1, column),
    )


def frequencies(logits: NDArray[np.int32]) -> NDArray[np.uint32]:
    """Turn logits into frequencies that sum to 65536, each at least 1.

    With `w[i] = exp2[min(max(logits) - logits[i], 4095)]`, their sum `s` and the reciprocal
    `r = floor(2**46 / s)`, the frequency is `1 + ((w[i] * r >> 16) * (65536 - n) >> 30)`; what the
    rounding leaves goes to the first of the largest logits. One division serves all symbols, and
    both products are of 32-bit factors: `w <= 2**16 <= s`, so `r <= 2**30` and `w * r <= 2**46`.

    Parameters
    ----------
    logits : ndarray, shape (..., n), int32, n < 65536

    Returns
    -------
    ndarray, shape (..., n), uint32
    """
    n = logits.shape[-1]
    largest = logits.max(axis=-1, keepdims=True)
    weights = exp2_table()[np.minimum(largest - logits, EXP2_SIZE - 1)].astype(np.uint64)
    reciprocal = np.uint64(1 << 46) // weights.sum(axis=-1, keepdims=True)
    shares = (weights * reciprocal) >> np.uint64(16)
    counts = 1 + ((shares * np.uint64(TOTAL - n)) >> np.uint64(30)).astype(np.int64)
    first = logits.argmax(axis=-1, keepdims=True)
    left = TOTAL - counts.sum(axis=-1, keepdims=True)
    np.put_along_axis(counts, first, np.take_along_axis(counts, first, -1) + left, -1)
    result: NDArray[np.uint32] = counts.astype(np.uint32)
    return result


def cdf(logits: NDArray[np.int32]) -> NDArray[np.uint32]:
    """Cumulative frequencies, shape (n + 1,), of logits of shape (n,)."""
    cumulative = np.zeros(len(logits) + 1, np.uint32)
    np.cumsum(frequencies(logits), out=cumulative[1:])
    return cumulative


def exp2_table() -> NDArray[np.uint32]:
    """Powers of two that weigh logits, shape (4096,): 2**16 * 2**(-d/256), rounded."""
    # No entry lies near a half, so any libm rounds to the same integers; loading checks it.
    return np.rint(2.0 ** (16 - np.arange(EXP2_SIZE) / 256)).astype(np.uint32)


def load_token_model(data: bytes) -> TokenModel:
    """Read a token model from the bytes of `token_model.npz`.

    Raises
    ------
    EngineError
        If an array is missing or has a wrong shape or dtype, or additions could wrap.
    """
    if len(data) > MAX_FILE:
        raise EngineError(f"token model of {len(data)} bytes, at most {MAX_FILE} are believed")
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            tables = {field.name: arrays[field.name] for field in fields(TokenModel)}
    except LOAD_ERRORS as error:
        raise EngineError(f"token_model.npz is malformed ({error}); reinstall") from error
    model = TokenModel(**{name: np.ascontiguousarray(table) for name, table in tables.items()})
    _check(model)
    return model


def _check(model: TokenModel) -> None:
    """Refuse tables that do not fit together."""
    if model.leaf_bias.ndim != 2:
        raise EngineError(f"token model: leaf_bias has shape {model.leaf_bias.shape}, not (C, L)")
    c, leaves = model.leaf_bias.shape
    k = c * leaves
    shapes: dict[str, tuple[int, ...]] = {"cluster_bias": (c,), "leaf_bias": (c, leaves)}
    shapes |= dict.fromkeys(("cluster_west", "cluster_north", "cluster_previous"), (k + 1, c))
    shapes |= dict.fromkeys(("cluster_northwest", "cluster_northeast"), (c + 1, c))
    shapes |= dict.fromkeys(("cluster_previous_east", "cluster_previous_south"), (c + 1, c))
    shapes |= dict.fromkeys(("leaf_west", "leaf_north", "leaf_previous"), (k, leaves))
    bounds = {"cluster": 0, "leaf": 0}
    for name, shape in shapes.items():
        table: NDArray[Any] = getattr(model, name)
        if table.shape != shape or table.dtype != np.int16:
            raise EngineError(
                f"token model: {name} is {table.dtype} {table.shape}, expected int16 {shape}"
            )
        bounds[name.split("_")[0]] += int(np.abs(table.astype(np.int32)).max())
    if max(bounds.values()) > np.iinfo(np.int16).max:
        raise EngineError(f"token model: sums of logits reach {bounds}, more than int16 holds")
    if model.exp2.dtype != np.uint32 or not np.array_equal(model.exp2, exp2_table()):
        raise EngineError("token model: exp2 is not the rounded table of powers")
