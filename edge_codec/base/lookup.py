"""Codebook lookup: latents to tokens.

The encoder may choose tokens as it likes, so the search need not be exhaustive: the codebook is
sorted into clusters of similar codes (the token model needs that anyway), and only the clusters
whose centers are nearest to a latent are searched. What that costs and saves is in
`docs/decisions/0005-codebook-lookup.md`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_codec.base import _lookup
from edge_codec.engine import Mapper
from edge_codec.errors import EngineError

BLOCK = 16  # vectors that the native code scores together
MAX_CODES = 65_536
PART = 512  # latents that one thread searches at a time


class CodebookLookup:
    """Finds the nearest code of each latent.

    Parameters
    ----------
    codebook : ndarray, shape (clusters * leaves, dim), int8
        Token i is row i; rows `c * leaves` to `(c + 1) * leaves - 1` are cluster c.
    clusters : int
        Number of clusters, a multiple of 16 as `leaves` is.
    probes : int
        Clusters to search for each latent; `clusters` makes the search exhaustive.

    Raises
    ------
    EngineError
        If the codebook cannot be cut so.
    """

    def __init__(self, codebook: NDArray[np.int8], clusters: int = 64, probes: int = 8) -> None:
        if codebook.ndim != 2 or codebook.dtype != np.int8 or len(codebook) > MAX_CODES:
            raise EngineError(
                f"codebook is {codebook.shape} {codebook.dtype}, not (codes, dim) int8"
            )
        leaves = len(codebook) // clusters
        if clusters % BLOCK or leaves % BLOCK or clusters * leaves != len(codebook) or not leaves:
            raise EngineError(f"{len(codebook)} codes do not form {clusters} clusters by 16s")
        self._dim = codebook.shape[1]
        self._probes = min(probes, clusters)
        codes = codebook.astype(np.float32)
        centers = codes.reshape(clusters, leaves, self._dim).mean(axis=1)
        self._centers = _blocks(centers)
        has_vnni = _lookup.has_vnni()
        self._codes = _blocks(codes)
        self._integer_codes = _integer_blocks(codebook) if has_vnni else None

    def nearest(self, latents: NDArray[np.int8], mapper: Mapper = map) -> NDArray[np.uint16]:
        """Return the tokens of latents; the lowest index wins a tie.

        Parameters
        ----------
        latents : ndarray, shape (..., dim), int8
            What the encoder network gives.
        mapper : callable
            How to go over parts of the latents: `map`, or an executor's for several threads.

        Returns
        -------
        ndarray, shape (...), uint16
            The tokens.

        Raises
        ------
        EngineError
            If the latents do not fit the codebook.
        """
        if latents.dtype != np.int8 or latents.shape[-1:] != (self._dim,):
            raise EngineError(
                f"latents are {latents.shape} {latents.dtype}, not int8 by {self._dim}"
            )
        rows = np.ascontiguousarray(latents).reshape(-1, self._dim)
        tokens = np.empty(len(rows), np.uint16)
        parts = [slice(start, start + PART) for start in range(0, len(rows), PART)]

        def search(part: slice) -> None:
            sizes, found = (self._dim, self._probes), tokens[part]
            if self._integer_codes is not None:
                integers = self._integer_codes
                _lookup.nearest_vnni(rows[part], *self._centers, *integers, *sizes, found)
            else:
                _lookup.nearest(rows[part], *self._centers, *self._codes, *sizes, found)

        for _ in mapper(search, parts):
            pass
        return tokens.reshape(latents.shape[:-1])


def _blocks(vectors: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return vectors as (block, dim, 16), and minus half their squared lengths."""
    count, dim = vectors.shape
    blocks = vectors.reshape(count // BLOCK, BLOCK, dim).transpose(0, 2, 1)
    # Halves of integers below 2**21: exact.
    return np.ascontiguousarray(blocks), -0.5 * np.square(vectors).sum(axis=1)


def _integer_blocks(codebook: NDArray[np.int8]) -> tuple[NDArray[np.int8], NDArray[np.int32]]:
    """Return codes as (block, dim / 4, 16, 4), and what makes distances of their products."""
    count, dim = codebook.shape
    padded = np.zeros((count, -(-dim // 4) * 4), np.int8)
    padded[:, :dim] = codebook
    blocks = padded.reshape(count // BLOCK, BLOCK, -1, 4).swapaxes(1, 2)
    wide = codebook.astype(np.int32)
    # Products are of latents + 128: what that adds is known beforehand.
    offsets = -np.square(wide).sum(axis=1) - 256 * wide.sum(axis=1)
    return np.ascontiguousarray(blocks), offsets.astype(np.int32)
