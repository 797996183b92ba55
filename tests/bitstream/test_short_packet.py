from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_codec.bitstream.packet import MAX_LAYER_SIZE, LayerId, Packet
from edge_codec.bitstream.packet_file import always
from edge_codec.bitstream.short_packet import (
    MAX_FIRST_LAYER,
    MAX_SHORT_HEAD,
    Place,
    is_short,
    pack_short,
    unpack_short,
)
from edge_codec.errors import BitstreamError

BOTH = (LayerId.BASE, LayerId.RESIDUAL)
PLACE = Place(300, 1, 3)
SAMPLE = Packet(*PLACE, False, {LayerId.RESIDUAL: b"residual", LayerId.BASE: b"base"})
GOLDEN = (
    "44"  # next slice, base of 4 bytes
    "08 effdd195"  # residual: 8 bytes, CRC
    "06a9199b"  # CRC of 300, 1, 3 as u32, of the bytes before it, and of the base
    "62617365 726573696475616c"  # payloads
)
NUMBERS = st.integers(0, (1 << 32) - 1)
SIZES = st.integers(0, 60) | st.integers(0, MAX_FIRST_LAYER)


def unpack(data: bytes, place: Place, layers: tuple[LayerId, ...] = BOTH) -> Packet:
    head = unpack_short(data, always(place), layers)
    return Packet.from_payload(head, data[head.head_size :])


def test_short_form_has_the_bytes_of_the_specification() -> None:
    raw = bytes.fromhex("44 08 effdd195")
    crc = zlib.crc32(struct.pack("<3I", *PLACE) + raw + b"base")
    assert bytes.fromhex(GOLDEN) == raw + struct.pack("<I", crc) + b"baseresidual"
    assert pack_short(SAMPLE, next_slice=True) == bytes.fromhex(GOLDEN)
    assert unpack(bytes.fromhex(GOLDEN), PLACE) == SAMPLE


@pytest.mark.parametrize(
    ("size", "raw"),
    [
        (0, "00"),
        (47, "2f"),
        (48, "3000"),
        (303, "30ff"),
        (304, "3100"),
        (MAX_FIRST_LAYER, "3fff"),
    ],
)
def test_sizes_have_the_bytes_of_the_specification(size: int, raw: str) -> None:
    packet = Packet(*PLACE, False, {LayerId.BASE: bytes(size)})
    for next_slice in (False, True):
        data = pack_short(packet, next_slice)
        assert data is not None
        begin = bytes.fromhex(raw)
        assert data.startswith(bytes([begin[0] | 0x40 * next_slice]) + begin[1:])
        assert len(data) == len(begin) + 4 + size


@settings(derandomize=True, max_examples=300, deadline=None)
@given(NUMBERS, NUMBERS, NUMBERS, SIZES, st.none() | st.integers(0, 300), st.booleans())
def test_unpack_inverts_pack(
    sequence: int, slice_index: int, phase: int, first: int, second: int | None, next_slice: bool
) -> None:
    layers = {LayerId.BASE: b"b" * first}
    if second is not None:
        layers[LayerId.RESIDUAL] = b"r" * second
    packet = Packet(sequence, slice_index, phase, False, layers)
    data = pack_short(packet, next_slice)
    assert data is not None
    assert is_short(data)
    assert not is_short(packet.pack())
    place, due = Place(sequence, slice_index, phase), tuple(layers)
    assert unpack(data, place, due) == packet
    told: list[bool] = []
    head = unpack_short(data[:MAX_SHORT_HEAD], lambda flag: told.append(flag) or place, due)
    assert told == [next_slice]
    assert head.size == len(data)
    assert data.startswith(head.pack())
    assert len(packet.pack()) - len(data) >= 9


@pytest.mark.parametrize("place", [Place(299, 1, 3), Place(300, 0, 3), Place(300, 1, 4)])
def test_packet_at_another_place_is_damaged(place: Place) -> None:
    with pytest.raises(BitstreamError):
        unpack(bytes.fromhex(GOLDEN), place)


def test_every_flipped_bit_is_found() -> None:
    data = bytes.fromhex(GOLDEN)
    for position in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[position] ^= 1 << bit
            if not is_short(damaged):
                assert (position, bit) == (0, 7)
                continue
            with pytest.raises(BitstreamError):
                unpack(bytes(damaged), PLACE)


def test_every_cut_is_found() -> None:
    data = bytes.fromhex(GOLDEN)
    assert not is_short(b"")
    for size in range(1, len(data)):
        with pytest.raises(BitstreamError):
            unpack(data[:size], PLACE)
    with pytest.raises(BitstreamError):
        unpack(data + b"\0", PLACE)
    with pytest.raises(BitstreamError, match="cut"):
        unpack_short(b"\x30", always(PLACE), BOTH)


def test_base_is_read_without_the_residual() -> None:
    data = bytearray(bytes.fromhex(GOLDEN))
    data[-1] ^= 1
    head = unpack_short(bytes(data), always(PLACE), BOTH)
    head.check(b"base")
    with pytest.raises(BitstreamError, match="layer 1 of packet 300 is damaged"):
        Packet.from_payload(head, bytes(data[head.head_size :]))


def test_place_that_does_not_follow_is_refused() -> None:
    with pytest.raises(BitstreamError, match="nothing before it gives a place"):
        unpack_short(bytes.fromhex(GOLDEN), lambda _: None, BOTH)


def test_size_beyond_the_limit_is_refused() -> None:
    with pytest.raises(BitstreamError, match="says it has"):
        unpack_short(bytes.fromhex("04 81808040") + bytes(8), always(PLACE), BOTH)


@pytest.mark.parametrize(
    "layers",
    [
        {LayerId.BASE: bytes(MAX_FIRST_LAYER + 1)},
        {LayerId.RESIDUAL: bytes(MAX_FIRST_LAYER + 1)},
        {LayerId.BASE: b"", LayerId.RESIDUAL: bytes(MAX_LAYER_SIZE + 1)},
    ],
)
def test_large_layers_have_no_short_form(layers: dict[LayerId, bytes]) -> None:
    assert pack_short(Packet(1, 0, 1, False, layers), False) is None
