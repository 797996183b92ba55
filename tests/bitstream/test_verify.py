from __future__ import annotations

import io
import struct
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_fuzzing import head_at, repair
from stream_samples import make_packets, make_spec, make_stream, starts_of

from edge_codec.bitstream.container import StreamReader
from edge_codec.bitstream.header import pack_header
from edge_codec.bitstream.index import Footer, pack_index
from edge_codec.bitstream.verify import verify
from edge_codec.errors import BitstreamError
from edge_codec.spec import ModelId, StreamSpec

SPEC = make_spec(2, 2, rich=True)
DATA = make_stream(SPEC)
STARTS = starts_of(SPEC, make_packets(SPEC))  # all in full, as they have source headers
SHORT_SPEC = make_spec(3, 3, key_interval=3, model=ModelId.VIDEO, max_error=1)
SHORT_STARTS = starts_of(SHORT_SPEC, make_packets(SHORT_SPEC))
ARCHIVE_SPEC = make_spec(1, 6, key_interval=5, model=ModelId.DWT_CAL, max_error=None, archive=True)
HEADER, END = DATA[: STARTS[0]], DATA[STARTS[-1] :]
PIECES = [DATA[a:b] for a, b in pairwise(STARTS)]


def assert_found(data: bytes) -> None:
    """`verify` must list a problem, and a strict reading must raise."""
    report = verify(io.BytesIO(data))
    assert not report.ok
    assert all(problem.what for problem in report.problems)
    with pytest.raises(BitstreamError):
        list(StreamReader(io.BytesIO(data)).packets())


def join(pieces: list[bytes], *, mend: bool) -> bytes:
    """A stream of these packets; `mend` gives it an index with right slices and sizes."""
    packets = HEADER + b"".join(pieces)
    if not mend:
        return packets + END
    slices = [piece[head_at(piece, 0).numbers[1]] for piece in pieces]
    index = pack_index(np.array(slices, np.uint32), np.array([*map(len, pieces)], np.uint32), 2)
    return packets + index + Footer(len(packets), len(pieces)).pack()


def test_whole_stream_is_whole() -> None:
    report = verify(io.BytesIO(DATA))
    assert report.ok
    assert report.packets == 4
    assert report.spec == SPEC
    assert DATA[TABLE:SIZES] == b"\0\1\1\3"
    assert join(PIECES, mend=True) == DATA


@pytest.mark.parametrize("spec", [SPEC, SHORT_SPEC, ARCHIVE_SPEC])
def test_every_flipped_byte_is_found(spec: StreamSpec) -> None:
    data = make_stream(spec)
    assert verify(io.BytesIO(data)).ok
    masks = np.random.default_rng(3).integers(1, 256, len(data))
    for position in range(len(data)):
        for mask in {0x01, 0x80, 0xFF, int(masks[position])}:
            damaged = bytearray(data)
            damaged[position] ^= mask
            assert not verify(io.BytesIO(damaged)).ok, f"byte {position} ^ {mask:#x}"


@pytest.mark.parametrize("spec", [SPEC, SHORT_SPEC])
def test_every_cut_is_found(spec: StreamSpec) -> None:
    data = make_stream(spec)
    for size in range(len(data)):
        assert not verify(io.BytesIO(data[:size])).ok


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.permutations(range(9)), st.sets(st.integers(0, 8)), st.booleans())
def test_short_forms_at_another_place_are_found(
    order: list[int], dropped: set[int], mend: bool
) -> None:
    data = make_stream(SHORT_SPEC)
    pieces = [data[a:b] for a, b in pairwise(SHORT_STARTS)]
    order = [number for number in order if number not in dropped]
    if order == sorted(order) and not dropped:
        order = order[::-1]
    packets = data[: SHORT_STARTS[0]] + b"".join(pieces[number] for number in order)
    sizes = np.array([len(pieces[number]) for number in order], np.uint32)
    index = pack_index(np.array(order, np.uint32) % 3, sizes, 3)
    end = index + Footer(len(packets), len(order)).pack() if mend else data[SHORT_STARTS[-1] :]
    assert_found(packets + end)


