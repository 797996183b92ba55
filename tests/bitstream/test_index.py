from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_codec.bitstream.index import Footer, pack_entry, pack_index, unpack_index
from edge_codec.bitstream.packet import Packet, PacketType, unpack_head
from edge_codec.errors import BitstreamError

NUMBER = st.integers(0, (1 << 32) - 1)
FIRST = 140


def index_of(rows: list[tuple[int, int, int, int, int]]) -> bytes:
    """An index packet of (offset, size, slice, phase, flags), right or not."""
    return pack_index(
        b"".join(
            offset.to_bytes(8, "little")
            + b"".join(number.to_bytes(4, "little") for number in numbers)
            + flags.to_bytes(4, "little")
            for offset, *numbers, flags in rows
        )
    )


def unpack(data: bytes, end: int) -> list[tuple[int, ...]]:
    head = unpack_head(data)
    entries = unpack_index(head, data[head.head_size :], FIRST, end)
    return [tuple(int(entry[name]) for name in entries.dtype.names[:5]) for entry in entries]


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.lists(st.tuples(NUMBER, NUMBER, NUMBER, st.integers(0, 1)), max_size=20))
def test_unpack_inverts_pack(rows: list[tuple[int, int, int, int]]) -> None:
    offset, placed = FIRST, []
    for size, *rest in rows:
        placed.append((offset, size, *rest))
        offset += size
    assert unpack(index_of(placed), offset) == placed


def test_entry_describes_its_packet() -> None:
    packet = Packet(0, 5, 6, True, {})
    data = pack_index(pack_entry(packet.head, FIRST))
    assert unpack(data, FIRST + 24) == [(FIRST, 24, 5, 6, 1)]


@pytest.mark.parametrize(
    ("rows", "end"),
    [
        ([(FIRST + 1, 50, 0, 0, 1)], FIRST + 51),  # gap before the first
        ([(FIRST - 1, 50, 0, 0, 1)], FIRST + 49),  # into the header
        ([(FIRST, 50, 0, 0, 1), (FIRST + 49, 50, 0, 1, 0)], FIRST + 99),  # overlap
        ([(FIRST, 50, 0, 0, 1), (FIRST + 51, 50, 0, 1, 0)], FIRST + 101),  # gap
        ([(FIRST, 50, 0, 0, 1), (FIRST, 50, 0, 1, 0)], FIRST + 50),  # backward
        ([(FIRST, 50, 0, 0, 1), ((1 << 64) - 1, 50, 0, 1, 0)], FIRST + 49),  # far away
        ([(FIRST, 50, 0, 0, 1)], FIRST + 60),  # room before the index
        ([(FIRST, 50, 0, 0, 1)], FIRST + 40),  # into the index
        ([], FIRST + 1),
        ([(FIRST, 50, 0, 0, 2)], FIRST + 50),  # unknown flag
        ([(FIRST, 50, 0, 0, 256)], FIRST + 50),  # reserved byte
    ],
)
def test_impossible_entries_are_refused(
    rows: list[tuple[int, int, int, int, int]], end: int
) -> None:
    with pytest.raises(BitstreamError):
        unpack(index_of(rows), end)


def test_count_that_is_not_the_entries_is_refused() -> None:
    data = bytearray(index_of([(FIRST, 50, 0, 0, 1)]))
    head = unpack_head(bytes(data))
    wrong = type(head)(PacketType.INDEX, 2, 0, 0, False, head.layers)
    with pytest.raises(BitstreamError, match="index of 2 packets"):
        unpack_index(wrong, bytes(data[head.head_size :]), FIRST, FIRST + 50)


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
