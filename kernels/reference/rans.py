"""The coder that the GPU's must equal: `edge_codec.entropy.rans`, with its statuses as numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.entropy import _rans
from edge_codec.entropy.arguments import check_contexts
from edge_codec.entropy.cdf import check_cdfs
from edge_codec.entropy.rans import Payload
from edge_codec.entropy.rans_reference import encode_pairs


def pack_pairs(starts: NDArray[Any], frequencies: NDArray[Any]) -> NDArray[np.int32]:
    """Return `start | frequency - 1 << 16`, any shape, as the kernels read it.

    Parameters
    ----------
    starts : ndarray, integer, 0 to 65535
    frequencies : ndarray, integer, 1 to 65536
    """
    packed = starts.astype(np.uint32) | (frequencies.astype(np.uint32) - 1) << np.uint32(16)
    return packed.view(np.int32)


def unpack_pairs(pairs: NDArray[np.int32]) -> list[tuple[int, int]]:
    """Return (start, frequency) of packed pairs, shape (n,)."""
    packed = np.ascontiguousarray(pairs).view(np.uint32).astype(np.int64)
    return list(zip((packed & 0xFFFF).tolist(), ((packed >> 16) + 1).tolist(), strict=True))


def static_pairs(
    symbols: NDArray[Any], cdfs: NDArray[np.uint32], contexts: NDArray[Any] | int = 0
) -> NDArray[np.int32]:
    """Return the packed pairs of symbols with fixed distributions, in the shape of the symbols."""
    place = symbols.astype(np.int64)
    starts = cdfs[contexts, place]
    return pack_pairs(starts, cdfs[contexts, place + 1] - starts)


def encode(pairs: NDArray[np.int32], offsets: NDArray[np.int32], lanes: int) -> list[bytes]:
    """Code `pairs[offsets[p] : offsets[p + 1]]` for each payload `p`."""
    ranges = zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)
    return [encode_pairs(unpack_pairs(pairs[first:last]), lanes) for first, last in ranges]


def decode(
    payload: Payload,
    count: int,
    cdfs: NDArray[np.uint32],
    lanes: int,
    contexts: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], int]:
    """Decode one payload with the C coder.

    Parameters
    ----------
    payload : bytes, bytearray or memoryview
    count : int
        Number of symbols.
    cdfs : ndarray, shape (contexts, symbols + 1), uint32
    lanes : int
    contexts : ndarray, shape (count,), uint8 or uint16, optional

    Returns
    -------
    symbols : ndarray, shape (count,), uint8 or uint16
        Undefined where the status is not 0.
    status : int
        Of the enum in `rans.h`.
    """
    table = check_cdfs(cdfs)
    wide = table.shape[1] > 257
    out = np.zeros(count, np.uint16 if wide else np.uint8)
    rows = check_contexts(contexts, count, len(table))
    return out, _rans.decode_static(payload, out, wide, rows, table, len(table), lanes)
