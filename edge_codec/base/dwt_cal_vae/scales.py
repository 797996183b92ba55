"""Costs of symbols under the Laplace distributions of the table, for the encoder's choices.

The same formulas as `edge_codec.nn.laplace`; the decoder has integer tables instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edge_codec.base.dwt_cal_vae.numbers import SCALES

SMALLEST_LOG_SCALE = -4.75
LARGEST_LOG_SCALE = 6.5


@dataclass(frozen=True, slots=True, eq=False)
class SymbolBits:
    """Bits of symbols by index of the scale.

    Attributes
    ----------
    width : ndarray, shape (64,), float32
        Mean magnitudes, in steps.
    zero, first, more : ndarray, shape (64,), float32
        Bits of 0, of 1 or -1, and what each larger magnitude costs more.
    """

    width: NDArray[np.float32]
    zero: NDArray[np.float32]
    first: NDArray[np.float32]
    more: NDArray[np.float32]


@lru_cache(maxsize=1)
def symbol_bits() -> SymbolBits:
    """Return the costs of all symbols.

    Notes
    -----
    P(0) = 1 - exp(-1 / (2 b)), P(r) = exp(-(|r| - 1/2) / b) (1 - exp(-1 / b)) / 2.
    """
    width = np.exp2(np.linspace(SMALLEST_LOG_SCALE, LARGEST_LOG_SCALE, SCALES))
    rate = 1.0 / width
    zero = -np.log2(-np.expm1(-0.5 * rate))
    first = 0.5 * rate / np.log(2.0) - np.log2(-0.5 * np.expm1(-rate))
    more = rate / np.log(2.0)
    return SymbolBits(*(values.astype(np.float32) for values in (width, zero, first, more)))
