"""Where packets go while time is measured, and where they are read from afterwards."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from edge_codec.bitstream.packet import Packet
from edge_codec.bitstream.reader import StreamReader
from edge_codec.errors import BitstreamError
from edge_codec.runtime.packet_sink import PacketSink, Segment
from edge_codec.runtime.stream_file import FileSink, SyncPolicy
from edge_codec.spec import StreamSpec

# (slice, phase) -> whether the packet will be asked for.
Wanted = Callable[[int, int], bool]


class Store(Protocol):
    """The sink of one stream, and what it kept."""

    @property
    def sink(self) -> PacketSink:
        """What the pipeline gets."""

    def spec(self, segment: int) -> StreamSpec:
        """Return the description of a segment."""

    def read(self, segment: int, slice_index: int, phase_index: int) -> Packet:
        """Return a packet.

        Raises
        ------
        BitstreamError
            If it is not there, or damaged.
        """

    def close(self) -> None:
        """Let go of files."""


class MemoryStore:
    """Keeps packets in memory; what is not wanted is taken and forgotten.

    Parameters
    ----------
    wanted : callable
        Says which packets to keep.
    """

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._specs: dict[int, StreamSpec] = {}
        self._packets: dict[tuple[int, int, int], bytes] = {}
        self._segment = 0

    @property
    def sink(self) -> PacketSink:
        """The store itself."""
        return self

    def begin(self, segment: Segment) -> None:
        """Prepare for a segment."""
        self._segment = segment.number
        self._specs[segment.number] = segment.spec

    def send(self, packet: Packet, data: bytes) -> None:
        """Take a packet."""
        if self._wanted(packet.slice_index, packet.phase_index):
            self._packets[self._segment, packet.slice_index, packet.phase_index] = data

    def end(self) -> None:
        """Nothing is left to do."""

    def abort(self) -> None:
        """Nothing is left to do."""

    def spec(self, segment: int) -> StreamSpec:
        """Return the description of a segment."""
        return self._specs[segment]

    def read(self, segment: int, slice_index: int, phase_index: int) -> Packet:
        """Return a packet, parsed from its bytes."""
        try:
            data = self._packets[segment, slice_index, phase_index]
        except KeyError:
            raise BitstreamError(
                f"no packet of segment {segment}, slice {slice_index}, phase {phase_index}"
            ) from None
        return Packet.unpack(data)

    def close(self) -> None:
        """Forget the packets."""
        self._packets.clear()


class FileStore:
    """The files that a live stream leaves on a disk.

    Parameters
    ----------
    folder : Path
        Where the stream's own folder is made.
    stream : str
        Name of the stream.
    """

    def __init__(self, folder: Path, stream: str) -> None:
        self._folder = folder / stream
        self._sink = FileSink(folder, sync=SyncPolicy.NONE)
        self._readers: dict[int, StreamReader] = {}
        self._files: list[object] = []

    @property
    def sink(self) -> PacketSink:
        """The sink that live streams are stored with."""
        return self._sink

    def spec(self, segment: int) -> StreamSpec:
        """Return the description of a segment."""
        return self._reader(segment).spec

    def read(self, segment: int, slice_index: int, phase_index: int) -> Packet:
        """Return a packet from the file."""
        return self._reader(segment).read(slice_index, phase_index)

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            with suppress(OSError):
                file.close()  # type: ignore[attr-defined]
        self._files.clear()
        self._readers.clear()

    def _reader(self, segment: int) -> StreamReader:
        if segment not in self._readers:
            file = (self._folder / f"{segment:04d}.ecd").open("rb")
            self._files.append(file)
            self._readers[segment] = StreamReader(file)
        return self._readers[segment]


def make_store(kind: str, folder: Path, stream: str, wanted: Wanted) -> Store:
    """Return a stream's store of a kind named on the command line."""
    if kind == "file":
        return FileStore(folder, stream)
    return MemoryStore((lambda *_: True) if kind == "memory" else wanted)
