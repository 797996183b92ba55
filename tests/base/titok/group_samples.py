"""Random tables of groups, and streams that name them."""

from __future__ import annotations

import numpy as np

from edge_codec.base.titok.groups.data import GroupData
from edge_codec.base.titok.groups.tables import AROUND, IMAGES, GroupTables
from edge_codec.spec import CineInfo, ModelId, StreamSpec, TokensPer

SIDE = 16


def random_tables(per: TokensPer, seed: int = 0, d: int = 5) -> GroupTables:
    """Tables in which every token paints something else."""
    rng, images = np.random.default_rng(seed), IMAGES[per]
    paint = 0.1 * rng.normal(size=(len(AROUND), d, images, SIDE // 8, SIDE // 4))
    return GroupTables(
        rng.normal(size=(4096, d)).astype(np.float16).astype(np.float32),
        paint.astype(np.float16).astype(np.float32),
        rng.random((images, SIDE, SIDE), np.float32).astype(np.float16).astype(np.float32),
    )


def random_tokens(groups: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4096, (groups, 32)).astype(np.uint16)


def group_spec(
    per: TokensPer = TokensPer.CINE, slices: int = 2, phases: int = 5, side: tuple = (20, 30)
) -> StreamSpec:
    """A stream of random tokens."""
    tokens = random_tokens(slices if per is TokensPer.CINE else 1)
    return StreamSpec(
        CineInfo(slices, phases, *side, np.dtype(np.uint16)),
        low=0,
        high=999,
        model=ModelId.TITOK_GROUPS,
        max_error=None,
        key_interval=1,
        window_high=800,
        model_data=GroupData(per, phases, tokens).pack(),
    )
