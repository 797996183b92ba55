"""The region of interest in a stream's header: what holds in it, and its squares as runs."""

from __future__ import annotations

import math
import struct

import numpy as np

from edge_codec.bitstream.varint import pack_varints, read_varints
from edge_codec.errors import BitstreamError
from edge_codec.region import MAX_SQUARES, Region, squares_shape

_HEAD = struct.Struct("<Bi")
_NO_BOUND = -1


def pack_region(region: Region | None) -> bytes:
    """Serialize a region; nothing where there is none.

    Runs of squares outside and inside take turns, the first outside and perhaps empty.
    """
    if region is None:
        return b""
    squares = np.frombuffer(region.squares, np.uint8)
    changes = np.flatnonzero(np.diff(squares, prepend=np.uint8(0)))
    runs = np.diff(changes, prepend=0, append=len(squares))
    bound = _NO_BOUND if region.max_error is None else region.max_error
    return _HEAD.pack(region.quality_gain, bound) + pack_varints(runs)


def unpack_region(data: bytes, n_slices: int, rows: int, columns: int) -> Region:
    """Parse a region, bytes from outside.

    Parameters
    ----------
    data : bytes
        The region and nothing else.
    n_slices, rows, columns : int
        Extent of the stream's frames.

    Raises
    ------
    BitstreamError
        If the bytes are no region of frames of that extent.
    SpecError
        If what they say is impossible.
    """
    expected = math.prod(squares_shape(n_slices, rows, columns))
    if len(data) <= _HEAD.size or expected > MAX_SQUARES:
        raise BitstreamError(
            f"a region of {len(data)} bytes for {expected} squares; it has more than {_HEAD.size} "
            f"bytes, and at most {MAX_SQUARES} squares"
        )
    gain, bound = _HEAD.unpack_from(data)
    runs = read_varints(data[_HEAD.size :]).astype(np.int64)
    if int(runs.sum()) != expected or not runs[1:].all():
        raise BitstreamError(
            f"runs of {int(runs.sum())} squares in the region, some of them perhaps empty; "
            f"expected {expected}"
        )
    inside = (np.arange(len(runs)) % 2).astype(np.uint8)
    return Region(inside.repeat(runs).tobytes(), gain, None if bound == _NO_BOUND else bound)
