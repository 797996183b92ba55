"""A stack of frames through a codec, piece by piece, each encoded, then decoded from its bytes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.bench.rd.trial import Coded, timed
from edge_codec.errors import FrameError

Parts = tuple[bytes, ...]  # what a decoder gets: one item per packet
# Each call takes one piece and returns its result with the ms that the codec itself took.
Encode = Callable[[NDArray[Any]], tuple[Parts, float]]
Decode = Callable[[Parts], tuple[NDArray[Any], float]]
Place = Any  # index into a stack


MIN_TIMES = 3


class Piece(Enum):
    """What is coded by itself."""

    FRAME = "frame"  # one phase of one slice; coders see the phases of a slice in order
    SLICE = "all phases of a slice"
    PHASE = "all slices of a phase"


def code_pieces(
    stack: NDArray[Any],
    piece: Piece,
    open_encoder: Callable[[], Encode],
    open_decoder: Callable[[], Decode],
) -> Coded:
    """Encode and decode a stack.

    Parameters
    ----------
    stack : ndarray, shape (slices, phases, rows, columns)
        What goes into the encoder.
    piece : Piece
        How it is cut.
    open_encoder, open_decoder : callable
        Called anew for each slice (for `PHASE`: each phase), untimed.

    Returns
    -------
    Coded
        `voxels` as they come out of the decoder, in the stack's dtype.

    Raises
    ------
    FrameError
        If the decoder gives another shape or dtype than went in.
    """
    decoded = np.empty_like(stack)
    size, encode_ms, decode_ms = 0, [], []
    frame_size = stack.shape[2] * stack.shape[3]
    runs = _runs(stack.shape, piece)
    # A median of one or two is none: few pieces are coded again, for their times alone.
    again = -(-MIN_TIMES // sum(map(len, runs))) - 1
    for attempt, places in itertools.product(range(again + 1), runs):
        encode, decode = open_encoder(), open_decoder()
        streams = []
        for place in places:
            frames = np.ascontiguousarray(stack[place])
            parts, milliseconds = encode(frames)
            streams.append(parts)
            encode_ms.append(milliseconds * frame_size / frames.size)
            size += sum(map(len, parts)) if attempt == 0 else 0
        for place, parts in zip(places, streams, strict=True):
            frames, milliseconds = decode(parts)
            if attempt == 0:  # what is judged comes from the bytes that are counted
                _place(decoded, place, frames)
            decode_ms.append(milliseconds * frame_size / frames.size)
    timed_as = "frame" if piece is Piece.FRAME else "stream"
    return Coded(size, decoded, encode_ms, decode_ms, timed_as)


def simple(
    encode: Callable[[NDArray[Any]], bytes | bytearray], decode: Callable[[bytes], NDArray[Any]]
) -> tuple[Callable[[], Encode], Callable[[], Decode]]:
    """Return openers for a pair of plain functions, the whole of each timed."""

    def encode_timed(frames: NDArray[Any]) -> tuple[Parts, float]:
        data, milliseconds = timed(lambda: encode(frames))
        return (bytes(data),), milliseconds

    def decode_timed(parts: Parts) -> tuple[NDArray[Any], float]:
        return timed(lambda: decode(parts[0]))

    return lambda: encode_timed, lambda: decode_timed


def _place(decoded: NDArray[Any], place: Place, frames: NDArray[Any]) -> None:
    # NumPy would broadcast a wrong shape and wrap a wrong dtype without a word.
    if frames.shape != decoded[place].shape or not np.can_cast(frames.dtype, decoded.dtype):
        raise FrameError(
            f"the decoder gave {frames.dtype} {frames.shape} for {decoded.dtype} "
            f"{decoded[place].shape}"
        )
    decoded[place] = frames


def _runs(shape: tuple[int, ...], piece: Piece) -> list[list[Place]]:
    """Return the places of the pieces that one coder sees, coder by coder."""
    if piece is Piece.PHASE:
        return [[(slice(None), phase)] for phase in range(shape[1])]
    if piece is Piece.SLICE:
        return [[(index,)] for index in range(shape[0])]
    return [[(index, phase) for phase in range(shape[1])] for index in range(shape[0])]
