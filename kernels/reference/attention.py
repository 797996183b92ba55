"""Attention in NumPy float64, and how far float16 kernels may be from it.

Each function returns what is expected and the largest error that the kernels' roundings explain,
worst case for worst case, so that a comparison needs no tolerance of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.errors import EngineError

HALF = 2.0**-11
"""Relative error of rounding to float16."""

TINY = 2.0**-25
"""Absolute error of rounding to float16 below its normal numbers."""

SUM = 2.0**-23
"""Relative error of one float32 addition in a tensor core, which truncates."""

Bounded = tuple[NDArray[np.float64], NDArray[np.float64]]


def attention(
    q: NDArray[np.float16],
    k: NDArray[np.float16],
    v: NDArray[np.float16],
    heads: int,
    key_mask: NDArray[Any] | None = None,
    q_bias: NDArray[np.float16] | None = None,
    v_bias: NDArray[np.float16] | None = None,
    scale: float | None = None,
) -> Bounded:
    """Attend from each query to the keys that count; 0 where none does.

    Parameters
    ----------
    q : ndarray, shape (batch, n_queries, heads * dim), float16
    k, v : ndarray, shape (batch, n_keys, heads * dim), float16
    key_mask : ndarray, shape (batch, n_keys), optional
        Not 0 where a key counts.
    q_bias, v_bias : ndarray, shape (heads * dim,), float16, optional
        Added to the queries, whose sum is rounded to float16, and to the values.

    Returns
    -------
    expected, bound : ndarray, shape of `q`, float64
    """
    keep = np.ones(k.shape[:2], bool) if key_mask is None else key_mask.astype(bool)
    queries = q if q_bias is None else q + q_bias
    offset = np.zeros(q.shape[-1]) if v_bias is None else v_bias.astype(np.float64)
    expected, bound = np.empty(q.shape), np.empty(q.shape)
    for batch in range(len(q)):
        for head in _heads(q.shape[-1], heads):
            expected[batch, :, head], bound[batch, :, head] = _attend(
                queries[batch, :, head],
                k[batch, :, head],
                v[batch, :, head],
                np.broadcast_to(keep[batch], (q.shape[1], k.shape[1])),
                offset[head],
                scale,
            )
    return expected, bound


def window_attention(
    q: NDArray[np.float16],
    k: NDArray[np.float16],
    v: NDArray[np.float16],
    heads: int,
    window: int,
    halo: int,
    scale: float | None = None,
) -> Bounded:
    """Attend from each position of a map to its window, and a halo around it, of another map.

    Parameters
    ----------
    q, k, v : ndarray, shape (batch, rows, columns, heads * dim), float16

    Returns
    -------
    expected, bound : ndarray, shape of `q`, float64
    """
    batch, rows, columns, width = q.shape
    row, column = (part.ravel() for part in np.mgrid[:rows, :columns])
    near = _near(row, window, halo) & _near(column, window, halo)
    queries, keys, values = (part.reshape(batch, rows * columns, width) for part in (q, k, v))
    offset = np.zeros(width // heads)
    expected, bound = np.empty(queries.shape), np.empty(queries.shape)
    for index in range(batch):
        for head in _heads(width, heads):
            part = index, slice(None), head
            expected[part], bound[part] = _attend(
                queries[part], keys[part], values[part], near, offset, scale
            )
    return expected.reshape(q.shape), bound.reshape(q.shape)


def norm_projection(
    x: NDArray[np.float16],
    weight: NDArray[np.float16],
    bias: NDArray[np.float32],
    eps: float = 1e-5,
) -> Bounded:
    """Normalize over the last axis and apply a linear layer with the norm's factors folded in.

    Parameters
    ----------
    x : ndarray, shape (..., width), float16
    weight : ndarray, shape (outputs, width), float16
    bias : ndarray, shape (outputs,), float32

    Returns
    -------
    expected, bound : ndarray, shape (..., outputs), float64
    """
    wide, matrix = x.astype(np.float64), weight.astype(np.float64).T
    mean = wide.mean(axis=-1, keepdims=True)
    inverse = 1 / np.sqrt(wide.var(axis=-1, keepdims=True) + eps)
    expected = (wide - mean) * inverse @ matrix + bias
    terms = np.abs(wide) @ np.abs(matrix) + np.abs(mean * matrix.sum(axis=0))
    # The variance's relative error is that of a sum of squares up to `width` times its mean.
    spread = np.abs(expected - bias) * SUM * len(matrix)
    summing = (len(matrix) + 3) * SUM * terms * inverse
    return expected, summing + spread + HALF * np.abs(expected) + TINY


def check_bound(found: NDArray[Any], bounded: Bounded) -> float:
    """Compare a result with a reference.

    Parameters
    ----------
    found : ndarray
    bounded : (expected, bound)

    Returns
    -------
    float
        Largest error as a part of its bound, at most 1.

    Raises
    ------
    EngineError
        If an error is beyond its bound, or a result is not finite.
    """
    expected, bound = bounded
    error = np.abs(found.astype(np.float64) - expected)
    share = error / bound
    if not (share <= 1).all():
        where = np.unravel_index(
            int(np.argmax(np.where(np.isnan(share), np.inf, share))), share.shape
        )
        raise EngineError(
            f"result {tuple(map(int, where))} is {found[where]}, not {expected[where]:.6g}; "
            f"rounding explains {bound[where]:.3g}"
        )
    return float(share.max())


def _heads(width: int, heads: int) -> list[slice]:
    dim = width // heads
    return [slice(head * dim, (head + 1) * dim) for head in range(heads)]


def _near(position: NDArray[np.int64], window: int, halo: int) -> NDArray[np.bool_]:
    """Whether a key's coordinate lies in a query's enlarged window: (queries, keys)."""
    start = (position // window * window)[:, None]
    return (position[None] >= start - halo) & (position[None] < start + window + halo)


def _attend(
    q: NDArray[np.float16],
    k: NDArray[np.float16],
    v: NDArray[np.float16],
    keep: NDArray[np.bool_],
    offset: NDArray[np.float64],
    scale: float | None,
) -> Bounded:
    """Attention of one head: q (M, D), k and v (N, D), keep (M, N), offset (D,)."""
    queries, keys, values = (part.astype(np.float64) for part in (q, k, v))
    factor = 1 / np.sqrt(q.shape[1]) if scale is None else scale
    score = np.where(keep, queries @ keys.T * factor, -np.inf)
    counts = keep.any(axis=1, keepdims=True)
    highest = np.where(counts, score.max(axis=1, keepdims=True), 0.0)
    weight = np.exp(score - highest)
    weight /= np.where(counts, weight.sum(axis=1, keepdims=True), 1.0)
    expected = weight @ values + offset * counts
    # A score's error multiplies its weight; the weights' sum errs as much at most.
    terms = np.abs(queries) @ np.abs(keys).T * factor
    score_error = (q.shape[1] + 4) * SUM * np.where(keep, terms, 0).max(axis=1, keepdims=True)
    wrong = np.expm1(np.minimum(2 * score_error, 1.0))
    size = weight @ np.abs(values)
    # Weights are rounded before the product; those below 2**-14 by an absolute error.
    rounding = (HALF + wrong + 2 * len(k) * SUM) * size + len(k) * TINY * np.abs(values).max()
    # Where scores are too large for that, the result is still a mean of values.
    rounding = np.where(score_error > 0.5, 2 * np.abs(values).max(), rounding)
    return expected, (1 + HALF) * rounding + HALF * np.abs(expected) + TINY
