"""One packet: the layers of one frame, each with its own size and CRC.

A packet begins with a head that can be recognized anywhere in a file (sync bytes and a CRC over
the head), so that a reader finds the next packet after damage. The head says how long the layers
are; they follow without gaps. The index at the end of a file is a packet of another type, with
one layer.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from edge_codec.errors import BitstreamError, FrameError

SYNC = b"ECDP"
MAX_LAYER_SIZE = 1 << 27  # 8 bytes for each voxel of the largest frame

_HEAD = struct.Struct("<4s4B3I")  # sync, type, flags, layers, zero, sequence, slice, phase
_LAYER = struct.Struct("<B3s2I")  # id, zeros, size, crc
_CRC = struct.Struct("<I")
_KEY_FLAG = 1
_ZEROS = b"\0\0\0"


class PacketType(IntEnum):
    """Wire id of what a packet holds."""

    FRAME = 1
    INDEX = 2


class LayerId(IntEnum):
    """Wire id of a layer; a packet's layers stand in rising order of it."""

    BASE = 0
    RESIDUAL = 1
    METADATA = 2


INDEX_LAYER = 255
_LAYER_IDS = frozenset(LayerId)
MAX_HEAD = _HEAD.size + len(LayerId) * _LAYER.size + _CRC.size


@dataclass(frozen=True, slots=True)
class PacketHead:
    """What stands before the payloads of a packet.

    Attributes
    ----------
    type : PacketType
        What the packet holds.
    sequence, slice_index, phase_index : int
        As in `Packet`; an index has its number of entries, 0, 0.
    key : bool
        Whether the frame is coded without earlier frames.
    layers : tuple of (int, int, int)
        Wire id, size in bytes, and CRC-32 of each layer.
    """

    type: PacketType
    sequence: int
    slice_index: int
    phase_index: int
    key: bool
    layers: tuple[tuple[int, int, int], ...]

    @property
    def head_size(self) -> int:
        """Bytes of the head, its CRC included."""
        return _HEAD.size + len(self.layers) * _LAYER.size + _CRC.size

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
        data = _HEAD.pack(
            SYNC,
            self.type,
            _KEY_FLAG if self.key else 0,
            len(self.layers),
            0,
            self.sequence,
            self.slice_index,
            self.phase_index,
        ) + b"".join(_LAYER.pack(layer, _ZEROS, size, crc) for layer, size, crc in self.layers)
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
        for layer, size, crc in self.layers:
            part = payload[at : at + size]
            found = zlib.crc32(part)
            if found != crc:
                raise BitstreamError(
                    f"layer {layer} of packet {self.sequence} is damaged: CRC {found:08x} "
                    f"instead of {crc:08x}"
                )
            parts.append(part)
            at += size
        return parts


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
            PacketType.FRAME,
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
        if not all(0 <= n < 1 << 32 for n in (self.sequence, self.slice_index, self.phase_index)):
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
            If the head is none of a frame, or a layer is damaged.
        """
        if head.type is not PacketType.FRAME:
            raise BitstreamError(f"packet of type {head.type.name}; a frame is expected")
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
        If this is no whole, undamaged head of a known type with known layers.
    """
    if data[: len(SYNC)] != SYNC:
        raise BitstreamError(f"{data[: len(SYNC)]!r} found where a packet must begin with {SYNC!r}")
    if len(data) < _HEAD.size:
        raise BitstreamError(f"head of a packet is cut after {len(data)} bytes")
    _, kind, flags, n_layers, zero, sequence, slice_index, phase_index = _HEAD.unpack_from(data)
    if n_layers > len(LayerId):
        raise BitstreamError(f"packet with {n_layers} layers; {len(LayerId)} are possible")
    end = _HEAD.size + n_layers * _LAYER.size
    if len(data) < end + _CRC.size:
        raise BitstreamError(f"head of a packet is cut after {len(data)} bytes")
    (crc,) = _CRC.unpack_from(data, end)
    if zlib.crc32(memoryview(data)[:end]) != crc:
        raise BitstreamError("head of a packet is damaged: its CRC is wrong")
    if zero or kind not in (PacketType.FRAME, PacketType.INDEX) or flags & ~_KEY_FLAG:
        raise BitstreamError(
            f"packet of type {kind} with flags {flags:#x}, reserved {zero}; known are types 1 and "
            "2, flag 1"
        )
    layers = tuple(_layer_at(data, _HEAD.size + i * _LAYER.size) for i in range(n_layers))
    head = PacketHead(
        PacketType(kind), sequence, slice_index, phase_index, bool(flags & _KEY_FLAG), layers
    )
    _check_layers(head)
    return head


def _layer_at(data: bytes, at: int) -> tuple[int, int, int]:
    layer, zeros, size, crc = _LAYER.unpack_from(data, at)
    if zeros != _ZEROS:
        raise BitstreamError(f"reserved bytes of a layer are {zeros.hex()}; they must be zero")
    return layer, size, crc


def _check_layers(head: PacketHead) -> None:
    ids = [layer for layer, _, _ in head.layers]
    if head.type is PacketType.INDEX:
        if ids != [INDEX_LAYER] or head.key or head.slice_index or head.phase_index:
            raise BitstreamError("index packet with fields or layers that belong to a frame")
        return
    if not _LAYER_IDS.issuperset(ids):
        raise BitstreamError(f"packet {head.sequence} has layers {ids}; known are 0, 1, 2")
    if ids != sorted(set(ids)):
        raise BitstreamError(f"packet {head.sequence} has layers {ids}; they must rise")
    for layer, size, _ in head.layers:
        if size > MAX_LAYER_SIZE:
            raise BitstreamError(
                f"layer {layer} of packet {head.sequence} says it has {size} bytes; "
                f"{MAX_LAYER_SIZE} are possible"
            )
