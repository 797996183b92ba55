"""A frame's way through the networks: the same for who chooses symbols and for who reads them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_codec.base.dwt_cal_vae.layers import Tensor
from edge_codec.base.dwt_cal_vae.network import Expected, FrameNetwork, Image, State
from edge_codec.base.dwt_cal_vae.numbers import COEFFICIENTS


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """What is known of a frame before its latents.

    Attributes
    ----------
    coefficients : ndarray, shape (h, w, 64), int32
        Of the previous frame for side latents, then of the prediction.
    features : ndarray, shape (h, w, features), int16
        The context for side latents, then the features.
    """

    coefficients: Image
    features: Tensor


class Symbols(Protocol):
    """Where a frame's symbols come from: a payload, or a choice."""

    def side(self, expected: Expected, known: Known) -> NDArray[np.int16]:
        """Symbols of the side latents, shape of their expectation."""

    def motion(self, scales: NDArray[np.uint8]) -> NDArray[np.int16]:
        """Displacements, shape (h, w, 2)."""

    def latents(
        self, expected: Expected, known: Known, places: NDArray[np.intp]
    ) -> NDArray[np.int16]:
        """Symbols at the places of one half, in the order of the flat places."""


def code_frame(
    network: FrameNetwork,
    state: State | None,
    quality: int,
    size: tuple[int, int],
    symbols: Symbols,
) -> State:
    """Take a frame's symbols one part after the other and make the frame of them.

    Parameters
    ----------
    network : FrameNetwork
        Of key frames where `state` is None.
    state : State or None
        Left by the frame before.
    quality : int
    size : (int, int)
        Positions down and along: an eighth of the padded frame's sides.
    symbols : Symbols

    Returns
    -------
    State
        The frame, and what the next one needs.
    """
    before, context = network.context(state, quality, size)
    side = network.expect_side(context, quality)
    chosen = symbols.side(side, Known(before, context))
    features = network.features(side.latents(chosen), context, quality)
    motion = np.zeros((*size, 2), np.int16)
    if state is not None:
        motion = symbols.motion(network.motion_scales(features))
    prediction, known = network.predict(state, features, motion)
    view = Known(known, features)
    first, half = network.expect_first(features, known, quality)
    places = halves(*size)
    taken = np.zeros((*size, COEFFICIENTS), np.int16)
    taken.flat[places[0]] = symbols.latents(first, view, places[0])
    second = network.expect_second(half, taken, first, quality)
    latents = first.latents(taken)
    taken.flat[places[1]] = symbols.latents(second, view, places[1])
    latents.flat[places[1]] = second.latents(taken).flat[places[1]]
    return network.finish(latents, prediction, known, features, quality)


def parity() -> NDArray[np.int64]:
    """Tell the two halves of the coefficients of a position apart, shape (64,).

    Samples of a subband that are neighbors within a block differ, and so do the coarsest subbands.
    """
    grids = [np.add.outer(np.arange(block), np.arange(block)) % 2 for block in (2, 4)]
    return np.concatenate([[0, 1, 1, 0], *(grid.ravel() for grid in grids for _ in range(3))])


@lru_cache(maxsize=2)
def halves(rows: int, columns: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Flat places in (rows, columns, 64) of the latents that come first, and of the others."""
    board = np.add.outer(np.arange(rows), np.arange(columns))
    is_second = (board[..., None] + parity()) % 2 == 1
    return np.flatnonzero(~is_second), np.flatnonzero(is_second)
