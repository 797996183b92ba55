from __future__ import annotations

import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_samples import make_spec

from edge_codec.bitstream.index import MIN_PACKET, Footer, entry_of, pack_index, unpack_index
from edge_codec.bitstream.packet import INDEX_LAYER, LayerId, Packet, PacketHead, unpack_head
from edge_codec.errors import BitstreamError
from edge_codec.group_order import coding_order
from edge_codec.spec import MAX_SLICES, ModelId

FIRST = 156
SIZES = st.integers(MIN_PACKET, 300) | st.integers(MIN_PACKET, (1 << 32) - 1)
SPEC = make_spec(3, 0)


def index_of(rows: list[tuple[int, int]], n_slices: int = 3) -> bytes:
    """The index packet of (slice, size) of each packet."""
    return pack_index(*np.array(rows, np.uint32).reshape(-1, 2).T, n_slices)


def unpack(data: bytes, end: int, n_slices: int = 3) -> list[tuple[int, ...]]:
    head = unpack_head(data)
    spec = make_spec(n_slices, 0)
    return unpack_index(head, data[head.head_size :], FIRST, end, spec).tolist()


def unpack_table(count: int, table: str, end: int) -> list[tuple[int, ...]]:
    """Parse a table, right or not, whose CRC is."""
    raw = bytes.fromhex(table)
    head = PacketHead(count, 0, 0, False, ((INDEX_LAYER, len(raw), zlib.crc32(raw)),))
    return unpack_index(head, raw, FIRST, end, SPEC).tolist()


def test_index_has_the_bytes_of_the_specification() -> None:
    data = index_of([(0, 50), (2, 300), (1, 20), (0, 7)])
    assert data == bytes.fromhex(
        "ec50 08 04 00 00"  # sync, index, 4 packets, 0, 0
        "09 74acba54"  # 9 bytes, CRC
        "47882d8b"  # CRC of the head
        "00 01  02 03"  # a step of 0 to slice 0, three of 2 to slices 2, 1, 0
        "32 ac02 14 07"  # sizes
    )
    assert unpack(data, FIRST + 377) == [
        (FIRST, 50, 0, 0, 0),
        (FIRST + 50, 300, 1, 2, 0),
        (FIRST + 350, 20, 2, 1, 0),
        (FIRST + 370, 7, 3, 0, 1),
    ]


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.integers(1, 5) | st.integers(1, MAX_SLICES), st.data())
def test_unpack_inverts_pack(n_slices: int, data: st.DataObject) -> None:
    places = st.tuples(st.integers(0, n_slices - 1), SIZES)
    offset, placed, seen = FIRST, [], []
    rows = data.draw(st.lists(places, max_size=20))
    for sequence, (slice_index, size) in enumerate(rows):
        placed.append((offset, size, sequence, slice_index, seen.count(slice_index)))
        seen.append(slice_index)
        offset += size
    assert unpack(index_of(rows, n_slices), offset, n_slices) == placed


def test_phases_of_an_archive_stand_in_its_order() -> None:
    spec = make_spec(2, 11, key_interval=4, model=ModelId.DWT_CAL, max_error=None, archive=True)
    data = index_of([(i % 2, 9) for i in range(22)], 2)
    head = unpack_head(data)
    entries = unpack_index(head, data[head.head_size :], FIRST, FIRST + 22 * 9, spec)
    due = [first + i for first in (0, 4, 8) for i in coding_order(min(4, 11 - first))]
    assert entries["phase"][::2].tolist() == entries["phase"][1::2].tolist() == due
    more = index_of([(0, 9)] * 12, 2)  # one more than the header promises
    head = unpack_head(more)
    entries = unpack_index(head, more[head.head_size :], FIRST, FIRST + 12 * 9, spec)
    assert entries["phase"][11] == 11


def test_entry_describes_its_packet() -> None:
    packet = Packet(0, 5, 0, True, {LayerId.RESIDUAL: b""})
    data = index_of([(5, len(packet.pack()))], 6)
    assert unpack(data, FIRST + packet.head.size, 6) == [entry_of(packet.head, FIRST)]