@pytest.mark.parametrize("mend", [False, True])
@pytest.mark.parametrize(
    "order",
    [
        [1, 2, 3],
        [0, 2, 3],
        [0, 1, 2],
        [0, 0, 1, 2, 3],
        [0, 1, 2, 3, 3],
        [1, 0, 2, 3],
        [0, 1, 3, 2],
        [3, 2, 1, 0],
        [],
    ],
)
def test_missing_doubled_and_swapped_packets_are_found(order: list[int], mend: bool) -> None:
    assert_found(join([PIECES[number] for number in order], mend=mend))


def test_missing_frames_are_found_also_when_renumbered() -> None:
    data = bytearray(join(PIECES[:3], mend=True))
    assert_found(bytes(data))
    assert "promises 4" in verify(io.BytesIO(data)).problems[-1].what


@pytest.mark.parametrize("extra", [b"\0", b"\xecP", DATA, DATA[-24:], bytes(5000)])
def test_trailing_bytes_are_found(extra: bytes) -> None:
    assert_found(DATA + extra)


@pytest.mark.parametrize("at", STARTS)
def test_bytes_between_packets_are_found(at: int) -> None:
    assert_found(DATA[:at] + b"\0" + DATA[at:])


TABLE = STARTS[-1] + 15  # after sync, contents, three numbers, a size and two CRCs
SIZES = TABLE + 4  # after two runs of slices: a byte for each packet


@pytest.mark.parametrize(
    ("at", "raw"),
    [
        (TABLE, b"\1"),  # slice of the first
        (TABLE, b"\2"),
        (TABLE, b"\0\2\1\2"),
        (TABLE, b"\0\4"),
        (TABLE, b"\xff\xff"),
        (TABLE + 2, b"\0"),
        (SIZES, b"\x7f"),
        (SIZES, b"\0"),
        (SIZES, b"\xff"),
        # One byte less for the first, one more for the second: their sum is right.
        (SIZES, bytes([len(PIECES[0]) - 1, len(PIECES[1]) + 1])),
        (SIZES, bytes([len(PIECES[0]) + len(PIECES[1]), 0])),
        (STARTS[-1] + 2, b"\x18"),  # a key frame
        (STARTS[-1] + 2, b"\x01"),  # a base layer
        (STARTS[-1] + 3, b"\3"),  # count
        (STARTS[-1] + 3, b"\5"),
        (STARTS[-1] + 4, b"\1"),  # slice
        (STARTS[-1] + 5, b"\1"),  # phase
        (len(DATA) - 24, struct.pack("<Q", STARTS[0])),  # footer: index at the first packet
        (len(DATA) - 24, struct.pack("<Q", 0)),
        (len(DATA) - 24, b"\xff" * 8),
        (len(DATA) - 16, b"\3\0\0\0"),  # count
    ],
)
def test_index_that_disagrees_is_found(at: int, raw: bytes) -> None:
    damaged = bytearray(DATA)
    damaged[at : at + len(raw)] = raw
    assert_found(repair(damaged))


@pytest.mark.parametrize(
    ("at", "raw"),
    [
        (2, b"\x07"),  # a key frame that is not marked
        (2, b"\x16"),  # no base layer
        (2, b"\x1f"),
        (3, b"\5"),  # sequence number
        (4, b"\1"),  # slice
        (4, b"\x7f"),
        (5, b"\1"),  # phase
        (5, b"\x7f"),
    ],
)
def test_packet_that_disagrees_is_found_also_with_right_crc(at: int, raw: bytes) -> None:
    damaged = bytearray(DATA)
    damaged[STARTS[0] + at : STARTS[0] + at + len(raw)] = raw
    assert_found(repair(damaged))


def test_two_entries_that_swap_sizes_are_found() -> None:
    pieces = [PIECES[0], PIECES[1] + b"\0", *PIECES[2:]]
    assert_found(join(pieces, mend=True))


def test_stream_without_packets_can_be_whole() -> None:
    spec = make_spec(1, 0)
    assert verify(io.BytesIO(make_stream(spec, []))).ok
    assert not verify(io.BytesIO(pack_header(spec))).ok
    assert not verify(io.BytesIO(b"")).ok
