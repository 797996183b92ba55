"""Codebook lookup, in NumPy: exact for int8, in float64 for float16."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.errors import EngineError

CHUNK_SCORES = 1 << 24
"""Scores in memory at a time: 128 MiB."""

ROUNDING = 2.0**-23
"""Relative error of one float32 addition in a tensor core, which truncates."""


def codebook_lookup(
    latents: NDArray[Any], codes: NDArray[Any], cosine: bool = False
) -> NDArray[np.int32]:
    """Find the nearest code of each latent; the lowest index wins a tie, NaN never wins.

    Parameters
    ----------
    latents : ndarray, shape (..., dim), float16 or int8
    codes : ndarray, shape (n_codes, dim), dtype of the latents
    cosine : bool
        Take the code of the largest cosine instead; the codes are of unit length.

    Returns
    -------
    ndarray, shape (...), int32
    """
    rows = latents.reshape(-1, latents.shape[-1])
    tokens = np.empty(len(rows), np.int32)
    for part, scores in _score(rows, codes, cosine):
        tokens[part] = scores.argmax(axis=1)
    return tokens.reshape(latents.shape[:-1])


def count_ties(
    tokens: NDArray[Any], latents: NDArray[Any], codes: NDArray[Any], cosine: bool = False
) -> int:
    """Prove that tokens are those of the nearest codes, but for ties within rounding.

    A score summed in float32 from `dim` products and half a squared length, in any order, is wrong
    by at most `(dim + 2) 2**-23` of the sum of its terms' magnitudes. Where a token is not that of
    the reference, the scores of both must lie within the sum of their two errors, and the codes
    must differ: of equal ones the first must be found.

    Parameters
    ----------
    tokens : ndarray, shape (...), int32
        To be proven.
    latents, codes, cosine
        As `codebook_lookup` takes them.

    Returns
    -------
    int
        How many tokens are another than the reference's. Always 0 for int8.

    Raises
    ------
    EngineError
        If a token is out of range, or its code is farther than rounding explains.
    """
    rows = latents.reshape(-1, latents.shape[-1])
    given = tokens.reshape(-1)
    outside = (given < 0) | (given >= len(codes))
    if outside.any():
        where = int(outside.argmax())
        raise EngineError(f"token {where} is {given[where]}; there are {len(codes)} codes")
    ties = 0
    for part, scores in _score(rows, codes, cosine):
        best = scores.argmax(axis=1)
        for row in np.flatnonzero(best != given[part]):
            pair = [int(best[row]), int(given[part][row])]
            lost = scores[row, pair[0]] - scores[row, pair[1]]
            bound = _rounding(rows[part][row], codes[pair], cosine)
            equal = np.array_equal(codes[pair[0]], codes[pair[1]])
            if equal or not lost < bound:
                raise EngineError(
                    f"latent {part.start + row}: token {pair[1]} scores {lost:.3g} less than "
                    f"{pair[0]}; rounding explains {bound:.3g}"
                )
            ties += 1
    return ties


def _score(
    rows: NDArray[Any], codes: NDArray[Any], cosine: bool
) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Yield `x . c - |c|**2 / 2` for some rows at a time, -inf for NaN.

    For int8 these are halves of integers below 2**24, which float64 holds exactly.
    """
    wide = codes.astype(np.float64)
    offsets = 0.0 if cosine else 0.5 * np.square(wide).sum(axis=1)
    step = max(1, CHUNK_SCORES // len(codes))
    for start in range(0, len(rows), step):
        part = slice(start, min(start + step, len(rows)))
        with np.errstate(invalid="ignore"):
            scores = rows[part].astype(np.float64) @ wide.T - offsets
        yield part, np.where(np.isnan(scores), -np.inf, scores)


def _rounding(latent: NDArray[Any], pair: NDArray[Any], cosine: bool) -> float:
    """Error of the difference of two scores of a latent; 0 for integers."""
    if latent.dtype == np.int8:
        return 0.0
    wide = pair.astype(np.float64)
    terms = np.abs(wide * latent.astype(np.float64)).sum()
    if not cosine:
        terms += 0.5 * np.square(wide).sum()
    return float((len(latent) + 2) * ROUNDING * terms)