@pytest.mark.parametrize("n_slices", [1, 10, 300])
@pytest.mark.parametrize(("size", "due"), [(100, 1), (4500, 2)])
def test_bytes_of_a_frame(n_slices: int, size: int, due: int) -> None:
    by_phase = [(i % n_slices, size) for i in range(3000)]
    assert len(index_of(by_phase, n_slices)) <= due * 3000 + 25
    by_slice = sorted(by_phase)
    assert len(index_of(by_slice, n_slices)) <= due * 3000 + 25 + 4 * n_slices


@pytest.mark.parametrize("end", [FIRST + 49, FIRST + 51, FIRST, 0, (1 << 64) - 1])
def test_sizes_that_do_not_fill_the_file_are_refused(end: int) -> None:
    with pytest.raises(BitstreamError, match=r"packets end at byte 206|hold fewer"):
        unpack(index_of([(0, 50)]), end)


@pytest.mark.parametrize(
    ("count", "table", "message"),
    [
        (1, "", "has 0 numbers"),
        (1, "00", "has 1 numbers"),
        (1, "00 01", "has 2 numbers"),
        (1, "32", "has 1 numbers"),
        (1, "00 01 32 32", "has 4 numbers"),
        (2, "00 01 19 19", "has 4 numbers"),
        (2, "00 03 19 19", "has 4 numbers"),
        (2, "00 ffffffff0f 00 03 19 19", "has 6 numbers"),
        (2, "00 01 00 01 19 19", "another form"),  # one run is enough
        (2, "00 02 01 00 19 19", "another form"),  # a run of none
        (1, "03 01 32", "another form"),  # there are three slices
        (1, "00 01 b200", "shortest form"),
        (1, "00 01 b2", "within a number"),
        (1, "00 01 ffffffff1f", "too large"),
        (0, "00 00", "has 2 bytes"),
        (0, "", "end at byte 156"),
        (1, "00 01 31", "end at byte 205"),
    ],
)
def test_impossible_tables_are_refused(count: int, table: str, message: str) -> None:
    assert unpack_table(1, "00 01 32", FIRST + 50) == [(FIRST, 50, 0, 0, 0)]
    assert unpack_table(0, "", FIRST) == []
    with pytest.raises(BitstreamError, match=message):
        unpack_table(count, table, FIRST + 50)


@pytest.mark.parametrize("count", [11, (1 << 32) - 1])
def test_more_packets_than_the_file_holds_take_no_memory(count: int) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(BitstreamError, match="50 bytes hold fewer"):
            unpack_table(count, "00 00", FIRST + 50)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


def test_memory_follows_the_file() -> None:
    file_size = 300_000 * MIN_PACKET
    data = index_of([(0, MIN_PACKET)] * 300_000)
    head = unpack_head(data)
    tracemalloc.start()
    try:
        unpack_index(head, data[head.head_size :], FIRST, FIRST + file_size, SPEC)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20 * file_size


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.integers(0, 9), st.binary(max_size=40), st.integers(0, 400))
def test_noise_is_refused_or_the_one_form_of_what_it_says(
    count: int, table: bytes, size: int
) -> None:
    try:
        entries = unpack_table(count, table.hex(), FIRST + size)
    except BitstreamError:
        return
    assert index_of([(entry[3], entry[1]) for entry in entries]).endswith(table)


def test_count_that_is_not_the_entries_is_refused() -> None:
    with pytest.raises(BitstreamError, match="index of 2 packets has 3 numbers"):
        unpack_table(2, "00 01 32", FIRST + 50)


def test_frame_is_no_index() -> None:
    head = Packet(0, 0, 0, True, {}).head
    with pytest.raises(BitstreamError, match="where the index must be"):
        unpack_index(head, b"", FIRST, FIRST, SPEC)


def test_footer_has_the_bytes_of_the_specification() -> None:
    data = Footer(185, 1).pack()
    assert data == bytes.fromhex("b900000000000000 01000000 7fc22e2a 89454344454e440a")
    assert Footer.unpack(data) == Footer(185, 1)


def test_every_flipped_bit_of_the_footer_is_found() -> None:
    data = Footer(185, 1).pack()
    for position in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[position] ^= 1 << bit
            with pytest.raises(BitstreamError):
                Footer.unpack(bytes(damaged))
    with pytest.raises(BitstreamError):
        Footer.unpack(data[:-1])
