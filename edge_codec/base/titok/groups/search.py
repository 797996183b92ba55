"""Chooses the tokens of a group: each in turn the best beside all others, some times around."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_codec.base.titok.groups.tables import AROUND, GroupTables, cut
from edge_codec.base.titok.token_prior import GRID, TOKENS

ROUNDS = 4

Floats = NDArray[np.float32]


class TokenSearch:
    """Looks for the tokens of groups that lie on the canvas alike.

    Parameters
    ----------
    tables : GroupTables
    weight : ndarray, shape (images, side, side), float32, 0..1
        What an error counts at each pixel: 0 in the border around the frame, and in images that the
        group does not have.
    """

    def __init__(self, tables: GroupTables, weight: Floats) -> None:
        self._codes = tables.codes
        self._mean = tables.mean
        self._paint = tables.paint.reshape(len(AROUND), tables.codes.shape[1], -1)
        self._weight = _padded(cut(weight))
        self._grams = [self._gram(place) for place in range(TOKENS)]
        self._costs = [_squares(self._codes, gram) for gram in self._grams]

    def tokens(self, images: Floats) -> NDArray[np.uint16]:
        """Return the tokens of a group's images (images, side, side), shape (32,), uint16.

        The first round takes what is best beside the tokens chosen until then, as if all others
        painted nothing.
        """
        left = _padded(cut(images - self._mean))
        tokens = np.zeros(TOKENS, np.uint16)
        vectors = np.zeros((TOKENS, self._codes.shape[1]), np.float32)
        for _ in range(ROUNDS):
            before = tokens.copy()
            for place in range(TOKENS):
                wanted = self._wanted(left, place) + self._grams[place] @ vectors[place]
                token = int(np.argmin(self._costs[place] - self._codes @ wanted))
                self._add(left, place, vectors[place] - self._codes[token])
                tokens[place], vectors[place] = token, self._codes[token]
            if np.array_equal(before, tokens):
                break
        return tokens

    def _wanted(self, left: Floats, place: int) -> Floats:
        """Return the products of what is left with what a token paints, shape (d,)."""
        wanted = np.zeros(self._codes.shape[1], np.float32)
        for part, at in zip(self._paint, _painted(place), strict=True):
            wanted += part @ (left[at] * self._weight[at])
        return wanted

    def _add(self, left: Floats, place: int, vector: Floats) -> None:
        for part, at in zip(self._paint, _painted(place), strict=True):
            left[at] += vector @ part

    def _gram(self, place: int) -> Floats:
        """Return the products of what a token's numbers paint with each other, shape (d, d)."""
        d = self._codes.shape[1]
        gram = np.zeros((d, d), np.float32)
        for part, at in zip(self._paint, _painted(place), strict=True):
            gram += (part * self._weight[at]) @ part.T
        return gram


def _squares(codes: Floats, gram: Floats) -> Floats:
    """Return half of what each code's picture adds up to, squared, shape (4096,)."""
    half: Floats = np.einsum("ij,ij->i", codes @ gram, codes) / 2
    return half


def _painted(place: int) -> list[tuple[int, int]]:
    """Return where the stretches that a token paints are in a padded grid."""
    row, column = divmod(place, GRID[1])
    return [(row + 1 + down, column + 1 + right) for down, right in AROUND]


def _padded(stretches: Floats) -> Floats:
    """Put a border of zeros around a grid, for what is painted beyond it."""
    return np.pad(stretches, ((1, 1), (1, 1), (0, 0)))
