"""One packet: the layers of one frame, each with its own size and CRC.

A packet begins with a head that can be recognized anywhere in a file (sync bytes and a CRC over
the head), so that a reader finds the next packet after damage. The head says how long the layers
are; they follow without gaps. The index at the end of a file is a packet with a layer of its own.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from edge_codec.bitstream.varint import (
    MAX_VARINT,
    MAX_VARINT_SIZE,
    pack_varint,
    read_varint,
    varint_size,
)
from edge_codec.errors import BitstreamError, FrameError

SYNC = b"\xecP"  # not valid UTF-8
MAX_LAYER_SIZE = 1 << 27  # 8 bytes for each voxel of the largest frame

_CRC = struct.Struct("<I")
_CONTENT_AT = len(SYNC)
_NUMBERS_AT = _CONTENT_AT + 1


class LayerId(IntEnum):
    """Wire id of a layer; a packet's layers stand in rising order of it."""

    BASE = 0
    RESIDUAL = 1
    METADATA = 2
    LIVE = 5  # `bitstream.live.LiveNote`


INDEX_LAYER = 3
# The byte of contents: bit i says that layer i is there, but bit 4 that the frame is a key frame.
_LAYER_IDS = (*LayerId, INDEX_LAYER)
_INDEX_CONTENT = 1 << INDEX_LAYER
_KEY = 1 << 4
_FRAME_CONTENTS = sum(1 << layer for layer in LayerId) | _KEY
MIN_HEAD = _NUMBERS_AT + 3 + _CRC.size
MAX_HEAD = (
    _NUMBERS_AT + 3 * MAX_VARINT_SIZE + len(LayerId) * (MAX_VARINT_SIZE + _CRC.size) + _CRC.size
)


@dataclass(frozen=True, slots=True)
class PacketHead:
    """What stands before the payloads of a packet.

    Attributes
    ----------
    sequence, slice_index, phase_index : int
        As in `Packet`; an index has its number of frames, 0, 0.
    key : bool
        Whether the frame is coded without earlier frames.
    layers : tuple of (int, int, int)
        Wire id, size in bytes, and CRC-32 of each layer, in rising order of id.
    """

    sequence: int
    slice_index: int
    phase_index: int
    key: bool
    layers: tuple[tuple[int, int, int], ...]

    @property
    def is_index(self) -> bool:
        """Whether this is the head of the index and not of a frame."""
        return any(layer == INDEX_LAYER for layer, _, _ in self.layers)

    @property
    def head_size(self) -> int:
        """Bytes of the head, its CRC included."""
        numbers = (self.sequence, self.slice_index, self.phase_index)
        sizes = [size for _, size, _ in self.layers]
        crcs = _CRC.size * (len(sizes) + 1)
        return _NUMBERS_AT + sum(map(varint_size, (*numbers, *sizes))) + crcs

    @property
    def payload_size(self) -> int:
        """Bytes of all layers together."""
        return sum(size for _, size, _ in self.layers)

    @property
    def size(self) -> int:
        """Bytes of the whole packet."""
        return self.head_size + self.payload_size

    def pack(self) -> bytes:
        """Serialize the head, its CRC included."""
        content = sum(1 << layer for layer, _, _ in self.layers) | (_KEY if self.key else 0)
        parts = [SYNC, bytes([content])]
        parts += map(pack_varint, (self.sequence, self.slice_index, self.phase_index))
        parts += [pack_varint(size) + _CRC.pack(crc) for _, size, crc in self.layers]
        data = b"".join(parts)
        return data + _CRC.pack(zlib.crc32(data))

    def split(self, payload: bytes) -> list[bytes]:
        """Cut the payload into layers and check each.

        Parameters
        ----------
        payload : bytes
            The `payload_size` bytes after the head.

        Returns
        -------
        list of bytes
            One item per entry of `layers`.

        Raises
        ------
        BitstreamError
            If the payload is too short or a CRC is wrong.
        """
        if len(payload) != self.payload_size:
            raise BitstreamError(
                f"packet {self.sequence} has {len(payload)} bytes of layers; its head says "
                f"{self.payload_size}"
            )
        parts, at = [], 0
        for number, (layer, size, crc) in enumerate(self.layers):
            part = payload[at : at + size]
            found = zlib.crc32(part, self._seed(number))
            if found != crc:
                raise BitstreamError(
                    f"layer {layer} of packet {self.sequence} is damaged: CRC {found:08x} "
                    f"instead of {crc:08x}"
                )
            parts.append(part)
            at += size
        return parts

    def _seed(self, number: int) -> int:
        """Return the CRC of what the CRC of a layer covers beside the layer."""
        del number
        return 0


