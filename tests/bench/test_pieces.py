"""How a stack is cut, timed and put together again."""

import numpy as np
import pytest

from edge_codec.bench.rd.pieces import Piece, code_pieces, simple
from edge_codec.errors import FrameError

STACK = np.arange(2 * 3 * 4 * 5, dtype=np.uint16).reshape(2, 3, 4, 5)


@pytest.mark.parametrize(
    ("piece", "shape", "count", "timed"),
    [
        (Piece.FRAME, (4, 5), 6, "frame"),
        (Piece.SLICE, (3, 4, 5), 2, "stream"),
        (Piece.PHASE, (2, 4, 5), 3, "stream"),
    ],
)
def test_each_piece_is_coded_once(piece, shape, count, timed):
    seen = []

    def encode(frames):
        seen.append(frames.shape)
        return frames.tobytes()

    def decode(data):
        return np.frombuffer(data, np.uint16).reshape(shape)

    coded = code_pieces(STACK, piece, *simple(encode, decode))
    repeats = 2 if count < 3 else 1  # so that there is a median
    assert seen == [shape] * (count * repeats)
    assert coded.stream_bytes == STACK.nbytes
    assert len(coded.encode_ms) == len(coded.decode_ms) == count * repeats
    assert coded.timed == timed
    np.testing.assert_array_equal(coded.voxels, STACK)


def test_times_are_shared_by_the_frames_of_a_stream():
    coded = code_pieces(
        STACK,
        Piece.SLICE,
        lambda: lambda frames: ((b"ab", b"c"), 12.0),
        lambda: lambda parts: (np.zeros((3, 4, 5), np.uint16), 6.0),
    )
    assert (coded.stream_bytes, coded.encode_ms, coded.decode_ms) == (6, [4.0] * 4, [2.0] * 4)


def test_coders_are_new_for_each_slice_and_see_phases_in_order():
    seen = []

    def open_encoder():
        seen.append([])
        return lambda frame: (seen[-1].append(int(frame[0, 0])) or (b"",), 1.0)

    code_pieces(
        STACK, Piece.FRAME, open_encoder, lambda: lambda parts: (np.zeros((4, 5), np.uint16), 1.0)
    )
    assert seen == [[0, 20, 40], [60, 80, 100]]


@pytest.mark.parametrize(
    "wrong", [np.zeros((1, 5), np.uint16), np.zeros((4, 5), np.int32), np.uint16(0)]
)
def test_what_numpy_would_broadcast_or_wrap_is_refused(wrong):
    with pytest.raises(FrameError, match="the decoder gave"):
        code_pieces(STACK, Piece.FRAME, *simple(lambda frame: b"x", lambda data: wrong))
