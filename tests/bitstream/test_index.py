from __future__ import annotations

import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_codec.bitstream.index import MIN_PACKET, Footer, entry_of, pack_index, unpack_index
from edge_codec.bitstream.packet import INDEX_LAYER, LayerId, Packet, PacketHead, unpack_head
from edge_codec.errors import BitstreamError

FIRST = 156
SLICES = st.integers(0, 3) | st.integers(0, (1 << 32) - 1)
SIZES = st.integers(MIN_PACKET, 300) | st.integers(MIN_PACKET, (1 << 32) - 1)


def index_of(rows: list[tuple[int, int]]) -> bytes:
    """The index packet of (slice, size) of each packet."""
    return pack_index(*np.array(rows, np.uint32).reshape(-1, 2).T)


def unpack(data: bytes, end: int) -> list[tuple[int, ...]]:
    head = unpack_head(data)
    return unpack_index(head, data[head.head_size :], FIRST, end).tolist()


def unpack_table(count: int, table: str, end: int) -> list[tuple[int, ...]]:
    """Parse a table, right or not, whose CRC is."""
    raw = bytes.fromhex(table)
    head = PacketHead(count, 0, 0, False, ((INDEX_LAYER, len(raw), zlib.crc32(raw)),))
    return unpack_index(head, raw, FIRST, end).tolist()


def test_index_has_the_bytes_of_the_specification() -> None:
    data = index_of([(0, 50), (1, 300), (0, 20)])
    assert data == bytes.fromhex(
        "ec50 08 03 00 00"  # sync, index, 3 packets, 0, 0
        "0b 814b6b30"  # 11 bytes, CRC
        "91a3c134"  # CRC of the head
        "01 02"  # bytes of a slice, of a size
        "00 3200  01 2c01  00 1400"
    )
    assert unpack(data, FIRST + 370) == [
        (FIRST, 50, 0, 0),
        (FIRST + 50, 300, 1, 0),
        (FIRST + 350, 20, 0, 1),
    ]


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.lists(st.tuples(SLICES, SIZES), max_size=20))
def test_unpack_inverts_pack(rows: list[tuple[int, int]]) -> None:
    offset, placed, seen = FIRST, [], []
    for slice_index, size in rows:
        placed.append((offset, size, slice_index, seen.count(slice_index)))
        seen.append(slice_index)
        offset += size
    assert unpack(index_of(rows), offset) == placed


def test_entry_describes_its_packet() -> None:
    packet = Packet(0, 5, 0, True, {LayerId.RESIDUAL: b""})
    data = index_of([(5, len(packet.pack()))])
    assert unpack(data, FIRST + MIN_PACKET) == [entry_of(packet.head, FIRST)]


@pytest.mark.parametrize(("n_slices", "due"), [(1, 2), (10, 3), (300, 4)])
def test_bytes_of_a_frame(n_slices: int, due: int) -> None:
    rows = [(i % n_slices, 4500 + i) for i in range(3000)]
    assert len(index_of(rows)) - len(index_of([])) <= due * len(rows) + 8


@pytest.mark.parametrize("end", [FIRST + 49, FIRST + 51, FIRST, 0, (1 << 64) - 1])
def test_sizes_that_do_not_fill_the_file_are_refused(end: int) -> None:
    with pytest.raises(BitstreamError, match=r"packets end at byte 206|hold fewer"):
        unpack(index_of([(0, 50)]), end)


@pytest.mark.parametrize(
    ("count", "table", "message"),
    [
        (1, "", "0 bytes; it has 2"),
        (1, "00", "1 bytes; it has 2"),
        (1, "00 01", "has 2 bytes"),
        (1, "00 01 32 32", "has 4 bytes"),
        (1, "00 05 32 00 00 00 00", "and 5 bytes"),
        (1, "05 01 00 00 00 00 00 32", "with 5"),
        (1, "ff ff", "with 255"),
        (1, "01 01 00 32", "1 bytes; the largest needs 0"),
        (1, "00 02 32 00", "2 bytes; the largest needs 1"),
        (1, "02 01 01 00 32", "2 bytes; the largest needs 1"),
        (2, "00 01 32 00 00", "has 5 bytes"),
        (0, "00 01", "1 bytes; the largest needs 0"),
        (0, "00 00", "end at byte 156"),
        (3, "00 00", "end at byte 156"),
    ],
)
def test_impossible_tables_are_refused(count: int, table: str, message: str) -> None:
    assert unpack_table(1, "00 01 32", FIRST + 50) == [(FIRST, 50, 0, 0)]
    with pytest.raises(BitstreamError, match=message):
        unpack_table(count, table, FIRST + 50)


@pytest.mark.parametrize("count", [4, (1 << 32) - 1])
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
        unpack_index(head, data[head.head_size :], FIRST, FIRST + file_size)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * file_size


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.integers(0, 9), st.binary(max_size=40), st.integers(0, 400))
def test_noise_is_refused_or_the_one_form_of_what_it_says(
    count: int, table: bytes, size: int
) -> None:
    try:
        entries = unpack_table(count, table.hex(), FIRST + size)
    except BitstreamError:
        return
    assert index_of([(entry[2], entry[1]) for entry in entries]).endswith(table)


def test_count_that_is_not_the_entries_is_refused() -> None:
    with pytest.raises(BitstreamError, match="index of 2 packets"):
        unpack_table(2, "00 01 32", FIRST + 50)


def test_frame_is_no_index() -> None:
    head = Packet(0, 0, 0, True, {}).head
    with pytest.raises(BitstreamError, match="where the index must be"):
        unpack_index(head, b"", FIRST, FIRST)


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
