"""One file of a received stream: packets that follow each other, numbered anew where need be."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from edge_codec.bitstream.container import StreamReader, StreamWriter, find_whole_part
from edge_codec.bitstream.packet import Packet
from edge_codec.codec import Resume
from edge_codec.errors import BitstreamError, EdgeCodecError
from edge_codec.runtime.packet_sink import Segment
from edge_codec.runtime.stream_file import FileSink
from edge_codec.runtime.sync_policy import SyncPolicy
from edge_codec.spec import MAX_KEY_INTERVAL

_log = logging.getLogger(__name__)


class StoredRun:
    """Writes packets of some slices into a file that is valid in itself.

    The first file of a segment has the sender's phases. One that begins after a loss begins each
    slice with phase 0 at a key frame; as its phases have other numbers than the sender's, its
    header promises a key frame at every 65535th phase only, and the frames that are key frames say
    so themselves.

    Parameters
    ----------
    folder : Path
        Where the streams are.
    segment : Segment
        Name of the stream's folder, and the sender's description.
    sync : SyncPolicy
        When packets are forced onto the disk.
    exact : bool
        Whether phases are the sender's.

    Attributes
    ----------
    exact : bool
        As given.
    slices : set of int
        Every slice that has ever been in it.
    """

    def __init__(self, folder: Path, segment: Segment, sync: SyncPolicy, exact: bool) -> None:
        self.exact = exact
        self.slices: set[int] = set()
        self._sequence = 0
        self._next_phases: dict[int, int] = {}
        self._segment = segment if exact else _renumbered(segment)
        self._sink = FileSink(folder, sync=sync, resume=True)

    @property
    def path(self) -> Path:
        """The file."""
        return self._sink.path

    def begin(self) -> None:
        """Make the file."""
        self._sink.begin(self._segment)

    def go_on(self, file: str) -> Resume | None:
        """Go on with the last file of the stream, if it is this one; else None."""
        point = self._sink.resume_point(self._segment)
        if point is None or self.path.name != file:
            self._sink.abort()
            return None
        self._sink.begin(self._segment)
        self._sequence = point.sequence
        self._next_phases = dict(point.next_phases)
        self.slices = set(self._next_phases)
        return point

    def admits(self, packet: Packet) -> bool:
        """Whether a slice can begin in this file with this packet, a key frame."""
        begins = packet.phase_index == 0 or not self.exact
        return begins and packet.slice_index not in self.slices

    def outgrown(self, slice_index: int) -> bool:
        """Whether the slice should begin anew in another file at its next key frame."""
        return not self.exact and 2 * self._next_phases[slice_index] > MAX_KEY_INTERVAL

    def put(self, packet: Packet, data: bytes) -> None:
        """Append a packet that follows the last one of its slice, or begins it."""
        phase = packet.phase_index if self.exact else self._next_phases.get(packet.slice_index, 0)
        if (packet.sequence, packet.phase_index) != (self._sequence, phase):
            packet = replace(packet, sequence=self._sequence, phase_index=phase)
            data = packet.pack()
        self._sink.send(packet, data)
        self._sequence += 1
        self._next_phases[packet.slice_index] = phase + 1
        self.slices.add(packet.slice_index)

    def end(self) -> None:
        """Complete the file with its index."""
        self._sink.end()

    def abort(self) -> None:
        """Close the file as it is, to be gone on with later."""
        self._sink.abort()


def _renumbered(segment: Segment) -> Segment:
    info = replace(segment.spec.info, n_phases=0)
    return replace(segment, spec=replace(segment.spec, info=info, key_interval=MAX_KEY_INTERVAL))


def packets_in(path: Path) -> int:
    """Count the packets of a file that a receiver left behind; 0 where nothing is whole."""
    try:
        with path.open("rb") as file:
            if (count := _complete_count(file)) is not None:
                return count
            part = find_whole_part(file)
    except (OSError, BitstreamError) as error:
        _log.warning("%s cannot be gone on with: %s", path, error)
        return 0
    return part.sequence if part else 0


def complete_file(path: Path) -> str:
    """Give a file its index that a receiver left behind; return why not, if it cannot have one."""
    try:
        with path.open("rb+") as file:
            if _complete_count(file) is not None:
                return ""
            part = find_whole_part(file)
            if part is not None:
                StreamWriter.resume(file, part).close()
    except (OSError, EdgeCodecError) as error:
        return str(error)
    return ""


def _complete_count(file: BinaryIO) -> int | None:
    """Count the packets by the index, which is quick; None without one."""
    try:
        return StreamReader(file).n_packets
    except BitstreamError:
        return None
