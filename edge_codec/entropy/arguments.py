"""Checks of what callers hand to the entropy coder, shared by the C coder and its Python twin."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.errors import FrameError, SpecError

LANES = (1, 2, 4, 8, 16, 32)
MAX_COUNT = 1 << 28  # symbols per payload; the arrays of one call stay below 2 GiB
MAX_CONTEXTS = 1 << 16  # a context index has 16 bits


def check_lanes(lanes: int) -> int:
    """Return `lanes` if the coder has that many.

    Raises
    ------
    SpecError
        If not.
    """
    if lanes not in LANES:
        raise SpecError(f"rANS with {lanes!r} lanes; use one of {LANES}")
    return lanes


def check_count(count: int) -> int:
    """Return the number of symbols to decode if it is one.

    Raises
    ------
    SpecError
        If `count` is negative or above `MAX_COUNT`.
    """
    if not 0 <= count <= MAX_COUNT:
        raise SpecError(
            f"{count} symbols in one payload; 0 to {MAX_COUNT} are possible, split them"
        )
    return count


def check_n_contexts(n_contexts: int) -> int:
    """Return the number of contexts if an index of 16 bits can name them.

    Raises
    ------
    SpecError
        If not.
    """
    if not 1 <= n_contexts <= MAX_CONTEXTS:
        raise SpecError(f"{n_contexts} contexts; 1 to {MAX_CONTEXTS} are possible")
    return n_contexts


def check_symbols(symbols: NDArray[Any], wide: bool) -> NDArray[Any]:
    """Return the symbols as a flat C-contiguous array.

    Parameters
    ----------
    symbols : ndarray, any shape, uint8 or, if `wide`, uint16
    wide : bool
        Whether symbols of 16 bits are allowed.

    Raises
    ------
    FrameError
        If the dtype is another one, or there are more than `MAX_COUNT` symbols.
    """
    allowed = (np.uint8, np.uint16) if wide else (np.uint8,)
    if not isinstance(symbols, np.ndarray) or symbols.dtype not in allowed:
        found = getattr(symbols, "dtype", type(symbols).__name__)
        names = " or ".join(dtype.__name__ for dtype in allowed)
        raise FrameError(f"symbols of type {found}; convert them to an array of {names}")
    if symbols.size > MAX_COUNT:
        raise FrameError(f"{symbols.size} symbols, at most {MAX_COUNT} per call; split them")
    return np.ascontiguousarray(symbols).reshape(-1)


def check_contexts(
    contexts: NDArray[Any] | None, count: int, n_contexts: int
) -> NDArray[np.uint16] | None:
    """Return the context indices as a flat uint16 array, or None for "always context 0".

    Raises
    ------
    FrameError
        If their dtype is not uint8 or uint16, their number is not `count`, or one of them is
        `n_contexts` or more.
    """
    if contexts is None:
        return None
    if not isinstance(contexts, np.ndarray) or contexts.dtype not in (np.uint8, np.uint16):
        found = getattr(contexts, "dtype", type(contexts).__name__)
        raise FrameError(f"contexts of type {found}; convert them to an array of uint8 or uint16")
    if contexts.size != count:
        raise FrameError(f"{contexts.size} contexts for {count} symbols; give one per symbol")
    flat = np.ascontiguousarray(contexts, dtype=np.uint16).reshape(-1)
    if count and int(flat.max()) >= n_contexts:
        raise FrameError(f"context {int(flat.max())}, but only {n_contexts} have a table")
    return flat
