"""Integer probabilities: cumulative frequencies that sum to 2**16.

The entropy coder knows probabilities only as integers, so that every machine agrees on them. The
distribution of `n` symbols is a row of `n + 1` cumulative frequencies: entry `s` is where symbol
`s` starts in the interval from 0 to 65536, entry `s + 1` where it ends. A symbol whose start and
end are equal can't be coded.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.errors import SpecError

CDF_BITS = 16
CDF_TOTAL = 1 << CDF_BITS
COUNT_LIMIT = 1 << 46  # times 2**16 and summed, counts stay exact in 63 bits


def normalize_counts(counts: NDArray[Any], *, keep_all: bool = True) -> NDArray[np.uint32]:
    """Turn counts of symbols into cumulative frequencies that sum to 65536.

    Every kept symbol gets 1 and a share of the rest proportional to its count, rounded down; what
    rounding leaves goes, one each, to the largest remainders, the lower symbol first where two are
    equal. All in integers, so the result is the same everywhere.

    Parameters
    ----------
    counts : ndarray, shape (symbols,) or (contexts, symbols), integer, >= 0
        How often each symbol was seen; a row of zeros becomes uniform.
    keep_all : bool
        Whether symbols with count 0 stay possible. Otherwise they get no probability, except in a
        row of zeros.

    Returns
    -------
    ndarray, shape (contexts, symbols + 1), uint32
        Cumulative frequencies, one row per context.

    Raises
    ------
    SpecError
        If the counts aren't such an array, or have more than 65536 symbols.

    Examples
    --------
    >>> normalize_counts(np.array([3, 1, 0])).tolist()
    [[0, 49151, 65535, 65536]]
    """
    rows = np.atleast_2d(np.asarray(counts))
    if rows.ndim != 2 or rows.dtype.kind not in "iu" or not 1 <= rows.shape[1] <= CDF_TOTAL:
        raise SpecError(
            f"counts of dtype {rows.dtype} and shape {rows.shape}; expected integers of shape "
            f"(contexts, symbols) with 1 to {CDF_TOTAL} symbols"
        )
    if rows.size and (rows.min() < 0 or int(rows.max()) * rows.shape[1] >= COUNT_LIMIT):
        raise SpecError(f"counts from {rows.min()} to {rows.max()}; scale them to 0..2**30")
    cdfs = np.zeros((rows.shape[0], rows.shape[1] + 1), np.uint32)
    for cdf, row in zip(cdfs, rows.astype(np.int64), strict=True):
        cdf[1:] = np.cumsum(_normalize_row(row, keep_all))
    return cdfs


def check_cdfs(cdfs: NDArray[Any]) -> NDArray[np.uint32]:
    """Return cumulative frequencies as a C-contiguous uint32 array if they are valid.

    Parameters
    ----------
    cdfs : ndarray, shape (contexts, symbols + 1) or (symbols + 1,), uint32
        Each row starts at 0, never decreases and ends at 65536.

    Raises
    ------
    SpecError
        If shape, dtype or a row is not as described.
    """
    if not isinstance(cdfs, np.ndarray) or cdfs.dtype != np.uint32:
        found = getattr(cdfs, "dtype", type(cdfs).__name__)
        raise SpecError(f"cumulative frequencies of type {found}; convert them to uint32")
    rows = np.ascontiguousarray(np.atleast_2d(cdfs))
    if rows.ndim != 2 or not 1 <= rows.shape[0] <= CDF_TOTAL or not 2 <= rows.shape[1] <= 65537:
        raise SpecError(f"cumulative frequencies of shape {cdfs.shape}; expected (contexts, n + 1)")
    bad = (rows[:, 0] != 0) | (rows[:, -1] != CDF_TOTAL) | (rows[:, 1:] < rows[:, :-1]).any(axis=1)
    if bad.any():
        context = int(bad.argmax())
        raise SpecError(
            f"cumulative frequencies of context {context} run from {rows[context, 0]} to "
            f"{rows[context, -1]}; they must rise from 0 to {CDF_TOTAL} without a step back"
        )
    return rows


def _normalize_row(counts: NDArray[np.int64], keep_all: bool) -> NDArray[np.int64]:
    """Frequencies, shape (symbols,), sum 65536."""
    if not counts.any():
        counts = np.ones_like(counts)
    kept = np.ones(len(counts), bool) if keep_all else counts > 0
    shared = CDF_TOTAL - int(kept.sum())
    total = int(counts.sum())
    frequencies = kept + counts * shared // total
    left = CDF_TOTAL - int(frequencies.sum())
    remainders = np.where(kept, counts * shared % total, -1)
    # Stable: the order of equal remainders is part of the definition.
    frequencies[np.argsort(-remainders, kind="stable")[:left]] += 1
    return frequencies
