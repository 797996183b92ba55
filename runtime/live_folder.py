"""What a folder of live streams holds, and the reading of a stream while it is being written.

Files only grow, but for the end of one that is gone on with after a crash: there a packet that was
cut, or index and footer, make room for packets. So whole packets, once read, stay what they are;
and bytes that are no packet are believed to be damage only when they are found unchanged later.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from edge_codec.bitstream.header import MAGIC, header_size, read_exactly, read_header
from edge_codec.bitstream.index import FOOTER_SIZE, Footer
from edge_codec.bitstream.order import PacketOrder, layers_due
from edge_codec.bitstream.packet import MAX_HEAD, LayerId, Packet, PacketHead
from edge_codec.bitstream.packet_file import read_head
from edge_codec.errors import BitstreamError, SinkError, SourceError
from edge_codec.runtime.stream_folder import segment_files, stream_folder
from edge_codec.spec import StreamSpec

MAX_POLL_BYTES = 16 << 20
MAX_STREAMS = 10_000  # listed of one folder
HEADER_PREFIX = 16  # bytes of a header that say how long it is


@dataclass(frozen=True, slots=True)
class SegmentEntry:
    """One file of a live stream.

    Attributes
    ----------
    number : int
        Its place in the stream.
    path : Path
        The file.
    spec : StreamSpec or None
        Description; None where the header is not whole (yet).
    frames : int
        Packets that are there so far; their voxels and CRCs were not looked at.
    complete : bool
        Whether index and footer are there: nobody is writing it any more.
    size : int
        Bytes so far.
    """

    number: int
    path: Path
    spec: StreamSpec | None
    frames: int
    complete: bool
    size: int


@dataclass(frozen=True, slots=True)
class StreamEntry:
    """One live stream of a folder: its name and its segments in order."""

    name: str
    segments: tuple[SegmentEntry, ...]

    @property
    def frames(self) -> int:
        """Packets of all segments so far."""
        return sum(segment.frames for segment in self.segments)


class LiveFolder:
    """Lists the live streams of a folder; quick when asked again, as files only grow.

    Parameters
    ----------
    folder : Path
        Where the streams are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._counts: dict[Path, _Count] = {}

    def streams(self) -> tuple[StreamEntry, ...]:
        """List what is there now, by name.

        Returns
        -------
        tuple of StreamEntry
            At most `MAX_STREAMS`; entries of the folder that are no streams are left out.

        Raises
        ------
        SourceError
            If the folder cannot be read.
        """
        try:
            names = sorted(path.name for path in self._folder.iterdir() if path.is_dir())
        except OSError as error:
            raise SourceError(f"{self._folder} cannot be read: {error.strerror}") from error
        entries = (self._stream(name) for name in names[:MAX_STREAMS])
        found = tuple(entry for entry in entries if entry is not None)
        there = {segment.path for entry in found for segment in entry.segments}
        self._counts = {path: count for path, count in self._counts.items() if path in there}
        return found

    def _stream(self, name: str) -> StreamEntry | None:
        try:
            folder = stream_folder(self._folder, name)
            files = [] if folder.is_symlink() else segment_files(folder)
        except (SinkError, OSError):  # not a stream's name, or gone meanwhile
            return None
        segments = [entry for number, path in files if (entry := self._segment(number, path))]
        return StreamEntry(name, tuple(segments)) if segments else None

    def _segment(self, number: int, path: Path) -> SegmentEntry | None:
        count = self._counts.setdefault(path, _Count())
        try:
            with FileIO(path) as file:
                count.follow(file)
        except OSError:  # gone meanwhile, or not to be read
            return None
        return SegmentEntry(number, path, count.spec, count.frames, count.complete, count.size)


class _Count:
    """Counts the packets of a file by their heads, on from where it was the last time."""

    def __init__(self) -> None:
        self.spec: StreamSpec | None = None
        self.frames = 0
        self.complete = False
        self.size = -1
        self._offset = 0
        self._order: PacketOrder | None = None

    def follow(self, file: FileIO) -> None:
        size = os.fstat(file.fileno()).st_size
        if size == self.size:
            return
        if size < self._offset:  # another file of that name
            self.spec, self.frames, self._offset = None, 0, 0
        self.size = size
        if self.spec is None:
            try:
                self.spec, self._offset = read_header(file)
            except BitstreamError:
                return
            self._order = PacketOrder(self.spec)
        self.complete = _has_footer(file, size)
        if self._order is not None:
            self._walk(file, self.spec, self._order)

    def _walk(self, file: FileIO, spec: StreamSpec, order: PacketOrder) -> None:
        layers = layers_due(spec)
        while self._offset < self.size:
            try:
                head = read_head(file, self._offset, order.follow, layers)
            except BitstreamError:
                return
            if head.is_index or self._offset + head.size > self.size:
                return
            order.pass_by(head)
            self.frames += 1
            self._offset += head.size


