"""Tokens chosen with a price on bits, to compare two codecs at the same bits per voxel.

The encoder is free to choose any token. Here it takes the one of least `distance + price * bits`
among the nearest codes, where the bits are those of the token model in the context of the previous
frame's chosen tokens and of the nearest tokens around. A price of zero is the nearest code; a
higher price saves bits and loses fidelity. Two codecs that spend different numbers of bits are both
held to the same, lower number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_codec.base.token_model import TokenModel
from edge_codec.calibration.chain import KEY_INTERVAL, Passed, Rate

CANDIDATES = 8
BISECTIONS = 10
TOLERANCE = 0.001
"""Least share of the target by which the bits may stay below it."""


class TableCodec(Protocol):
    """What is asked of a codec: latents, scores of codes, and frames of tokens."""

    def latents(self, frames: NDArray[np.uint8]) -> NDArray[Any]:
        """Encode frames (n, 1, 8h, 8w) to latents (n, h, w, dim)."""
        ...

    def scores(self, latents: NDArray[Any]) -> NDArray[np.float32]:
        """Return minus half the squared distance to every code, up to a constant per latent."""
        ...

    def decode(self, tokens: NDArray[np.int32]) -> Passed:
        """Decode tokens (n, h, w) to frames."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """The nearest codes of one frame.

    Attributes
    ----------
    tokens : ndarray, shape (h, w, k), int64
        Nearest first.
    distances : ndarray, shape (h, w, k), float32
        Half the squared distance beyond that of the nearest.
    """

    tokens: NDArray[np.int64]
    distances: NDArray[np.float32]


def candidates(codec: TableCodec, frame: NDArray[np.uint8]) -> Candidates:
    """Find the nearest codes of a frame (1, 1, 8h, 8w)."""
    latents = codec.latents(frame)
    scores = codec.scores(latents)
    some = np.argpartition(-scores, CANDIDATES, axis=1)[:, :CANDIDATES]
    found = np.take_along_axis(scores, some, 1)
    order = np.argsort(-found, axis=1, kind="stable")
    tokens = np.take_along_axis(some, order, 1)
    distances = found.max(axis=1, keepdims=True) - np.take_along_axis(found, order, 1)
    shape = (*latents.shape[1:3], CANDIDATES)
    return Candidates(tokens.reshape(shape), distances.reshape(shape))


class TokenPrices:
    """Bits of tokens by the token model.

    Parameters
    ----------
    model : TokenModel
    """

    def __init__(self, model: TokenModel) -> None:
        self._model = model
        self._leaves = model.n_leaves

    def bits(
        self,
        found: NDArray[np.int64],
        nearest: NDArray[np.int64],
        previous: NDArray[np.int64] | None,
    ) -> NDArray[np.float64]:
        """Return the bits of candidates (h, w, k) among tokens (h, w); both without edges."""
        model = self._model
        none = np.full_like(nearest, -1)
        past = none if previous is None else previous
        west, north = _shift(nearest, 0, -1), _shift(nearest, -1, 0)
        clusters = model.cluster_bias + model.cluster_west[west].astype(np.float64)
        clusters += model.cluster_north[north]
        clusters += model.cluster_previous[past]
        clusters += model.cluster_northwest[self._cluster(_shift(nearest, -1, -1))]
        clusters += model.cluster_northeast[self._cluster(_shift(nearest, -1, 1))]
        clusters += model.cluster_previous_east[self._cluster(_shift(past, 0, 1))]
        clusters += model.cluster_previous_south[self._cluster(_shift(past, 1, 0))]
        chosen = self._cluster(found)
        bits = _bits(clusters, chosen)
        leaves = model.leaf_bias[chosen].astype(np.float64)
        for tokens, table in (
            (west, model.leaf_west),
            (north, model.leaf_north),
            (past, model.leaf_previous),
        ):
            same = self._cluster(tokens)[..., None] == chosen
            leaves += np.where(same[..., None], table[tokens][:, :, None], 0)
        leaf = (found % self._leaves)[..., None]
        return bits + _bits(leaves, leaf)[..., 0]

    def _cluster(self, tokens: NDArray[np.int64]) -> NDArray[np.int64]:
        return tokens // self._leaves


class Replay:
    """A codec that decodes tokens chosen before, frame by frame in their order."""

    def __init__(self, codec: TableCodec, tokens: Sequence[NDArray[np.int64]]) -> None:
        self._codec = codec
        self._next = iter(tokens)

    def run(self, frames: NDArray[np.uint8]) -> Passed:
        """Decode the next tokens, whatever the frame."""
        del frames
        return self._codec.decode(next(self._next)[None].astype(np.int32))


def tokens_within(
    frames: Sequence[Candidates],
    places: tuple[int, int],
    prices: TokenPrices,
    rate: Rate,
    target: float,
) -> list[NDArray[np.int64]]:
    """Choose tokens that spend at most `target` bits, and hardly less.

    Parameters
    ----------
    frames : sequence of Candidates
        All phases of slice 0, then of slice 1, and so on.
    places : tuple of int
        Slices and phases.
    prices : TokenPrices
    rate : callable
        Tokens of an exam -> bits, by the entropy coder itself.
    target : float
    """

    def excess(tokens: list[NDArray[np.int64]]) -> float:
        return rate(np.stack(tokens).reshape(*places, *tokens[0].shape)) / target - 1

    low = 0.0
    high = 0.01 * float(np.mean([frame.distances[..., 1:].mean() for frame in frames]))
    best = choose(frames, places, prices, high)
    while excess(best) > 0:
        low, high = high, 2 * high
        best = choose(frames, places, prices, high)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        tokens = choose(frames, places, prices, middle)
        over = excess(tokens)
        if over > 0:
            low = middle
            continue
        high, best = middle, tokens
        if over > -TOLERANCE:
            break
    return best


def choose(
    frames: Sequence[Candidates], places: tuple[int, int], prices: TokenPrices, price: float
) -> list[NDArray[np.int64]]:
    """Choose tokens (h, w) of every frame at a price."""
    chosen: list[NDArray[np.int64]] = []
    for index, frame in enumerate(frames):
        phase = index % places[1]
        previous = chosen[-1] if phase % KEY_INTERVAL else None
        bits = prices.bits(frame.tokens, frame.tokens[..., 0], previous)
        best = (frame.distances + price * bits).argmin(axis=-1)[..., None]
        chosen.append(np.take_along_axis(frame.tokens, best, -1)[..., 0])
    return chosen


def _bits(logits: NDArray[np.float64], index: NDArray[np.int64]) -> NDArray[np.float64]:
    """Bits of entries of distributions whose logits are in units of 1/256 bit."""
    scaled = logits / 256
    top = scaled.max(axis=-1, keepdims=True)
    total = top + np.log2(np.exp2(scaled - top).sum(axis=-1, keepdims=True))
    found: NDArray[np.float64] = total - np.take_along_axis(scaled, index, -1)
    return found


def _shift(tokens: NDArray[np.int64], down: int, right: int) -> NDArray[np.int64]:
    """Return the token `down` rows below and `right` columns beside each place, -1 outside."""
    rows, columns = tokens.shape
    padded = np.pad(tokens, 1, constant_values=-1)
    return padded[1 + down : 1 + down + rows, 1 + right : 1 + right + columns]
