"""Whole streams of every integer dtype up to 32 bits, at every effort."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from residual_samples import EFFORTS, KINDS, draw_frame

import edge_codec
from edge_codec.cine import Cine
from edge_codec.spec import Effort

DTYPES = [np.dtype(name) for name in ("u1", "i1", "u2", "i2", "u4", "i4")]


def draw_cine(
    dtype: np.dtype[np.generic], shape: tuple[int, int], kinds: list[str], part: float, seed: int
) -> NDArray[np.integer]:
    """Frames within a part of what the dtype holds, anywhere in it."""
    rng = np.random.default_rng(seed)
    least, most = (int(limit) for limit in (np.iinfo(dtype).min, np.iinfo(dtype).max))
    span = int((most - least) * part)
    low = least + int(rng.integers(0, most - least - span, endpoint=True))
    frames = [
        draw_frame(kind, *shape, span, rng, phase).astype(np.int64) + low
        for phase, kind in enumerate(kinds)
    ]
    return np.stack(frames)[None].astype(dtype)


@pytest.mark.parametrize("effort", EFFORTS)
@settings(derandomize=True, max_examples=40, deadline=None)
@given(
    st.sampled_from(DTYPES),
    st.tuples(st.integers(1, 24), st.integers(1, 24)),
    st.lists(st.sampled_from(KINDS), min_size=1, max_size=6),
    st.sampled_from([1.0, 0.5, 0.01, 0.0]),
    st.sampled_from([0, 0, 1, 3, 100]),
    st.integers(0, 2**32 - 1),
)
def test_integers_come_back(
    effort: Effort,
    dtype: np.dtype[np.generic],
    shape: tuple[int, int],
    kinds: list[str],
    part: float,
    max_error: int,
    seed: int,
) -> None:
    voxels = draw_cine(dtype, shape, kinds, part, seed)
    data = edge_codec.compress(
        Cine.from_array(voxels), max_error=max_error, effort=effort.name.lower()
    )
    back = edge_codec.decompress(data).voxels
    assert back.dtype == dtype
    assert int(np.abs(back.astype(np.int64) - voxels.astype(np.int64)).max()) <= max_error
    if max_error == 0:
        assert back.tobytes() == voxels.tobytes()
