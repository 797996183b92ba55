"""The token layer of the plain decoder, written from docs/bitstream.md alone."""

from __future__ import annotations

import io
from types import SimpleNamespace

import numpy as np
from plain_rans import RansDecoder


class TokenDecoder:
    """Decodes grids of tokens with the tables of token_model.npz."""

    def __init__(self, file: bytes) -> None:
        with np.load(io.BytesIO(file)) as arrays:
            self.tables = {name: arrays[name].astype(np.int64) for name in arrays.files}
        self.n_clusters, self.n_leaves = self.tables["leaf_bias"].shape
        self.exp2 = [int(np.rint(2.0 ** (16 - d / 256))) for d in range(4096)]

    def decode(
        self, payload: bytes, header: SimpleNamespace, previous: np.ndarray | None
    ) -> np.ndarray:
        """The grid of tokens, shape (h, w)."""
        h, w = -(-header.rows // 8), -(-header.columns // 8)
        tokens = np.zeros((h, w), np.int64)
        rans = RansDecoder(payload, 1)
        for r in range(h):
            for c in range(w):
                around = self.neighbors(tokens, previous, r, c)
                cluster = self.next_symbol(rans, self.cluster_logits(around))
                leaf = self.next_symbol(rans, self.leaf_logits(cluster, around))
                tokens[r, c] = cluster * self.n_leaves + leaf
        rans.finish()
        return tokens

    def neighbors(
        self, tokens: np.ndarray, previous: np.ndarray | None, r: int, c: int
    ) -> dict[str, int]:
        """Tokens around a place; K where there is none."""
        none = self.n_clusters * self.n_leaves
        places = {
            "west": (tokens, r, c - 1),
            "north": (tokens, r - 1, c),
            "northwest": (tokens, r - 1, c - 1),
            "northeast": (tokens, r - 1, c + 1),
            "previous": (previous, r, c),
            "previous_east": (previous, r, c + 1),
            "previous_south": (previous, r + 1, c),
        }
        h, w = tokens.shape
        return {
            name: int(grid[y, x]) if grid is not None and 0 <= y < h and 0 <= x < w else none
            for name, (grid, y, x) in places.items()
        }

    def cluster_logits(self, around: dict[str, int]) -> np.ndarray:
        """Logits of all clusters."""
        logits = self.tables["cluster_bias"].copy()
        for name, token in around.items():
            whole = name in ("west", "north", "previous")
            logits += self.tables["cluster_" + name][token if whole else token // self.n_leaves]
        return logits

    def leaf_logits(self, cluster: int, around: dict[str, int]) -> np.ndarray:
        """Logits of all leaves of a cluster."""
        logits = self.tables["leaf_bias"][cluster].copy()
        for name in ("west", "north", "previous"):
            if around[name] // self.n_leaves == cluster:
                logits += self.tables["leaf_" + name][around[name]]
        return logits

    def next_symbol(self, rans: RansDecoder, logits: np.ndarray) -> int:
        """Decode one symbol with the distribution that the logits stand for."""
        g = [int(logit) for logit in logits]
        v = [self.exp2[min(max(g) - logit, 4095)] for logit in g]
        reciprocal = 2**46 // sum(v)
        f = [1 + ((((value * reciprocal) >> 16) * (65536 - len(g))) >> 30) for value in v]
        f[g.index(max(g))] += 65536 - sum(f)
        return rans.get(np.cumsum([0, *f]).tolist())
