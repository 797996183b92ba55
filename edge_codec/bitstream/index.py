"""The end of a file: the index of its packets, and the footer that finds the index.

The index is a packet whose one layer lists slice and size of every frame packet in file order:
slices by their steps, in runs of equal ones, and sizes in a byte or two. All else follows: packets
stand one after another, and the phases of a slice have their order. The footer is the last 24 bytes
of a file. A file without them was cut or is still being written; its packets are found by scanning.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_codec.bitstream.packet import INDEX_LAYER, PacketHead
from edge_codec.bitstream.phases import PhaseOrder
from edge_codec.bitstream.varint import pack_varints, read_varints
from edge_codec.errors import BitstreamError
from edge_codec.spec import StreamSpec

END_MAGIC = b"\x89ECDEND\n"
ENTRY = np.dtype(
    [("offset", "u8"), ("size", "u4"), ("sequence", "u4"), ("slice", "u4"), ("phase", "u4")]
)
MAX_PACKETS = (1 << 32) // 16  # the size of the index is below 2**32
MIN_PACKET = 5  # in its short form: one byte and a CRC

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


def entry_of(head: PacketHead, offset: int) -> tuple[int, int, int, int, int]:
    """Return what the index knows of a packet: an item of dtype `ENTRY`.

    Parameters
    ----------
    head : PacketHead
        Head of the packet.
    offset : int
        Byte offset of the packet in the file.
    """
    return offset, head.size, head.sequence, head.slice_index, head.phase_index


def pack_index(slices: NDArray[np.uint32], sizes: NDArray[np.uint32], n_slices: int) -> bytes:
    """Serialize the index packet.

    Parameters
    ----------
    slices, sizes : ndarray, shape (n_packets,), uint32
        Slice and size in bytes of each packet, in file order.
    n_slices : int
        Slices of the stream.

    Returns
    -------
    bytes
        The packet.
    """
    padded = np.concatenate([[0], slices]).astype(np.int64)
    steps = (padded[1:] - padded[:-1]) % n_slices
    starts = np.flatnonzero(np.diff(steps, prepend=-1))
    counts = np.diff(starts, append=len(steps))
    runs = np.stack([steps[starts], counts], axis=1).ravel()
    table = pack_varints(np.concatenate([runs, sizes]))
    layer = (INDEX_LAYER, len(table), zlib.crc32(table))
    return PacketHead(len(slices), 0, 0, False, (layer,)).pack() + table


def unpack_index(
    head: PacketHead, payload: bytes, first: int, end: int, spec: StreamSpec
) -> NDArray[np.void]:
    """Parse the index, bytes from outside.

    Parameters
    ----------
    head : PacketHead
        Head of the index packet.
    payload : bytes
        The bytes after it.
    first, end : int
        Byte offsets of the first packet and of the index: the packets must fill what is between.
    spec : StreamSpec
        Description of the stream.

    Returns
    -------
    ndarray, shape (n_packets,), dtype ENTRY
        The entries in file order. The phases of each slice have their order.

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
    if len(table) > 16 * count:
        raise BitstreamError(f"index of {count} packets has {len(table)} bytes")
    numbers = read_varints(table)
    slices, sizes = _split(numbers, count, spec.info.n_slices)
    ends = first + np.cumsum(sizes, dtype=np.uint64)
    if (int(ends[-1]) if count else first) != end:
        raise BitstreamError(
            f"index says that packets end at byte {int(ends[-1]) if count else first}; it begins "
            f"at byte {end}"
        )
    entries = np.empty(count, ENTRY)
    entries["offset"] = ends - sizes
    entries["size"] = sizes
    entries["sequence"] = np.arange(count, dtype=np.uint32)
    entries["slice"] = slices
    entries["phase"] = PhaseOrder(spec).phases_at(_count_up(slices))
    return entries


def _split(
    numbers: NDArray[np.uint32], count: int, n_slices: int
) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Return the slice and the size of each packet; there is one table for each list of them."""
    n_runs = (len(numbers) - count) // 2
    runs = numbers[: 2 * max(n_runs, 0)].reshape(-1, 2)
    steps, lengths = runs[:, 0], runs[:, 1].astype(np.uint64)
    if len(numbers) != count + 2 * n_runs or int(lengths.sum()) != count:
        raise BitstreamError(f"index of {count} packets has {len(numbers)} numbers")
    if not lengths.all() or (steps >= n_slices).any() or (steps[1:] == steps[:-1]).any():
        raise BitstreamError("index lists slices in another form than the shortest")
    slices = np.cumsum(np.repeat(steps, lengths.astype(np.intp)), dtype=np.uint64) % n_slices
    return slices.astype(np.uint32), numbers[2 * n_runs :]


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
