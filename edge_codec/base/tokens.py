"""Entropy coding of token frames: tokens and the slice's previous tokens to bytes and back.

The probabilities are those of `edge_codec.base.token_model`, which defines them; here they are
computed by C in the same integers. Every token is two symbols of `edge_codec.entropy.rans`, its
cluster and its leaf, in one lane, since a frame's payload is too small to pay for more states.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.base import _tokens
from edge_codec.base.token_model import TokenModel
from edge_codec.entropy.rans import Payload, raise_status
from edge_codec.errors import EngineError, FrameError, SpecError
from edge_codec.spec import MAX_FRAME_VOXELS, MAX_SIDE

_BAD_TOKEN = 8  # status of _tokens.c


class TokenCoder:
    """Codes frames of tokens with one model; keeps no state between frames.

    Parameters
    ----------
    model : TokenModel
        Tables, as `load_token_model` returns them.

    Raises
    ------
    EngineError
        If the tables do not fit each other.
    """

    def __init__(self, model: TokenModel) -> None:
        self._sizes = (model.n_clusters, model.n_leaves)
        self._n_codes = model.n_codes
        self._tables = tuple(_table(model, field.name) for field in fields(TokenModel))
        # An empty frame touches no table but checks all their sizes.
        if not isinstance(self._encode(np.empty((0, 0), np.uint16), None), bytes):
            raise EngineError(
                f"token model: tables for {self._sizes[0]} clusters of {self._sizes[1]} codes "
                "do not fit each other; reinstall the model"
            )

    def encode(self, tokens: NDArray[np.uint16], previous: NDArray[np.uint16] | None) -> bytes:
        """Code a frame of tokens.

        Parameters
        ----------
        tokens : ndarray, shape (h, w), uint16
        previous : ndarray, shape (h, w), uint16, or None
            Tokens of the slice's previous frame, None for a key frame.

        Returns
        -------
        bytes

        Raises
        ------
        FrameError
            If a frame has a wrong shape or dtype, or a token that the codebook does not have.
        """
        grid = _grid(tokens)
        before = None if previous is None else _grid(previous, grid.shape)
        payload = self._encode(grid, before)
        if isinstance(payload, int):
            raise self._bad_token(grid, before)
        return payload

    def decode(
        self, payload: Payload, h: int, w: int, previous: NDArray[np.uint16] | None
    ) -> NDArray[np.uint16]:
        """Decode what `encode` made of a frame with the same `previous`.

        Parameters
        ----------
        payload : bytes, bytearray or memoryview
        h, w : int
            Size of the frame in tokens.
        previous : ndarray, shape (h, w), uint16, or None

        Returns
        -------
        ndarray, shape (h, w), uint16, below the size of the codebook

        Raises
        ------
        BitstreamError
            If the payload is not that of such a frame.
        FrameError
            If `previous` does not fit.
        SpecError
            If the size is impossible.
        """
        if not (0 <= h <= MAX_SIDE and 0 <= w <= MAX_SIDE and h * w <= MAX_FRAME_VOXELS):
            raise SpecError(f"a frame of {h}x{w} tokens; at most {MAX_FRAME_VOXELS} are possible")
        before = None if previous is None else _grid(previous, (h, w))
        tokens = np.empty((h, w), np.uint16)
        status = _tokens.decode(self._tables, *self._sizes, payload, tokens, before, h, w)
        if status == _BAD_TOKEN:
            raise self._bad_token(before)
        raise_status(status, 2 * h * w)
        return tokens

    def _encode(self, grid: NDArray[np.uint16], before: NDArray[np.uint16] | None) -> bytes | int:
        return _tokens.encode(self._tables, *self._sizes, grid, before, *grid.shape)

    def _bad_token(self, *grids: NDArray[np.uint16] | None) -> FrameError:
        largest = max(int(grid.max()) for grid in grids if grid is not None)
        return FrameError(f"token {largest}, but the codebook has {self._n_codes} codes")


def _table(model: TokenModel, name: str) -> NDArray[Any]:
    """One table as C wants it."""
    table: NDArray[Any] = getattr(model, name)
    expected = np.uint32 if name == "exp2" else np.int16
    if table.dtype != expected:
        raise EngineError(f"token model: {name} is {table.dtype}, expected {expected.__name__}")
    return np.ascontiguousarray(table)


def _grid(tokens: NDArray[np.uint16], shape: tuple[int, ...] | None = None) -> NDArray[np.uint16]:
    """Return tokens C-contiguous if their dtype and shape are right."""
    if not isinstance(tokens, np.ndarray) or tokens.dtype != np.uint16 or tokens.ndim != 2:
        found = f"{getattr(tokens, 'dtype', type(tokens).__name__)} {np.shape(tokens)}"
        raise FrameError(f"tokens are {found}; expected uint16 of shape (h, w)")
    if shape is not None and tokens.shape != shape:
        raise FrameError(f"previous tokens have shape {tokens.shape}, the frame has {shape}")
    if max(tokens.shape) > MAX_SIDE or tokens.size > MAX_FRAME_VOXELS:
        raise FrameError(f"a frame of {tokens.shape} tokens; at most {MAX_FRAME_VOXELS} fit")
    return np.ascontiguousarray(tokens)