class StreamTail:
    """Follows a file of packets while it is being written.

    Parameters
    ----------
    path : Path
        The file; it need not be there yet.

    Examples
    --------
    >>> tail = StreamTail(Path("no such file.ecd"))
    >>> tail.poll()
    []
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._spec: StreamSpec | None = None
        self._order: PacketOrder | None = None
        self._layers: tuple[LayerId, ...] = ()
        self._offset = 0
        self._complete = False
        self._suspect: tuple[int, int] | None = None  # size and time of a file that has no packet

    @property
    def spec(self) -> StreamSpec | None:
        """Description of the stream; None until its header is there."""
        return self._spec

    @property
    def complete(self) -> bool:
        """Whether the latest `poll` has read all up to the index of a complete file."""
        return self._complete

    def poll(self, max_bytes: int = MAX_POLL_BYTES) -> list[Packet]:
        """Read the packets that have become whole since the last time.

        Parameters
        ----------
        max_bytes : int
            How many bytes of packets to read at most, but for a first one that has more: the rest
            comes with the next call.

        Returns
        -------
        list of Packet
            The next packets, in order; empty where there is nothing new.

        Raises
        ------
        BitstreamError
            If the file is damaged where the next packet must be, is no stream, or was replaced.
        SourceError
            If the file cannot be read.
        """
        try:
            with FileIO(self._path) as file:
                return self._poll(file, max_bytes)
        except FileNotFoundError:
            if self._spec is None:
                return []
            raise SourceError(f"{self._path} was removed") from None
        except OSError as error:
            raise SourceError(f"{self._path} cannot be read: {error.strerror}") from error

    def _poll(self, file: FileIO, max_bytes: int) -> list[Packet]:
        size = os.fstat(file.fileno()).st_size
        if size < self._offset:
            raise BitstreamError(
                f"{self._path} has {size} bytes, and had {self._offset} before: it was replaced; "
                "open it anew"
            )
        packets: list[Packet] = []
        try:
            order = self._read_header(file)
            start = self._offset
            self._complete = False
            while self._offset < size and self._offset - start < max_bytes:
                head = read_head(file, self._offset, order.follow, self._layers)
                if head.is_index:
                    self._complete = _has_footer(file, size)
                    break
                if self._offset + head.size > size:
                    break  # it is still being written
                if packets and self._offset + head.size - start > max_bytes:
                    break
                packets.append(self._read(file, head, order))
                self._suspect = None
        except BitstreamError as error:
            self._doubt(file, error)
        return packets

    def _read_header(self, file: FileIO) -> PacketOrder:
        if self._order is None:
            self._spec, self._offset = read_header(file)
            self._order, self._layers = PacketOrder(self._spec), layers_due(self._spec)
        return self._order

    def _read(self, file: FileIO, head: PacketHead, order: PacketOrder) -> Packet:
        file.seek(self._offset + head.head_size)
        packet = Packet.from_payload(head, read_exactly(file, head.payload_size))
        wrong = order.misfit(head) or order.break_of_chain(head)
        if head.sequence != order.next_sequence:
            wrong = f"packet {head.sequence} stands where packet {order.next_sequence} is due"
        if wrong:
            raise BitstreamError(wrong)
        order.accept(head)
        self._offset += head.size
        return packet

    def _doubt(self, file: FileIO, error: BitstreamError) -> None:
        """Wait where bytes are no packet but may become one; raise where they stay as they are."""
        status = os.fstat(file.fileno())
        state = status.st_size, status.st_mtime_ns
        if self._suspect == state and not self._is_cut(file):
            raise BitstreamError(f"{self._path}, byte {self._offset}: {error}") from error
        self._suspect = state

    def _is_cut(self, file: FileIO) -> bool:
        """Whether the next packet, or the header, may only lack bytes that are still to come."""
        file.seek(self._offset)
        begin = read_exactly(file, MAX_HEAD)
        if self._order is not None:
            return len(begin) < MAX_HEAD
        if len(begin) < HEADER_PREFIX:
            return begin[: len(MAGIC)] == MAGIC[: len(begin)]
        try:
            return os.fstat(file.fileno()).st_size < header_size(begin)
        except BitstreamError:
            return False


def _has_footer(file: FileIO, size: int) -> bool:
    file.seek(max(0, size - FOOTER_SIZE))
    try:
        footer = Footer.unpack(read_exactly(file, FOOTER_SIZE))
    except BitstreamError:
        return False
    return footer.index_offset < size
