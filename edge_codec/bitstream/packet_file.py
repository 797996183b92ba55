"""A seekable file of packets: heads and payloads by offset, and the search for the next packet.

A packet in its short form is read only where its place is known: from the packets before it, or
from the index. After damage, one is looked for right behind the damaged one, as far as that one's
size may be right; where there is none, reading goes on at the next full head. So no byte of a file
is looked at more than a few times.
"""

from __future__ import annotations

import os
import re
from functools import partial
from typing import BinaryIO

from edge_codec.bitstream.header import read_exactly, read_header
from edge_codec.bitstream.order import PacketOrder, layers_due
from edge_codec.bitstream.packet import MAX_HEAD, SYNC, LayerId, PacketHead, unpack_head
from edge_codec.bitstream.short_packet import Follow, Place, is_short, unpack_short
from edge_codec.errors import BitstreamError, SourceError

_FIRST_CHUNK, _CHUNK = 1 << 7, 1 << 16
_KNOWN_CONTENTS = rb"[\x00-\x08\x10-\x17\x20-\x27\x30-\x37]"
_HEAD_BEGIN = re.compile(re.escape(SYNC) + _KNOWN_CONTENTS)


class PacketFile:
    """Bytes of a stream behind bounds checks; nothing is read that the file does not have.

    Parameters
    ----------
    file : BinaryIO
        Seekable source; the stream begins at byte 0.

    Attributes
    ----------
    size : int
        Bytes of the file.
    spec : StreamSpec
        Description of the stream.
    start : int
        Byte offset of the first packet.

    Raises
    ------
    BitstreamError
        If there is no whole, undamaged header.
    SourceError
        If the file is not seekable.
    """

    def __init__(self, file: BinaryIO) -> None:
        if not file.seekable():
            raise SourceError(
                "a stream is read from a seekable file; save the pipe to a file first"
            )
        self._file = file
        self.size = file.seek(0, os.SEEK_END)
        file.seek(0)
        self.spec, self.start = read_header(file)
        self._layers = layers_due(self.spec)

    def bytes_at(self, offset: int, size: int) -> bytes:
        """Read `size` bytes at `offset`, or fewer only where the file ends."""
        self._file.seek(offset)
        return read_exactly(self._file, size)

    def head_at(self, offset: int, follow: Follow) -> PacketHead:
        """Read the head of the packet at `offset`.

        Parameters
        ----------
        offset : int
            Byte offset.
        follow : callable
            The place of a packet in its short form: `PacketOrder.follow`.

        Returns
        -------
        PacketHead
            A head whose whole packet lies within the file.

        Raises
        ------
        BitstreamError
            If there is no such packet.
        """
        head = read_head(self._file, offset, follow, self._layers)
        left = self.size - offset
        if head.size > left:
            raise BitstreamError(
                f"packet {head.sequence} is cut: it has {head.size} bytes, {left} are left"
            )
        return head

    def payload_of(self, head: PacketHead, offset: int) -> bytes:
        """Read the bytes after the head of the packet at `offset`."""
        return self.bytes_at(offset + head.head_size, head.payload_size)

    def short_at(self, offset: int, follow: Follow) -> PacketHead | None:
        """Read the head of a packet in its short form; None where none begins."""
        if not is_short(self.bytes_at(offset, 1)):
            return None
        try:
            return self.head_at(offset, follow)
        except BitstreamError:
            return None

    def short_after(self, offset: int, order: PacketOrder) -> int | None:
        """Find the packet after one whose short form is damaged, where its size is right.

        Parameters
        ----------
        offset : int
            Where no whole packet begins.
        order : PacketOrder
            Follows the packets before; counts the one that is lost, where one after it is found.

        Returns
        -------
        int or None
            Byte offset of a whole packet, None where there is none.
        """
        begin = self.bytes_at(offset, MAX_HEAD)
        if not is_short(begin):
            return None
        try:
            head = unpack_short(begin, order.follow, self._layers)
            lost = Place(head.sequence, head.slice_index, head.phase_index)
            self.head_at(offset + head.size, partial(order.follow, last=lost))
        except BitstreamError:
            return None
        order.assume(lost)
        return offset + head.size

    def next_packet(self, offset: int, end: int) -> int:
        """Find the first whole packet that begins at or after `offset`; `end` if there is none.

        Only sync bytes with a valid head count, so none in its short form, and no payload is looked
        at: the time is proportional to the bytes passed, also where they imitate sync bytes.

        Parameters
        ----------
        offset, end : int
            Byte offsets between which to search.

        Returns
        -------
        int
            Byte offset of the packet, or `end`.
        """
        size = _FIRST_CHUNK  # the next one may be near, and so may the one after it
        while offset < end:
            chunk = self.bytes_at(offset, size + MAX_HEAD)  # a head may lie across two chunks
            for match in _HEAD_BEGIN.finditer(chunk):
                at = offset + match.start()
                if at >= min(end, offset + size):
                    break
                if self._is_packet(chunk[match.start() : match.start() + MAX_HEAD], self.size - at):
                    return at
            offset += size
            size = min(2 * size, _CHUNK)
        return end

    def _is_packet(self, begin: bytes, left: int) -> bool:
        try:
            return unpack_head(begin).size <= left
        except BitstreamError:
            return False


def read_head(
    file: BinaryIO, offset: int, follow: Follow, layers: tuple[LayerId, ...]
) -> PacketHead:
    """Read the head of the packet at `offset` of a file that may still grow.

    Parameters
    ----------
    file : BinaryIO
        Seekable source.
    offset : int
        Byte offset.
    follow : callable
        The place of a packet in its short form.
    layers : tuple of LayerId
        Layers that are due in the stream: `order.layers_due`.

    Returns
    -------
    PacketHead
        The head. Where the file ends within the packet (compare its `size`), and it is in its short
        form, nothing of it is certain.

    Raises
    ------
    BitstreamError
        If there is no such packet.
    """
    file.seek(offset)
    data = read_exactly(file, MAX_HEAD)
    if not is_short(data):
        return unpack_head(data)
    head = unpack_short(data, follow, layers)
    end = head.head_size + head.layers[0][1]
    if len(data) < end:
        data += read_exactly(file, end - len(data))
    if len(data) >= end:
        head.check(data[head.head_size : end])
    return head


def always(place: Place) -> Follow:
    """Return what `head_at` takes where the place of a packet is known from elsewhere."""
    return lambda _: place
