"""What is expected of a token, given the tokens before it: a small network in integers.

The 32 tokens of a frame stand for the stretches of the picture that they begin from, 8 rows of 4.
Around a token are 16 others that are known by then: 6 of its own frame, 9 of the frame before, and
the one at its place in the frame before that. Their codes, 8 bits a number, go through two hidden
layers to a vector; its products with one vector for each of the 4,096 tokens are logits in units of
1/256 bit. Logits become frequencies of 16 bits in two steps, of the token's group of 64 and of the
token within it, so that tokens that nobody expects cost the others little.

All is integer arithmetic: sums stay below 2**53 (2**24 in `_scores`), where floats of 64 (32) bits
are exact in any order of addition. The float network that the tables come from, and how they are
learned, is `edge_codec.training.titok_tables`; docs/bitstream.md section 15.2 is the specification.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.base.titok.products import Parts
from edge_codec.errors import EngineError

TOKENS = 32
GRID = (8, 4)
CODES = 4096
CODE_DIM = 12
GROUP = 64
TOTAL = 1 << 16

CURRENT = ((0, -1), (0, -2), (-1, -1), (-1, 0), (-1, 1), (-2, 0))
BEFORE = ((0, 0), (0, -1), (0, 1), (-1, 0), (1, 0), (-1, -1), (-1, 1), (1, -1), (1, 1))
"""(row, column) of the tokens around, in the frame itself and in the one before."""

AROUND = len(CURRENT) + len(BEFORE) + 1
STAGES = 12
REPEATED = 4
"""Frames of a group are told apart by their number; from number `STAGES` on, the last stages take
turns, as in the network."""

HIDDEN_MOST = 4095
VECTOR_MOST = 2047
ENTER_SHIFT, MIDDLE_SHIFT, LEAVE_SHIFT, SCORE_SHIFT = 10, 12, 14, 4
LOGIT_ONE = 256
"""Units of a logit in a bit."""

POWER_BITS = 24
POWERS = POWER_BITS * LOGIT_ONE
MAX_FILE = 1 << 24

LOAD_ERRORS = (OSError, EOFError, KeyError, ValueError, TypeError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, slots=True, eq=False)
class PriorTables:
    """Weights of the network, as stored in `token_model.npz` under the same names.

    Attributes
    ----------
    codes : ndarray, shape (4096, 12), int8
        The codebook times 127, rounded.
    enter : ndarray, shape (192, h), int16
    enter_bias : ndarray, shape (12, 32, h), int32
        For each stage of a group and each place.
    middle : ndarray, shape (h, h), int16
    middle_bias : ndarray, shape (h,), int32
    leave : ndarray, shape (h, d), int16
    across : ndarray, shape (192, d), int16
        From the codes around past the hidden layers.
    leave_bias : ndarray, shape (d,), int32
    embed : ndarray, shape (4096, d), int8
        A vector for each token.
    bias : ndarray, shape (4096,), int16
    """

    codes: NDArray[np.int8]
    enter: NDArray[np.int16]
    enter_bias: NDArray[np.int32]
    middle: NDArray[np.int16]
    middle_bias: NDArray[np.int32]
    leave: NDArray[np.int16]
    across: NDArray[np.int16]
    leave_bias: NDArray[np.int32]
    embed: NDArray[np.int8]
    bias: NDArray[np.int16]


class TokenPrior:
    """Logits of tokens.

    Parameters
    ----------
    tables : PriorTables

    Raises
    ------
    EngineError
        If the tables do not fit each other, or a sum could be inexact.
    """

    def __init__(self, tables: PriorTables) -> None:
        _check(tables)
        self.codes = np.concatenate([tables.codes, np.zeros((1, CODE_DIM), np.int8)])
        # Floats that hold integers: exact, and products of matrices are fast for them alone.
        self._enter = Parts(tables.enter.astype(np.float64))
        self._enter_bias = tables.enter_bias.astype(np.float64)
        self._middle = Parts(tables.middle.astype(np.float64))
        self._middle_bias = tables.middle_bias.astype(np.float64)
        leave = np.concatenate([tables.leave, tables.across]).astype(np.float64)
        self._leave = Parts(leave)
        self._leave_bias = tables.leave_bias.astype(np.float64)
        self._embed = Parts(tables.embed.astype(np.float32).T)
        self._bias = tables.bias.astype(np.int32)

    def logits(
        self,
        around: NDArray[np.int8],
        stage: int,
        places: slice | int,
        out: NDArray[np.int32] | None = None,
    ) -> NDArray[np.int32]:
        """Return logits, shape (n, 4096), in 1/256 bit.

        Parameters
        ----------
        around : ndarray, shape (n, 192), int8
            Codes of the tokens around.
        stage : int
            See `stage_of`.
        places : slice or int
            Which of the 32 tokens.
        out : ndarray, shape (n, 4096), int32, optional
            Where to write them.
        """
        inputs = around.astype(np.float64)
        bias = self._enter_bias[stage, places]
        hidden = _rectify(self._enter.of(inputs) + bias, ENTER_SHIFT)
        hidden = _rectify(self._middle.of(hidden) + self._middle_bias, MIDDLE_SHIFT)
        joined = np.concatenate([hidden, inputs], axis=1)
        vector = np.floor((self._leave.of(joined) + self._leave_bias) / (1 << LEAVE_SHIFT))
        return self._scores(np.clip(vector, -VECTOR_MOST, VECTOR_MOST), out)

    def _scores(
        self, vectors: NDArray[np.float64], out: NDArray[np.int32] | None
    ) -> NDArray[np.int32]:
        products = self._embed.of(vectors.astype(np.float32), out)
        scores: NDArray[np.int32] = products.astype(np.int32, copy=False)
        scores >>= SCORE_SHIFT
        scores += self._bias
        return scores


def _rectify(sums: NDArray[np.float64], shift: int) -> NDArray[np.float64]:
    return np.clip(np.floor(sums / (1 << shift)), 0, HIDDEN_MOST)


def stage_of(age: int) -> int:
    """Return the stage of a frame by how many frames of its group came before it."""
    return age if age < STAGES else STAGES - REPEATED + (age - STAGES) % REPEATED


def neighbor_places() -> NDArray[np.intp]:
    """Return where the tokens around each token are, shape (32, 16).

    Places 0 to 31 are the frame's own tokens, 32 to 63 those of the frame before, 64 to 95 of the
    one before that; 96 is none.
    """
    rows, columns = GRID
    places = np.full((TOKENS, AROUND), 3 * TOKENS, np.intp)
    for token in range(TOKENS):
        row, column = divmod(token, columns)
        steps = [(0, step) for step in CURRENT] + [(TOKENS, step) for step in BEFORE]
        for slot, (frame, (down, right)) in enumerate(steps):
            r, c = row + down, column + right
            if 0 <= r < rows and 0 <= c < columns:
                places[token, slot] = frame + r * columns + c
        places[token, -1] = 2 * TOKENS + token
    return places


def powers() -> NDArray[np.int32]:
    """Return what weighs logits, shape (6144,): 2**24 * 2**(-d/256), rounded."""
    # No entry lies near a half, so any libm rounds to the same integers.
    return np.rint(2.0 ** (POWER_BITS - np.arange(POWERS) / LOGIT_ONE)).astype(np.int32)


_POWERS = powers()


def weights(logits: NDArray[np.int32], out: NDArray[np.int32] | None = None) -> NDArray[np.int32]:
    """Turn logits (n, 4096) into weights of groups of tokens, shape (n, 64, 64), up to 2**24.

    With `out`, (n, 4096) int32, they are written there, and the logits are lost.
    """
    most = logits.max(axis=1, keepdims=True)
    below = np.subtract(most, logits, out=None if out is None else logits)
    found: NDArray[np.int32] = _POWERS.take(below, mode="clip", out=out)
    return found.reshape(len(logits), -1, GROUP)


def frequencies(weights_of: NDArray[Any]) -> NDArray[np.int64]:
    """Turn weights of n symbols, at most 2**36 in all, into frequencies that add up to 65536.

    Each symbol gets 1 and its share of the others, rounded down; what is left goes to the first of
    the largest.

    Parameters
    ----------
    weights_of : ndarray, shape (m, n), integer

    Returns
    -------
    ndarray, shape (m, n), int64
    """
    shares = weights_of.astype(np.int64)
    m, n = shares.shape
    counts: NDArray[np.int64] = 1 + shares * (TOTAL - n) // shares.sum(axis=1, keepdims=True)
    counts[np.arange(m), shares.argmax(axis=1)] += TOTAL - counts.sum(axis=1)
    return counts


def load_tables(data: bytes) -> PriorTables:
    """Read tables from the bytes of `token_model.npz`.

    Raises
    ------
    EngineError
        If an array is missing or the file is none.
    """
    if len(data) > MAX_FILE:
        raise EngineError(f"token model of {len(data)} bytes, at most {MAX_FILE} are believed")
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return PriorTables(
                **{
                    field.name: np.ascontiguousarray(arrays[field.name])
                    for field in fields(PriorTables)
                }
            )
    except LOAD_ERRORS as error:
        raise EngineError(f"token_model.npz is malformed ({error}); reinstall") from error


def _check(tables: PriorTables) -> None:
    """Refuse tables that do not fit together, or whose sums could be inexact."""
    hidden, dim = tables.leave.shape if tables.leave.ndim == 2 else (0, 0)
    expected: dict[str, tuple[type, tuple[int, ...]]] = {
        "codes": (np.int8, (CODES, CODE_DIM)),
        "enter": (np.int16, (AROUND * CODE_DIM, hidden)),
        "enter_bias": (np.int32, (STAGES, TOKENS, hidden)),
        "middle": (np.int16, (hidden, hidden)),
        "middle_bias": (np.int32, (hidden,)),
        "leave": (np.int16, (hidden, dim)),
        "across": (np.int16, (AROUND * CODE_DIM, dim)),
        "leave_bias": (np.int32, (dim,)),
        "embed": (np.int8, (CODES, dim)),
        "bias": (np.int16, (CODES,)),
    }
    for name, (dtype, shape) in expected.items():
        table = getattr(tables, name)
        if table.shape != shape or table.dtype != dtype or not table.size:
            raise EngineError(
                f"token model: {name} is {table.dtype} {table.shape}, expected {np.dtype(dtype)} "
                f"{shape}; reinstall"
            )
    largest = int(np.abs(tables.embed.astype(np.int64)).sum(axis=1).max()) * VECTOR_MOST
    if largest >= 1 << 24 or hidden > 1 << 16:
        raise EngineError(
            f"token model: products of embed reach {largest}, more than floats add exactly"
        )
