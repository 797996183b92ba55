"""The end of a file: the index of its packets, and the footer that finds the index.

The index is a packet whose one layer lists slice and size of every frame packet in file order, in
as few bytes as the largest of them needs. All else follows: packets stand one after another, and
the phases of a slice are 0, 1, 2, ... The footer is the last 24 bytes of a file. A file without
them was cut or is still being written; its packets are found by scanning.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_codec.bitstream.packet import INDEX_LAYER, MIN_HEAD, PacketHead
from edge_codec.errors import BitstreamError

END_MAGIC = b"\x89ECDEND\n"
ENTRY = np.dtype([("offset", "u8"), ("size", "u4"), ("slice", "u4"), ("phase", "u4")])
MAX_PACKETS = ((1 << 32) - 3) // 8  # the size of the index is below 2**32

MIN_PACKET = MIN_HEAD + 5  # of a frame: it has a layer, so a size and a CRC

_WIDTHS = struct.Struct("<2B")  # bytes of each slice number, bytes of each size
_MAX_WIDTH = 4
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


def entry_of(head: PacketHead, offset: int) -> tuple[int, int, int, int]:
    """Return what the index knows of a packet: an item of dtype `ENTRY`.

    Parameters
    ----------
    head : PacketHead
        Head of the packet.
    offset : int
        Byte offset of the packet in the file.
    """
    return offset, head.size, head.slice_index, head.phase_index


def pack_index(slices: NDArray[np.uint32], sizes: NDArray[np.uint32]) -> bytes:
    """Serialize the index packet.

    Parameters
    ----------
    slices, sizes : ndarray, shape (n_packets,), uint32
        Slice and size in bytes of each packet, in file order.

    Returns
    -------
    bytes
        The packet.
    """
    packed = [_pack_column(slices), _pack_column(sizes)]
    table = _WIDTHS.pack(*(column.shape[1] for column in packed)) + np.hstack(packed).tobytes()
    layer = (INDEX_LAYER, len(table), zlib.crc32(table))
    return PacketHead(len(slices), 0, 0, False, (layer,)).pack() + table


def unpack_index(head: PacketHead, payload: bytes, first: int, end: int) -> NDArray[np.void]:
    """Parse the index, bytes from outside.

    Parameters
    ----------
    head : PacketHead
        Head of the index packet.
    payload : bytes
        The bytes after it.
    first, end : int
        Byte offsets of the first packet and of the index: the packets must fill what is between.

    Returns
    -------
    ndarray, shape (n_packets,), dtype ENTRY
        The entries in file order. Phases are counted up in each slice.

    Raises
    ------
    BitstreamError
        If the index is damaged, not in its shortest form, or its sizes do not fill the file.
    """
    if not head.is_index:
        raise BitstreamError("the packet of a frame stands where the index must be")
    count = head.sequence
    if count * MIN_PACKET > end - first:  # before memory is taken for so many
        raise BitstreamError(f"index of {count} packets; {end - first} bytes hold fewer")
    (table,) = head.split(payload)
    if len(table) < _WIDTHS.size:
        raise BitstreamError(f"index of {len(table)} bytes; it has {_WIDTHS.size} or more")
    slice_width, size_width = _WIDTHS.unpack_from(table)
    width = slice_width + size_width
    if max(slice_width, size_width) > _MAX_WIDTH or len(table) != _WIDTHS.size + count * width:
        raise BitstreamError(
            f"index of {count} packets with {slice_width} and {size_width} bytes for each has "
            f"{len(table)} bytes"
        )
    columns = np.frombuffer(table, np.uint8, offset=_WIDTHS.size).reshape(count, width)
    slices = _unpack_column(columns[:, :slice_width])
    sizes = _unpack_column(columns[:, slice_width:])
    phases = _count_up(slices)
    ends = first + np.cumsum(sizes, dtype=np.uint64)
    if (int(ends[-1]) if count else first) != end:
        raise BitstreamError(
            f"index says that packets end at byte {int(ends[-1]) if count else first}; it begins "
            f"at byte {end}"
        )
    entries = np.empty(count, ENTRY)
    entries["offset"] = ends - sizes
    entries["size"] = sizes
    entries["slice"] = slices
    entries["phase"] = phases
    return entries


def _pack_column(numbers: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """Return the low bytes of numbers, shape (n, w): as many as the largest of them needs."""
    return numbers.astype("<u4").view(np.uint8).reshape(-1, _MAX_WIDTH)[:, : _width(numbers)]


def _unpack_column(packed: NDArray[np.uint8]) -> NDArray[np.uint32]:
    wide = np.zeros((len(packed), _MAX_WIDTH), np.uint8)
    wide[:, : packed.shape[1]] = packed
    numbers = wide.view("<u4")[:, 0].astype(np.uint32)
    if _width(numbers) != packed.shape[1]:
        raise BitstreamError(
            f"index gives numbers {packed.shape[1]} bytes; the largest needs {_width(numbers)}"
        )
    return numbers


def _width(numbers: NDArray[np.uint32]) -> int:
    return -(-int(numbers.max(initial=0)).bit_length() // 8)


def _count_up(slices: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return for each packet how many earlier ones are of its slice."""
    order = np.argsort(slices, kind="stable")
    grouped = slices[order]
    is_first = np.ones(len(slices), np.bool_)
    is_first[1:] = grouped[1:] != grouped[:-1]
    first = np.flatnonzero(is_first).astype(np.uint32)
    counts = np.arange(len(slices), dtype=np.uint32)
    counts -= np.repeat(first, np.diff(first, append=np.uint32(len(slices))))
    phases = np.empty_like(counts)
    phases[order] = counts
    return phases