@dataclass(frozen=True, slots=True)
class Packet:
    """The layers of one frame.

    Attributes
    ----------
    sequence : int
        Number of the packet in its stream: 0, 1, 2 without gaps, below 2**32.
    slice_index, phase_index : int
        Place of the frame, each below 2**32.
    key : bool
        Whether the frame is coded without earlier frames.
    layers : mapping of LayerId to bytes
        Payload of each layer that is there, each at most `MAX_LAYER_SIZE`.
    """

    sequence: int
    slice_index: int
    phase_index: int
    key: bool
    layers: Mapping[LayerId, bytes]

    @property
    def head(self) -> PacketHead:
        """The head that describes this packet."""
        return PacketHead(
            self.sequence,
            self.slice_index,
            self.phase_index,
            self.key,
            tuple(
                (int(layer), len(self.layers[layer]), zlib.crc32(self.layers[layer]))
                for layer in sorted(self.layers)
            ),
        )

    def pack(self) -> bytes:
        """Serialize the packet.

        Returns
        -------
        bytes
            Head and layers.

        Raises
        ------
        FrameError
            If a number or a layer is too large for the format.
        """
        numbers = (self.sequence, self.slice_index, self.phase_index)
        if not all(0 <= number <= MAX_VARINT for number in numbers):
            raise FrameError(
                f"packet {self.sequence} of slice {self.slice_index}, phase {self.phase_index}: "
                "each number must lie in 0 to 2**32 - 1"
            )
        for layer, payload in self.layers.items():
            if len(payload) > MAX_LAYER_SIZE:
                raise FrameError(
                    f"{layer.name} layer of {len(payload)} bytes exceeds {MAX_LAYER_SIZE}; "
                    "split the frame into tiles"
                )
        return self.head.pack() + b"".join(self.layers[layer] for layer in sorted(self.layers))

    @classmethod
    def unpack(cls, data: bytes) -> Packet:
        """Parse one whole packet, bytes from outside.

        Parameters
        ----------
        data : bytes
            A packet as `pack` made it, and nothing after it.

        Returns
        -------
        Packet
            The packet.

        Raises
        ------
        BitstreamError
            If the bytes are not one whole, undamaged frame packet.
        """
        head = unpack_head(data)
        return cls.from_payload(head, data[head.head_size :])

    @classmethod
    def from_payload(cls, head: PacketHead, payload: bytes) -> Packet:
        """Join a head and the bytes after it.

        Parameters
        ----------
        head : PacketHead
            Head of a frame packet.
        payload : bytes
            The `head.payload_size` bytes after it.

        Returns
        -------
        Packet
            The packet.

        Raises
        ------
        BitstreamError
            If the head is that of an index, or a layer is damaged.
        """
        if head.is_index:
            raise BitstreamError("the packet is an index; a frame is expected")
        parts = head.split(payload)
        layers = {LayerId(entry[0]): part for entry, part in zip(head.layers, parts, strict=True)}
        return cls(head.sequence, head.slice_index, head.phase_index, head.key, layers)


def unpack_head(data: bytes) -> PacketHead:
    """Parse the head of a packet, bytes from outside.

    Parameters
    ----------
    data : bytes
        Beginning of a packet; `MAX_HEAD` bytes are enough.

    Returns
    -------
    PacketHead
        The head. Sizes of its layers are bounded by `MAX_LAYER_SIZE` (frames) or 32 bits (index);
        whether so many bytes follow is for the caller to check.

    Raises
    ------
    BitstreamError
        If this is no whole, undamaged head with known contents.
    """
    if data[: len(SYNC)] != SYNC:
        raise BitstreamError(f"{data[: len(SYNC)]!r} found where a packet must begin with {SYNC!r}")
    if len(data) < MIN_HEAD:
        raise BitstreamError(f"head of a packet is cut after {len(data)} bytes")
    content, at = data[_CONTENT_AT], _NUMBERS_AT
    if content & ~_FRAME_CONTENTS and content != _INDEX_CONTENT:
        raise BitstreamError(f"packet with contents {content:#04x}; bits 6 and 7 must be 0, and 3")
    sequence, at = read_varint(data, at)
    slice_index, at = read_varint(data, at)
    phase_index, at = read_varint(data, at)
    layers = []
    for layer in _LAYER_IDS:
        if content >> layer & 1:
            size, at = read_varint(data, at)
            crc, at = _read_crc(data, at)
            layers.append((int(layer), size, crc))
    crc, _ = _read_crc(data, at)
    if zlib.crc32(memoryview(data)[:at]) != crc:
        raise BitstreamError("head of a packet is damaged: its CRC is wrong")
    head = PacketHead(sequence, slice_index, phase_index, bool(content & _KEY), tuple(layers))
    _check(head)
    return head


def _read_crc(data: bytes, at: int) -> tuple[int, int]:
    end = at + _CRC.size
    if len(data) < end:
        raise BitstreamError(f"head of a packet is cut after {len(data)} bytes")
    return _CRC.unpack_from(data, at)[0], end


def _check(head: PacketHead) -> None:
    if head.is_index:
        if head.slice_index or head.phase_index:
            raise BitstreamError("index with a slice or phase; both must be 0")
        return
    for layer, size, _ in head.layers:
        if size > MAX_LAYER_SIZE:
            raise BitstreamError(
                f"layer {layer} of packet {head.sequence} says it has {size} bytes; "
                f"{MAX_LAYER_SIZE} are possible"
            )
