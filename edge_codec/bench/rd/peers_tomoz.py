"""Tomoz, a learned lossless volume codec: once along time, once along the slices."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.bench.rd.case import Case
from edge_codec.bench.rd.levels import Levels
from edge_codec.bench.rd.pieces import Piece, code_pieces, simple
from edge_codec.bench.rd.trial import Codec, Coded, Tier, Trial


def codecs() -> list[Codec]:
    """Return Tomoz along time, as nobody else uses it, and along slices, as it is meant."""
    return [
        Codec("tomoz-time", "Tomoz, a slice's phases as one volume", ("tomoz",),
              lambda threads: [_trial(Piece.SLICE, threads)]),
        Codec("tomoz-slices", "Tomoz, a phase's slices as one volume", ("tomoz",),
              lambda threads: [_trial(Piece.PHASE, threads)]),
    ]  # fmt: skip


def _trial(piece: Piece, threads: int) -> Trial:
    import tomoz

    def code(case: Case) -> Coded:
        levels = Levels.exact(case)

        def encode(volume: NDArray[Any]) -> bytes:
            return tomoz.encode(volume, bits=case.bits, threads=threads)

        def decode(data: bytes) -> NDArray[Any]:
            return np.asarray(tomoz.decode(data, threads=threads))

        return levels.restore(
            code_pieces(levels.encode(case.voxels), piece, *simple(encode, decode))
        )

    return Trial("lossless", Tier.LOSSLESS, code, 0, threads)
