from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given, settings
from stream_samples import packets

from edge_codec.bitstream.packet import (
    MAX_HEAD,
    MAX_LAYER_SIZE,
    LayerId,
    Packet,
    PacketType,
    unpack_head,
)
from edge_codec.errors import BitstreamError, FrameError

SAMPLE = Packet(7, 1, 3, False, {LayerId.RESIDUAL: b"residual", LayerId.BASE: b"base"})
GOLDEN = (
    "45434450 01 00 02 00"  # sync, frame, no key, 2 layers, reserved
    "07000000 01000000 03000000"  # sequence 7, slice 1, phase 3
    "00 000000 04000000 61feb4c0"  # base, reserved, 4 bytes, CRC
    "01 000000 08000000 effdd195"  # residual, reserved, 8 bytes, CRC
    "4c75323b"  # CRC of the head
    "62617365 726573696475616c"  # payloads
)


def patched(at: int, raw: bytes) -> bytes:
    data = bytearray(SAMPLE.pack())
    data[at : at + len(raw)] = raw
    end = 20 + 12 * data[6]
    if end + 4 <= len(data):
        struct.pack_into("<I", data, end, zlib.crc32(data[:end]))
    return bytes(data)


def test_packet_has_the_bytes_of_the_specification() -> None:
    assert SAMPLE.pack() == bytes.fromhex(GOLDEN)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(packets())
def test_unpack_inverts_pack(packet: Packet) -> None:
    data = packet.pack()
    assert Packet.unpack(data) == packet
    head = unpack_head(data[:MAX_HEAD])
    assert head == packet.head
    assert head.size == len(data)


def test_every_flipped_bit_is_found() -> None:
    data = SAMPLE.pack()
    for position in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[position] ^= 1 << bit
            with pytest.raises(BitstreamError):
                Packet.unpack(bytes(damaged))


def test_every_cut_is_found() -> None:
    data = SAMPLE.pack()
    for size in range(len(data)):
        with pytest.raises(BitstreamError):
            Packet.unpack(data[:size])


@pytest.mark.parametrize(
    ("at", "raw", "message"),
    [
        (4, b"\x03", "type 3"),
        (4, b"\x02", "index packet with fields"),
        (5, b"\x02", "flags 0x2"),
        (6, b"\x03", "damaged|cut|reserved"),
        (6, b"\xff", "255 layers"),
        (7, b"\x01", "reserved 1"),
        (20, b"\x03", "known are 0, 1, 2"),
        (20, b"\x01", "must rise"),
        (20, b"\x02", "must rise"),
        (21, b"\x01", "reserved bytes"),
        (24, struct.pack("<I", MAX_LAYER_SIZE + 1), "are possible"),
        (24, b"\xff\xff\xff\xff", "are possible"),
        (24, b"\x05", "bytes of layers"),
        (24, b"\x03", "bytes of layers"),
        (28, b"\0\0\0\0", "layer 0 of packet 7 is damaged"),
    ],
)
def test_hostile_value_with_right_crc_is_refused(at: int, raw: bytes, message: str) -> None:
    with pytest.raises(BitstreamError, match=message):
        Packet.unpack(patched(at, raw))


def test_trailing_byte_is_refused() -> None:
    with pytest.raises(BitstreamError):
        Packet.unpack(SAMPLE.pack() + b"\0")


def test_index_is_no_frame() -> None:
    head = SAMPLE.head
    index = type(head)(PacketType.INDEX, 0, 0, 0, False, ((255, 0, 0),)).pack()
    with pytest.raises(BitstreamError, match="a frame is expected"):
        Packet.unpack(index)


@pytest.mark.parametrize("numbers", [(1 << 32, 0, 0), (0, -1, 0), (0, 0, 1 << 32)])
def test_number_beyond_32_bits_is_refused(numbers: tuple[int, int, int]) -> None:
    with pytest.raises(FrameError):
        Packet(*numbers, key=True, layers={}).pack()


def test_layer_too_large_is_refused() -> None:
    with pytest.raises(FrameError, match="split the frame"):
        Packet(0, 0, 0, True, {LayerId.BASE: bytes(MAX_LAYER_SIZE + 1)}).pack()
