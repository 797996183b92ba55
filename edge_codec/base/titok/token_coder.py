"""Entropy coding of a slice's tokens: 32 numbers of 12 bits to some bytes and back, exactly."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.base.titok.products import Parts
from edge_codec.base.titok.range_coder import PartReader, write_parts
from edge_codec.base.titok.token_prior import (
    AROUND,
    CODE_DIM,
    CODES,
    GROUP,
    LOGIT_ONE,
    TOKENS,
    TokenPrior,
    frequencies,
    neighbor_places,
    stage_of,
    weights,
)
from edge_codec.errors import BitstreamError, FrameError

_PLACES = neighbor_places()
_NONE = np.full(TOKENS, CODES, np.intp)  # the row of zeros behind the codes


class _Room(threading.local):
    """Memory of a thread for what is made of all codes at all places: 2 MiB, until it ends.

    The allocator gives arrays of this size back when they are done with, and the system clears
    every page of the next one: that took longer than the arithmetic.
    """

    def __init__(self) -> None:
        self.scores, self.prices = np.empty((2, TOKENS, CODES), np.float32)
        self.logits, self.weights = np.empty((2, TOKENS, CODES), np.int32)


_ROOM = _Room()

Tokens = NDArray[np.uint16]


class TokenCoder:
    """Codes or decodes the tokens of one slice, frame after frame; keeps those of two frames.

    Parameters
    ----------
    prior : TokenPrior
        Any number of slices may share it.
    """

    def __init__(self, prior: TokenPrior) -> None:
        self._prior = prior
        self._before: list[Tokens] = []  # the latest first
        self._age = 0  # of the next frame in its group

    def encode(self, tokens: Tokens, key: bool) -> bytes:
        """Code the tokens of a frame.

        Parameters
        ----------
        tokens : ndarray, shape (32,), uint16, below 4096
        key : bool
            Whether the frame must be decodable without those before it.

        Raises
        ------
        FrameError
            If these are no tokens, or no frame came before and `key` is not set.
        """
        if tokens.shape != (TOKENS,) or tokens.dtype != np.uint16 or tokens.max() >= CODES:
            raise FrameError(
                f"tokens are {tokens.dtype} {tokens.shape}; expected {TOKENS} uint16 below {CODES}"
            )
        if not key and not self._before:
            raise FrameError("a predicted frame came before any key frame; begin with a key frame")
        shares = weights(self._logits(tokens, key), out=_ROOM.weights)
        payload = write_parts(_parts(tokens, shares))
        before, age = ([], 0) if key else (self._before, self._age)
        self._keep(tokens, before, age)
        return payload

    def choose(
        self, latents: NDArray[np.float32], nearness: Parts, thrift: float, key: bool
    ) -> Tokens:
        """Return a code for each latent that is near to it, and cheap.

        Parameters
        ----------
        latents : ndarray, shape (32, 12), float32, of length 1
        nearness : Parts
            The codebook, (12, 4096).
        thrift : float
            What a bit may cost in the cosine of code and latent. The bits are those that each code
            would take among the nearest ones.
        key : bool
            Whether nothing is expected from the frames before.

        Returns
        -------
        ndarray, shape (32,), uint16
        """
        scores = nearness.of(latents, out=_ROOM.scores)
        tokens = best(scores)
        if thrift:
            logits = self._logits(tokens, key)
            scores += np.multiply(logits, np.float32(thrift / LOGIT_ONE), out=_ROOM.prices)
            tokens = best(scores)
        return tokens

    def _logits(self, tokens: Tokens, key: bool) -> NDArray[np.int32]:
        """Return what the tokens before each place let expect there, (32, 4096), in 1/256 bit.

        They stay until the thread asks for others.
        """
        before, age = ([], 0) if key else (self._before, self._age)
        codes = self._codes(before)
        codes[:TOKENS] = self._prior.codes[tokens]
        around = codes[_PLACES].reshape(TOKENS, AROUND * CODE_DIM)
        return self._prior.logits(around, stage_of(age), slice(None), out=_ROOM.logits)

    def decode(self, payload: bytes, key: bool) -> Tokens:
        """Return the tokens of a frame, shape (32,), uint16.

        Raises
        ------
        BitstreamError
            If the payload is damaged or follows a frame that was not decoded.
        """
        if not key and not self._before:
            raise BitstreamError("a predicted frame came before any key frame of its slice")
        before, age = ([], 0) if key else (self._before, self._age)
        self._before = []  # until this frame is decoded, nothing can follow it
        reader = PartReader(payload)
        codes = self._codes(before)
        tokens = np.empty(TOKENS, np.uint16)
        for place in range(TOKENS):
            around = codes[_PLACES[place]].reshape(1, -1)
            shares = weights(self._prior.logits(around, stage_of(age), place))[0]
            group = _take(reader, shares.sum(axis=1))
            tokens[place] = group * GROUP + _take(reader, shares[group])
            codes[place] = self._prior.codes[tokens[place]]
        reader.close()
        self._keep(tokens, before, age)
        return tokens

    def _codes(self, before: list[Tokens]) -> NDArray[np.int8]:
        """Codes of all tokens that may be around one, shape (97, 12)."""
        rows: list[NDArray[Any]] = [_NONE, *before, *[_NONE] * (2 - len(before)), _NONE[:1]]
        codes: NDArray[np.int8] = self._prior.codes[np.concatenate(rows)]
        return codes

    def _keep(self, tokens: Tokens, before: list[Tokens], age: int) -> None:
        self._before = [tokens, *before[:1]]
        self._age = age + 1


def best(scores: NDArray[np.float32]) -> Tokens:
    """Return the codes of the largest scores, (n, 4096) to (n,)."""
    tokens: Tokens = np.argmax(scores, axis=1).astype(np.uint16)
    return tokens


def _parts(tokens: Tokens, shares: NDArray[np.int32]) -> list[tuple[int, int]]:
    """Return (start, frequency) of each token's group, and of the token within it."""
    every = np.arange(TOKENS)
    groups, places = np.divmod(tokens.astype(np.intp), GROUP)
    parts = []
    for symbols, counts in (
        (groups, frequencies(shares.sum(axis=2))),
        (places, frequencies(shares[every, groups])),
    ):
        ends = counts.cumsum(axis=1)[every, symbols]
        sizes = counts[every, symbols]
        parts.append(zip((ends - sizes).tolist(), sizes.tolist(), strict=True))
    return [part for pair in zip(*parts, strict=True) for part in pair]


def _take(reader: PartReader, shares: NDArray[Any]) -> int:
    """Read one symbol."""
    ends = frequencies(shares[None])[0].cumsum()
    symbol = int(ends.searchsorted(reader.peek(), side="right"))
    start = int(ends[symbol - 1]) if symbol else 0
    reader.take(start, int(ends[symbol]) - start)
    return symbol
