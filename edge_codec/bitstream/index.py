"""The end of a file: the index of its packets, and the footer that finds the index.

The index is a packet of type 2 whose one layer lists offset, size, slice, phase and flags of every
frame packet in file order. The footer is the last 24 bytes of a file. A file without them was cut
or is still being written; its packets are found by scanning.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_codec.bitstream.packet import INDEX_LAYER, PacketHead, PacketType
from edge_codec.errors import BitstreamError

END_MAGIC = b"\x89ECDEND\n"
ENTRY = np.dtype(
    [
        ("offset", "<u8"),
        ("size", "<u4"),
        ("slice", "<u4"),
        ("phase", "<u4"),
        ("flags", "u1"),
        ("zero", "u1", (3,)),
    ]
)
MAX_PACKETS = ((1 << 32) - 1) // ENTRY.itemsize  # the size of the index is a u32

_ENTRY = struct.Struct("<QIIIB3x")
_FOOTER = struct.Struct("<QI")
_FOOTER_END = struct.Struct("<I8s")
FOOTER_SIZE = _FOOTER.size + _FOOTER_END.size


@dataclass(frozen=True, slots=True)
class Footer:
    """Where the index is.

    Attributes
    ----------
    index_offset : int
        Byte offset of the index packet.
    n_packets : int
        Number of frame packets.
    """

    index_offset: int
    n_packets: int

    def pack(self) -> bytes:
        """Serialize the footer.

        Returns
        -------
        bytes
            `FOOTER_SIZE` bytes.
        """
        data = _FOOTER.pack(self.index_offset, self.n_packets)
        return data + _FOOTER_END.pack(zlib.crc32(data), END_MAGIC)

    @classmethod
    def unpack(cls, data: bytes) -> Footer:
        """Parse a footer, bytes from outside.

        Parameters
        ----------
        data : bytes
            The last `FOOTER_SIZE` bytes of a file.

        Returns
        -------
        Footer
            The footer; whether its offset lies in the file is for the caller to check.

        Raises
        ------
        BitstreamError
            If this is no undamaged footer.
        """
        if len(data) != FOOTER_SIZE:
            raise BitstreamError(f"footer of {len(data)} bytes; {FOOTER_SIZE} are due")
        crc, magic = _FOOTER_END.unpack_from(data, _FOOTER.size)
        if magic != END_MAGIC:
            raise BitstreamError("no footer at the end: the file is cut or still being written")
        if zlib.crc32(data[: _FOOTER.size]) != crc:
            raise BitstreamError("footer is damaged: its CRC is wrong")
        return cls(*_FOOTER.unpack_from(data))


def pack_entry(head: PacketHead, offset: int) -> bytes:
    """Serialize the index entry of one packet.

    Parameters
    ----------
    head : PacketHead
        Head of the packet.
    offset : int
        Byte offset of the packet in the file.

    Returns
    -------
    bytes
        24 bytes.
    """
    return _ENTRY.pack(offset, head.size, head.slice_index, head.phase_index, int(head.key))


def pack_index(entries: bytes) -> bytes:
    """Serialize the index packet.

    Parameters
    ----------
    entries : bytes
        Entries of all packets in file order, as `pack_entry` makes them.

    Returns
    -------
    bytes
        The packet.
    """
    count = len(entries) // ENTRY.itemsize
    layer = (INDEX_LAYER, len(entries), zlib.crc32(entries))
    return PacketHead(PacketType.INDEX, count, 0, 0, False, (layer,)).pack() + entries


def unpack_index(head: PacketHead, payload: bytes, first: int, end: int) -> NDArray[np.void]:
    """Parse the index, bytes from outside.

    Parameters
    ----------
    head : PacketHead
        Head of the index packet.
    payload : bytes
        The bytes after it.
    first, end : int
        Byte offsets of the first packet and of the index: the entries must fill what is between
        without gap or overlap.

    Returns
    -------
    ndarray, shape (n_packets,), dtype ENTRY
        The entries in file order.

    Raises
    ------
    BitstreamError
        If the index is damaged or its offsets are not those of packets one after another.
    """
    if head.type is not PacketType.INDEX:
        raise BitstreamError(f"packet of type {head.type.name} where the index must be")
    (entries_bytes,) = head.split(payload)
    if len(entries_bytes) != head.sequence * ENTRY.itemsize:
        raise BitstreamError(
            f"index of {head.sequence} packets has {len(entries_bytes)} bytes instead of "
            f"{head.sequence * ENTRY.itemsize}"
        )
    entries = np.frombuffer(entries_bytes, ENTRY)
    starts = np.concatenate([np.array([first], np.uint64), entries["offset"] + entries["size"]])
    ends = np.concatenate([entries["offset"], np.array([end], np.uint64)])
    wrong = np.flatnonzero(starts != ends)
    if wrong.size:
        at = int(wrong[0])
        raise BitstreamError(
            f"index says that packet {at} begins at byte {int(ends[at])}; the one before it ends "
            f"at byte {int(starts[at])}"
        )
    if (entries["flags"] > 1).any() or entries["zero"].any():
        raise BitstreamError("index has flags or reserved bytes that version 1 does not know")
    return entries
