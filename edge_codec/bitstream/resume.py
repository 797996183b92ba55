"""Where a stream goes on that was cut: by a crash, a lost power supply, a full disk, or its end.

All that is whole is kept, and what follows it is given up: the packet that was being written, or
index and footer, which are made anew. The file is read once from its begin, every CRC is checked,
and no size is believed that the file has no room for. Where whole packets follow after something
that is none, this is no cut but damage, and nothing of the file is touched.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import BinaryIO

from edge_codec.bitstream.header import MAGIC, header_size, read_exactly
from edge_codec.bitstream.order import PacketOrder
from edge_codec.bitstream.packet import PacketHead
from edge_codec.bitstream.packet_file import PacketFile
from edge_codec.bitstream.short_packet import MAX_FIRST_LAYER, MAX_SHORT_HEAD
from edge_codec.errors import BitstreamError
from edge_codec.spec import StreamSpec

_CHUNK = 1 << 16
_PREFIX = 16  # bytes of a header that say how long it is
_SAVE = "save what is whole with 'edge-codec decompress --recover', and go on in another stream"


@dataclass(slots=True)
class WholePart:
    """The packets of a stream that can be gone on with.

    Attributes
    ----------
    spec : StreamSpec
        Description of the stream.
    end : int
        Byte after the last of them: where the next one goes.
    order : PacketOrder
        Order of the packets, after the last of them.
    slices, sizes : array of unsigned int
        Slice and size in bytes of each packet, in file order.
    given_up : int
        Bytes of the file after `end`: a cut packet, or index and footer.
    """

    spec: StreamSpec
    end: int
    order: PacketOrder
    slices: array[int] = field(default_factory=lambda: array("I"))
    sizes: array[int] = field(default_factory=lambda: array("I"))
    given_up: int = 0

    @property
    def sequence(self) -> int:
        """Number of the next packet."""
        return self.order.next_sequence

    @property
    def next_phases(self) -> Mapping[int, int]:
        """Phase that the next frame of each slice gets; 0 for a slice that is not there."""
        return self.order.next_phases

    @property
    def full(self) -> bool:
        """Whether all frames are there that the header promises."""
        return 0 < self.spec.info.n_slices * self.spec.info.n_phases <= self.sequence


def find_whole_part(file: BinaryIO) -> WholePart | None:
    """Read a stream that may be cut anywhere, and find where it can go on.

    The file is not changed; `StreamWriter.resume` does that.

    Parameters
    ----------
    file : BinaryIO
        Seekable source; the stream begins at byte 0.

    Returns
    -------
    WholePart or None
        None where the file was cut within its header, so that it holds nothing: begin it anew.

    Raises
    ------
    BitstreamError
        If this is no stream, or it is damaged elsewhere than at its end, or an archive: its groups
        of frames cannot be broken off and begun anew.
    SourceError
        If the file is not seekable.
    """
    try:
        packets = PacketFile(file)
    except BitstreamError:
        if _is_cut_header(file):
            return None
        raise
    if packets.spec.archive:
        raise BitstreamError(
            "an archive is coded from all frames of a heart cycle and cannot be gone on with; "
            "compress its source again"
        )
    part = WholePart(packets.spec, packets.start, PacketOrder(packets.spec))
    damage = _walk(packets, part)
    _refuse_more(packets, part, damage)
    part.given_up = packets.size - part.end
    return part


def _walk(packets: PacketFile, part: WholePart) -> str:
    """Take over all packets up to the first thing that is none; return what is wrong with it."""
    while part.end < packets.size:
        try:
            head = packets.head_at(part.end, part.order.follow)
            if head.is_index:
                return "index"
            head.split(packets.payload_of(head, part.end))
        except BitstreamError as error:
            return str(error)
        wrong = _misplaced(head, part.order)
        if wrong:
            return wrong
        part.order.accept(head)
        part.slices.append(head.slice_index)
        part.sizes.append(head.size)
        part.end += head.size
    return ""


def _misplaced(head: PacketHead, order: PacketOrder) -> str | None:
    if head.sequence != order.next_sequence:
        return f"packet {head.sequence} stands where packet {order.next_sequence} is due"
    return order.misfit(head) or order.break_of_chain(head) or order.gap_before(head)


def _refuse_more(packets: PacketFile, part: WholePart, damage: str) -> None:
    """Refuse to go on where a whole packet of a frame stands at the end of the part or after it."""
    found = _whole_short(packets, part)
    offset = packets.next_packet(part.end, packets.size)
    while found is None and offset < packets.size:
        head = packets.head_at(offset, part.order.follow)
        if not head.is_index and _is_whole(packets, head, offset):
            found = head.sequence, offset
        # As recovery does; each byte is read once or twice.
        offset = packets.next_packet(offset + head.size, packets.size)
    if found is not None:
        raise BitstreamError(
            f"byte {part.end}: {damage}; but packet {found[0]} at byte {found[1]} is whole, so "
            f"the stream is damaged and not cut: going on would lose it; {_SAVE}"
        )


def _whole_short(packets: PacketFile, part: WholePart) -> tuple[int, int] | None:
    """Find number and offset of a packet in short form not far behind, after one that is lost.

    Where a stream was cut, no head has a right CRC by chance. Each crafted one may promise the rest
    of the file; so all of them together are read as far as that is long, twice.
    """
    budget = 2 * (packets.size - part.end)
    end = min(packets.size, part.end + MAX_SHORT_HEAD + MAX_FIRST_LAYER + 1)
    order = part.order
    for lost in (None, order.follow(False), order.follow(True)):
        follow = partial(order.follow, last=lost)
        for offset in range(part.end, end):
            head = packets.short_at(offset, follow)
            if head is None:
                continue
            budget -= head.size
            if budget < 0:
                raise BitstreamError(
                    f"byte {part.end}: so many heads of damaged packets follow that the stream is "
                    f"not just cut; {_SAVE}"
                )
            if _is_whole(packets, head, offset):
                return head.sequence, offset
    return None


def _is_whole(packets: PacketFile, head: PacketHead, offset: int) -> bool:
    try:
        head.split(packets.payload_of(head, offset))
    except BitstreamError:
        return False
    return True


def _is_cut_header(file: BinaryIO) -> bool:
    """Whether a file without valid header ends within it, or in zeros that begin within it.

    A file system that lost its power supply may leave zeros where bytes were on their way.
    """
    end = _end_of_data(file)
    file.seek(0)
    prefix = read_exactly(file, min(end, _PREFIX))
    if len(prefix) < _PREFIX:
        return prefix[: len(MAGIC)] == MAGIC[: len(prefix)]
    try:
        return end < header_size(prefix)
    except BitstreamError:
        return False


def _end_of_data(file: BinaryIO) -> int:
    """Return the offset after the last byte that is not zero."""
    end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - _CHUNK)
        file.seek(start)
        data = read_exactly(file, end - start).rstrip(b"\0")
        if data:
            return start + len(data)
        end = start
    return 0
