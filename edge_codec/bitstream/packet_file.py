"""A seekable file of packets: heads and payloads by offset, and the search for the next packet."""

from __future__ import annotations

import os
import re
from typing import BinaryIO

from edge_codec.bitstream.header import read_exactly, read_header
from edge_codec.bitstream.packet import MAX_HEAD, SYNC, PacketHead, unpack_head
from edge_codec.errors import BitstreamError, SourceError

_CHUNK = 1 << 16
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

    def bytes_at(self, offset: int, size: int) -> bytes:
        """Read `size` bytes at `offset`, or fewer only where the file ends."""
        self._file.seek(offset)
        return read_exactly(self._file, size)

    def head_at(self, offset: int) -> PacketHead:
        """Read the head of the packet at `offset`.

        Parameters
        ----------
        offset : int
            Byte offset.

        Returns
        -------
        PacketHead
            A head whose whole packet lies within the file.

        Raises
        ------
        BitstreamError
            If there is no such packet.
        """
        head = unpack_head(self.bytes_at(offset, MAX_HEAD))
        left = self.size - offset
        if head.size > left:
            raise BitstreamError(
                f"packet {head.sequence} is cut: it has {head.size} bytes, {left} are left"
            )
        return head

    def payload_of(self, head: PacketHead, offset: int) -> bytes:
        """Read the bytes after the head of the packet at `offset`."""
        return self.bytes_at(offset + head.head_size, head.payload_size)

    def next_packet(self, offset: int, end: int) -> int:
        """Find the first whole packet that begins at or after `offset`; `end` if there is none.

        Only sync bytes with a valid head count, and no payload is looked at: the time is
        proportional to the bytes passed, also where they imitate sync bytes.

        Parameters
        ----------
        offset, end : int
            Byte offsets between which to search.

        Returns
        -------
        int
            Byte offset of the packet, or `end`.
        """
        while offset < end:
            chunk = self.bytes_at(offset, _CHUNK + MAX_HEAD)  # a head may lie across two chunks
            for match in _HEAD_BEGIN.finditer(chunk):
                at = offset + match.start()
                if at >= min(end, offset + _CHUNK):
                    break
                if self._is_packet(chunk[match.start() : match.start() + MAX_HEAD], self.size - at):
                    return at
            offset += _CHUNK
        return end

    def _is_packet(self, begin: bytes, left: int) -> bool:
        try:
            return unpack_head(begin).size <= left
        except BitstreamError:
            return False
