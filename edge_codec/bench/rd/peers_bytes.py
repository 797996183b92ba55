"""General compressors on the raw bytes of all phases of a slice: zstd and gzip, lossless."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.bench.rd.case import Case
from edge_codec.bench.rd.pieces import Piece, code_pieces, simple
from edge_codec.bench.rd.trial import Codec, Coded, Tier, Trial

ZSTD_LEVELS = (3, 19)
GZIP_LEVEL = 6


def codecs() -> list[Codec]:
    """Return zstd and gzip."""
    return [
        Codec("zstd", "zstd on the voxels' bytes, one stream per slice", ("zstandard",),
              lambda _: [_zstd_trial(level) for level in ZSTD_LEVELS]),
        Codec("gzip", "gzip on the voxels' bytes, one stream per slice", (),
              lambda _: [_trial(f"level {GZIP_LEVEL}", _gzip, gzip.decompress)]),
    ]  # fmt: skip


def _gzip(data: bytes) -> bytes:
    return gzip.compress(data, GZIP_LEVEL, mtime=0)


def _zstd_trial(level: int) -> Trial:
    import zstandard

    compressor = zstandard.ZstdCompressor(level)
    return _trial(f"level {level}", compressor.compress, zstandard.ZstdDecompressor().decompress)


def _trial(
    setting: str, compress: Callable[[bytes], bytes], decompress: Callable[[bytes], bytes]
) -> Trial:
    def code(case: Case) -> Coded:
        dtype, frame_shape = case.voxels.dtype, case.voxels.shape[2:]

        def encode(frames: NDArray[Any]) -> bytes:
            return compress(frames.tobytes())

        def decode(data: bytes) -> NDArray[Any]:
            return np.frombuffer(decompress(data), dtype).reshape(-1, *frame_shape)

        return code_pieces(case.voxels, Piece.SLICE, *simple(encode, decode))

    return Trial(setting, Tier.LOSSLESS, code, 0)
