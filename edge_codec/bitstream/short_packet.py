"""The short form of a packet in a file: a predicted frame whose place follows from the one before.

At low rates the head of a packet, 15 bytes or more, would be a sixth of the stream. A frame that is
no key frame, has just the layers that are due, and comes next in its slice or in the slice after
it, needs no more than its size and one CRC. That CRC is over the place, the head and the first
layer: a packet at another place than its writer meant is as damaged as one with a wrong bit. What
stands alone, as on its way through a network, has the full form.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from edge_codec.bitstream.packet import MAX_LAYER_SIZE, LayerId, Packet, PacketHead
from edge_codec.bitstream.varint import pack_varint, read_varint, varint_size
from edge_codec.errors import BitstreamError

_FULL = 0x80  # SYNC has this bit
_NEXT_SLICE = 0x40
_SIZE = 0x3F
_ONE_BYTE = 48  # sizes below this stand in the first byte
MAX_FIRST_LAYER = _ONE_BYTE + (_SIZE - _ONE_BYTE) * 256 + 255
MAX_SHORT_HEAD = 2 + 4 + 5 + 4  # of a base and a residual layer

_CRC = struct.Struct("<I")
_PLACE = struct.Struct("<3I")


class Place(NamedTuple):
    """What a short packet does not say: number, slice and phase, as in `Packet`."""

    sequence: int
    slice_index: int
    phase_index: int


# The place of a short packet, told whether it is of the next slice; None if that does not follow.
Follow = Callable[[bool], Place | None]


@dataclass(frozen=True, slots=True)
class ShortHead(PacketHead):
    """What stands before the payloads of a packet in its short form.

    The CRC of its first layer in `layers` is that of place, head and layer together.

    Attributes
    ----------
    next_slice : bool
        Whether the frame is of the slice after that of the packet before.
    """

    next_slice: bool

    @property
    def head_size(self) -> int:
        """Bytes of the head."""
        (_, first, _), *others = self.layers
        sizes = sum(varint_size(size) for _, size, _ in others)
        return (1 if first < _ONE_BYTE else 2) + sizes + _CRC.size * len(self.layers)

    def pack(self) -> bytes:
        """Serialize the head."""
        return self._begin() + _CRC.pack(self.layers[0][2])

    def crc_of(self, first_layer: bytes) -> int:
        """Return the CRC that the head has if nothing is damaged."""
        return zlib.crc32(first_layer, self._seed(0))

    def check(self, first_layer: bytes) -> None:
        """Compare the CRC of place, head and first layer.

        Raises
        ------
        BitstreamError
            If it is wrong.
        """
        if self.crc_of(first_layer) != self.layers[0][2]:
            raise BitstreamError(
                f"packet {self.sequence} (short form) is damaged, or is not what follows here"
            )

    def _begin(self) -> bytes:
        (_, size, _), *others = self.layers
        flag = _NEXT_SLICE if self.next_slice else 0
        if size < _ONE_BYTE:
            parts = [bytes([flag | size])]
        else:
            high, low = divmod(size - _ONE_BYTE, 256)
            parts = [bytes([flag | _ONE_BYTE + high, low])]
        parts += [pack_varint(size) + _CRC.pack(crc) for _, size, crc in others]
        return b"".join(parts)

    def _seed(self, number: int) -> int:
        if number:
            return 0
        place = _PLACE.pack(self.sequence, self.slice_index, self.phase_index)
        return zlib.crc32(self._begin(), zlib.crc32(place))


def is_short(data: bytes) -> bool:
    """Whether a packet begins that is not in its full form, or nothing at all."""
    return len(data) > 0 and data[0] < _FULL


def pack_short(packet: Packet, next_slice: bool) -> bytes | None:
    """Serialize a packet in its short form.

    Parameters
    ----------
    packet : Packet
        No key frame, with the layers that are due and no others.
    next_slice : bool
        Whether it is of the slice after that of the packet before.

    Returns
    -------
    bytes or None
        Head and layers; None where its first layer is too large, at more than `MAX_FIRST_LAYER`.
    """
    parts = [packet.layers[layer] for layer in sorted(packet.layers)]
    if len(parts[0]) > MAX_FIRST_LAYER or max(map(len, parts)) > MAX_LAYER_SIZE:
        return None
    place = (packet.sequence, packet.slice_index, packet.phase_index)
    (first, size, _), *others = packet.head.layers
    open_head = ShortHead(*place, False, ((first, size, 0), *others), next_slice)
    layers = ((first, size, open_head.crc_of(parts[0])), *others)
    return ShortHead(*place, False, layers, next_slice).pack() + b"".join(parts)


def unpack_short(data: bytes, follow: Follow, layers: tuple[LayerId, ...]) -> ShortHead:
    """Parse the head of a packet in its short form, bytes from outside.

    Nothing in it is certain before `ShortHead.check`.

    Parameters
    ----------
    data : bytes
        Beginning of a packet for which `is_short`; `MAX_SHORT_HEAD` bytes are enough.
    follow : callable
        The place of the packet.
    layers : tuple of LayerId
        Layers that are due in the stream.

    Returns
    -------
    ShortHead
        The head; whether so many bytes follow is for the caller to check.

    Raises
    ------
    BitstreamError
        If the head is cut or impossible, or no place follows for it.
    """
    next_slice, size, at = bool(data[0] & _NEXT_SLICE), data[0] & _SIZE, 1
    place = follow(next_slice)
    if place is None:
        raise BitstreamError("no packet, or one in short form that nothing before it gives a place")
    if size >= _ONE_BYTE:
        if len(data) < 2:
            raise BitstreamError(f"head of packet {place.sequence} is cut")
        size, at = _ONE_BYTE + (size - _ONE_BYTE) * 256 + data[1], 2
    sizes, crcs = [size], []
    for _ in layers[1:]:
        size, at = read_varint(data, at)
        if size > MAX_LAYER_SIZE:
            raise BitstreamError(f"layer of packet {place.sequence} says it has {size} bytes")
        sizes.append(size)
        crcs.append(data[at : at + _CRC.size])
        at += _CRC.size
    crcs.insert(0, data[at : at + _CRC.size])
    if at + _CRC.size > len(data):
        raise BitstreamError(f"head of packet {place.sequence} is cut")
    entries = zip(layers, sizes, (_CRC.unpack(crc)[0] for crc in crcs), strict=True)
    return ShortHead(
        *place, False, tuple((int(i), size, crc) for i, size, crc in entries), next_slice
    )
