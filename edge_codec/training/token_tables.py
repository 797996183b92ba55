"""Training of the token model's tables: one multinomial regression for clusters, one for leaves.

`edge_codec.base.token_model` defines the model; here its logits are floats in nats, learned by
gradient descent on the tokens that the integer encoder gives for the training exams.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own convention)
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from edge_codec.base.token_model import TokenModel, exp2_table, frequencies

NAMES = ("west", "north", "previous", "northwest", "northeast", "previous_east", "previous_south")
"""Order of the neighbours in arrays of this module."""

WHOLE = 3
"""The first neighbours of `NAMES` choose rows by token, the others by cluster."""

LOGIT_LIMIT = 4000
"""Largest magnitude of a table's entry: 15 bits of information, and eight of them fit int16."""


@dataclass(frozen=True, slots=True, eq=False)
class TokenSet:
    """Positions to learn from.

    Attributes
    ----------
    around : Tensor, shape (7, n), int32
        Neighbouring tokens in the order of `NAMES`, K where there is none.
    tokens : Tensor, shape (n,), int32
    """

    around: Tensor
    tokens: Tensor

    def without_previous(self, codes: int) -> TokenSet:
        """Return the same positions as a key frame would see them."""
        around = self.around.clone()
        for index, name in enumerate(NAMES):
            if name.startswith("previous"):
                around[index] = codes
        return TokenSet(around, self.tokens)


def positions(tokens: NDArray[np.int32], codes: int) -> TokenSet:
    """Collect all positions of a slice: tokens (phases, h, w); the first phase has no past."""
    none = np.int32(codes)
    p = np.pad(tokens, ((1, 0), (1, 1), (1, 1)), constant_values=none)
    now, past = p[1:], p[:-1]
    grids = {
        "west": now[:, 1:-1, :-2],
        "north": now[:, :-2, 1:-1],
        "northwest": now[:, :-2, :-2],
        "northeast": now[:, :-2, 2:],
        "previous": past[:, 1:-1, 1:-1],
        "previous_east": past[:, 1:-1, 2:],
        "previous_south": past[:, 2:, 1:-1],
    }
    around = np.stack([grids[name].reshape(-1) for name in NAMES])
    return TokenSet(torch.from_numpy(around), torch.from_numpy(tokens.reshape(-1).copy()))


def merge(sets: list[TokenSet]) -> TokenSet:
    """Concatenate sets of positions."""
    around = torch.cat([part.around for part in sets], dim=1)
    return TokenSet(around, torch.cat([part.tokens for part in sets]))


