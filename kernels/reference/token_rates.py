"""Pairs of a frame's tokens, from the distributions of `edge_codec.base.token_model`."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

from edge_codec.base.token_model import TokenModel, neighbours
from edge_codec.kernels.reference.rans import static_pairs


def token_pairs(
    tokens: NDArray[np.uint16], previous: NDArray[np.uint16] | None, model: TokenModel
) -> NDArray[np.int32]:
    """Compute what is coded for a frame of tokens.

    Parameters
    ----------
    tokens : ndarray, shape (h, w), uint16
    previous : ndarray, shape (h, w), uint16, or None
        Tokens of the slice's previous frame, None for a key frame.
    model : TokenModel

    Returns
    -------
    ndarray, shape (h, w, 2), int32
        `start | frequency - 1 << 16` of each token's cluster and leaf, the bits of a uint32.
    """
    h, w = tokens.shape
    pairs = np.zeros((h, w, 2), np.int32)
    for row, column in product(range(h), range(w)):
        around = neighbours(tokens, previous, row, column)
        cluster, leaf = divmod(int(tokens[row, column]), model.n_leaves)
        cdfs = (model.cluster_cdf(around), model.leaf_cdf(cluster, around))
        for i, (cdf, symbol) in enumerate(zip(cdfs, (cluster, leaf), strict=True)):
            pairs[row, column, i] = static_pairs(np.array(symbol), cdf[None])
    return pairs
