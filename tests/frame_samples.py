"""A small `vqvae` model, streams and frames for it, for tests of whole frames on a GPU."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import gpu_samples
import numpy as np
from numpy.typing import NDArray

from edge_codec.base.token_model import TokenModel, exp2_table
from edge_codec.export.vqvae import IntegerVQVAE, decoder_model, encoder_model
from edge_codec.spec import CineInfo, ModelId, StreamSpec

CLUSTERS = LEAVES = 16
CODES = CLUSTERS * LEAVES


@cache
def network() -> IntegerVQVAE:
    rng = np.random.default_rng(5)
    return replace(
        gpu_samples.network(),
        codebook=rng.integers(-99, 99, (CODES, 4)).astype(np.int8),
        table=rng.integers(0, 256, (CODES, 32)).astype(np.uint8),
    )


@cache
def token_model() -> TokenModel:
    rng = np.random.default_rng(6)
    c, leaves, k = CLUSTERS, LEAVES, CODES
    shapes = [(c,), *[(k + 1, c)] * 3, *[(c + 1, c)] * 4, (c, leaves), *[(k, leaves)] * 3]
    return TokenModel(
        *(rng.integers(-900, 901, shape, dtype=np.int16) for shape in shapes), exp2_table()
    )


@cache
def onnx_files() -> tuple[bytes, bytes]:
    made = encoder_model(network()), decoder_model(network())
    return made[0].SerializeToString(), made[1].SerializeToString()


def stream(rows: int, columns: int, low: int = -100, high: int = 4000) -> StreamSpec:
    info = CineInfo(2, 5, rows, columns, np.dtype(np.int16))
    return StreamSpec(
        info, low, high, model=ModelId.VQVAE, window_low=low + 50, window_high=high // 3
    )


def frames(spec: StreamSpec, n: int) -> NDArray[np.uint32]:
    """Frames with an edge that moves, samples outside of the window, and both bounds."""
    rng = np.random.default_rng(7)
    rows, columns = spec.info.frame_shape
    made = rng.integers(0, 900, (n, rows, columns))
    for i in range(n):
        made[i, :, i : i + columns // 3] += (spec.high - spec.low) // 2
    made[:, 0, 0], made[:, -1, -1] = 0, spec.high - spec.low
    return made.clip(0, spec.high - spec.low).astype(np.uint32)