class TokenTables(nn.Module):
    """The tables as parameters; a token's row is its cluster's row plus a small difference."""

    def __init__(self, clusters: int, leaves: int) -> None:
        super().__init__()
        self.clusters, self.leaves = clusters, leaves
        codes = clusters * leaves
        self.cluster_bias = nn.Parameter(torch.zeros(clusters))
        self.leaf_bias = nn.Parameter(torch.zeros(clusters, leaves))
        self.coarse = nn.ParameterDict(
            {name: nn.Parameter(torch.zeros(clusters + 1, clusters)) for name in NAMES}
        )
        self.whole = nn.ParameterDict(
            {name: nn.Parameter(torch.zeros(codes, clusters)) for name in NAMES[:WHOLE]}
        )
        self.leaf = nn.ParameterDict(
            {name: nn.Parameter(torch.zeros(codes, leaves)) for name in NAMES[:WHOLE]}
        )

    def forward(self, around: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Mean cost in nats of clusters and of leaves, for int64 (7, n) and (n,)."""
        cluster = tokens // self.leaves
        exists = around < self.clusters * self.leaves
        groups = around // self.leaves
        logits = self.cluster_bias + sum(
            F.embedding(groups[i], self.coarse[name]) for i, name in enumerate(NAMES)
        )
        leaf_logits = F.embedding(cluster, self.leaf_bias)
        for i, name in enumerate(NAMES[:WHOLE]):
            row = torch.where(exists[i], around[i], 0)
            whole = F.embedding(row, self.whole[name])
            logits = logits + whole * exists[i][:, None]
            same = exists[i] & (groups[i] == cluster)
            leaf_logits = leaf_logits + F.embedding(row, self.leaf[name]) * same[:, None]
        cluster_cost = F.cross_entropy(logits, cluster)
        return cluster_cost, F.cross_entropy(leaf_logits, tokens % self.leaves)

    def groups(self, weight_decay: float) -> list[dict[str, object]]:
        """Optimizer groups: only tables with a row per token are decayed."""
        rare = [*self.whole.values(), *self.leaf.values()]
        common = [self.cluster_bias, self.leaf_bias, *self.coarse.values()]
        return [
            {"params": rare, "weight_decay": weight_decay},
            {"params": common, "weight_decay": 0.0},
        ]

    def integer_model(self) -> TokenModel:
        """Round to the integer tables of the codec."""
        codes = self.clusters * self.leaves
        tables = {"cluster_bias": _integers(self.cluster_bias)}
        for name in NAMES:
            rows = self.coarse[name]
            if name in self.whole:
                expanded = rows[:-1].repeat_interleave(self.leaves, dim=0) + self.whole[name]
                rows = torch.cat([expanded, rows[-1:]])
            tables[f"cluster_{name}"] = _integers(rows)
        tables["leaf_bias"] = _integers(self.leaf_bias)
        for name in NAMES[:WHOLE]:
            tables[f"leaf_{name}"] = _integers(self.leaf[name]).reshape(codes, self.leaves)
        return TokenModel(**tables, exp2=exp2_table())


def fit(
    parts: list[TokenSet],
    shares: list[float],
    clusters: int,
    leaves: int,
    *,
    steps: int = 2500,
    batch: int = 8192,
    key_share: float = 0.15,
    weight_decay: float = 0.05,
    seed: int = 0,
) -> TokenTables:
    """Learn the tables.

    Parameters
    ----------
    parts : list of TokenSet
        One per data set.
    shares : list of float
        Probability of drawing from each.
    key_share : float
        Part of the positions that are shown without their past, as in key frames.
    """
    generator = torch.Generator().manual_seed(seed)
    tables = TokenTables(clusters, leaves)
    # Decoupled decay: rows of rare tokens shrink to their cluster's row.
    optimizer = torch.optim.AdamW(tables.groups(weight_decay), lr=0.03, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.03, steps, pct_start=0.05)
    none = clusters * leaves
    past = torch.tensor([name.startswith("previous") for name in NAMES])
    chances = torch.tensor(shares)
    for _ in tqdm(range(steps), unit="step", desc="token tables"):
        sizes = (chances / chances.sum() * batch).long().tolist()
        picks = [
            torch.randint(len(part.tokens), (size,), generator=generator)
            for part, size in zip(parts, sizes, strict=True)
        ]
        around = torch.cat([p.around[:, i] for p, i in zip(parts, picks, strict=True)], 1).long()
        tokens = torch.cat([p.tokens[i] for p, i in zip(parts, picks, strict=True)]).long()
        key = torch.rand(len(tokens), generator=generator) < key_share
        around = torch.where(past[:, None] & key, none, around)
        cluster_cost, leaf_cost = tables(around, tokens)
        optimizer.zero_grad(set_to_none=True)
        (cluster_cost + leaf_cost).backward()
        optimizer.step()
        schedule.step()
    return tables


def bits_per_token(model: TokenModel, data: TokenSet, limit: int = 200_000) -> float:
    """Mean cost in bits by the exact integer frequencies, over at most `limit` positions."""
    stride = max(1, len(data.tokens) // limit)
    around = data.around[:, ::stride].numpy().astype(np.int64)
    tokens = data.tokens[::stride].numpy().astype(np.int64)
    cluster, leaf = np.divmod(tokens, model.n_leaves)
    none = model.n_codes
    groups = around // model.n_leaves
    logits = model.cluster_bias.astype(np.int32) + np.zeros((len(tokens), 1), np.int32)
    leaf_logits = model.leaf_bias[cluster].astype(np.int32)
    for i, name in enumerate(NAMES):
        rows = around[i] if i < WHOLE else groups[i]
        logits += getattr(model, f"cluster_{name}")[rows]
        if i < WHOLE:
            same = (around[i] < none) & (groups[i] == cluster)
            leaf_table = getattr(model, f"leaf_{name}")
            leaf_logits += leaf_table[np.minimum(around[i], none - 1)] * same[:, None]
    every = np.arange(len(tokens))
    cost = np.log2(frequencies(logits)[every, cluster].astype(np.float64))
    cost += np.log2(frequencies(leaf_logits)[every, leaf].astype(np.float64))
    return float(32.0 - cost.mean())


def bisect_codes(codes: NDArray[np.floating]) -> NDArray[np.int64]:
    """Order codes so that similar ones are close, in balanced groups at every power of two.

    The set is cut in halves at the median along its principal axis, and each half again, down to
    single codes.

    Parameters
    ----------
    codes : ndarray, shape (2**k, dim)

    Returns
    -------
    ndarray, shape (2**k,), int64
        `order[i]` is the old index of the code that becomes number i.
    """
    if len(codes) == 1:
        return np.zeros(1, np.int64)
    centered = codes - codes.mean(axis=0)
    _, vectors = np.linalg.eigh(centered.T @ centered)
    axis = vectors[:, -1]
    # The sign of an eigenvector is arbitrary; fixing it makes the order reproducible.
    ranks = np.argsort(centered @ (axis * np.sign(axis[np.abs(axis).argmax()])), kind="stable")
    half = len(codes) // 2
    low, high = ranks[:half], ranks[half:]
    return np.concatenate([low[bisect_codes(codes[low])], high[bisect_codes(codes[high])]])


def _integers(logits: Tensor) -> NDArray[np.int16]:
    """Logits in nats as integers of 1/256 bit, each row centered, which softmax does not see."""
    centered = (logits - logits.mean(dim=-1, keepdim=True)).detach().numpy()
    scaled = np.rint(centered.astype(np.float64) * (256.0 / np.log(2.0)))
    integers: NDArray[np.int16] = np.clip(scaled, -LOGIT_LIMIT, LOGIT_LIMIT).astype(np.int16)
    return integers
