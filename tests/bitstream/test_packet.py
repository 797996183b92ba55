from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given, settings
from stream_samples import packets

from edge_codec.bitstream.packet import (
    INDEX_LAYER,
    MAX_HEAD,
    MAX_LAYER_SIZE,
    MIN_HEAD,
    LayerId,
    Packet,
    PacketHead,
    unpack_head,
)
from edge_codec.errors import BitstreamError, FrameError

SAMPLE = Packet(300, 1, 3, False, {LayerId.RESIDUAL: b"residual", LayerId.BASE: b"base"})
GOLDEN = (
    "ec50 03"  # sync, base and residual, no key
    "ac02 01 03"  # sequence 300, slice 1, phase 3
    "04 61feb4c0"  # base: 4 bytes, CRC
    "08 effdd195"  # residual: 8 bytes, CRC
    "7e11b53c"  # CRC of the head
    "62617365 726573696475616c"  # payloads
)


LIVE_SAMPLE = Packet(0, 0, 0, True, {LayerId.LIVE: b"note", LayerId.RESIDUAL: b"residual"})
LIVE_GOLDEN = (
    "ec50 32"  # sync; residual, key frame, note
    "00 00 00"
    "08 effdd195"  # residual
    "04 14fabdcf"  # note: 4 bytes, CRC
    "4b8335f0"  # CRC of the head
    "726573696475616c 6e6f7465"
)


def with_head(raw: str) -> bytes:
    """A packet with another head, its CRC right, and the layers of the sample."""
    head = bytes.fromhex(raw)
    return head + struct.pack("<I", zlib.crc32(head)) + b"baseresidual"


def test_packet_has_the_bytes_of_the_specification() -> None:
    assert SAMPLE.pack() == bytes.fromhex(GOLDEN)
    assert LIVE_SAMPLE.pack() == bytes.fromhex(LIVE_GOLDEN)
    assert Packet.unpack(bytes.fromhex(LIVE_GOLDEN)) == LIVE_SAMPLE


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
    ("head", "message"),
    [
        ("ec50 2b ac02 01 03 04 61feb4c0 08 effdd195", "contents 0x2b"),
        ("ec50 28 02 00 00 0c 61feb4c0", "contents 0x28"),  # index and note
        ("ec50 43 ac02 01 03 04 61feb4c0 08 effdd195", "contents 0x43"),
        ("ec50 83 ac02 01 03 04 61feb4c0 08 effdd195", "contents 0x83"),
        ("ec50 0b ac02 01 03 04 61feb4c0 08 effdd195", "contents 0x0b"),
        ("ec50 18 ac02 01 03 04 61feb4c0", "contents 0x18"),  # index and key frame
        ("ec50 08 02 01 00 0c 61feb4c0", "index with a slice or phase"),
        ("ec50 08 02 00 01 0c 61feb4c0", "index with a slice or phase"),
        ("ec50 03 ac8200 01 03 04 61feb4c0 08 effdd195", "no number"),  # one byte too long
        ("ec50 03 ac02 ffffffff1f 03 04 61feb4c0 08 effdd195", "no number"),  # beyond 32 bits
        ("ec50 03 ac02 01 ffffffffff 01 04 61feb4c0 08 effdd195", "no number"),
        ("ec50 03 ac02 01 03 81808040 61feb4c0 08 effdd195", "are possible"),  # MAX_LAYER_SIZE + 1
        ("ec50 03 ac02 01 03 ffffffff0f 61feb4c0 08 effdd195", "are possible"),
        ("ec50 03 ac02 01 03 05 61feb4c0 08 effdd195", "bytes of layers"),
        ("ec50 03 ac02 01 03 03 61feb4c0 08 effdd195", "bytes of layers"),
        ("ec50 03 ac02 01 03 04 61feb4c1 08 effdd195", "layer 0 of packet 300 is damaged"),
        ("ec50 05 ac02 01 03 04 61feb4c0 08 effdd196", "layer 2 of packet 300 is damaged"),
        ("ec51 03 ac02 01 03 04 61feb4c0 08 effdd195", "must begin with"),
    ],
)
def test_hostile_value_with_right_crc_is_refused(head: str, message: str) -> None:
    with pytest.raises(BitstreamError, match=message):
        Packet.unpack(with_head(head))


def test_sizes_of_heads() -> None:
    smallest = Packet(0, 0, 0, True, {})
    assert len(smallest.pack()) == smallest.head.head_size == MIN_HEAD
    layers = tuple((layer, (1 << 32) - 1, 0) for layer in LayerId)
    largest = PacketHead((1 << 32) - 1, (1 << 32) - 1, (1 << 32) - 1, True, layers)
    assert len(largest.pack()) == largest.head_size == MAX_HEAD


def test_trailing_byte_is_refused() -> None:
    with pytest.raises(BitstreamError):
        Packet.unpack(SAMPLE.pack() + b"\0")


def test_index_is_no_frame() -> None:
    index = PacketHead(0, 0, 0, False, ((INDEX_LAYER, 0, 0),))
    assert unpack_head(index.pack()) == index
    with pytest.raises(BitstreamError, match="a frame is expected"):
        Packet.unpack(index.pack())


@pytest.mark.parametrize("numbers", [(1 << 32, 0, 0), (0, -1, 0), (0, 0, 1 << 32)])
def test_number_beyond_32_bits_is_refused(numbers: tuple[int, int, int]) -> None:
    with pytest.raises(FrameError):
        Packet(*numbers, key=True, layers={}).pack()


def test_layer_too_large_is_refused() -> None:
    with pytest.raises(FrameError, match="split the frame"):
        Packet(0, 0, 0, True, {LayerId.BASE: bytes(MAX_LAYER_SIZE + 1)}).pack()
