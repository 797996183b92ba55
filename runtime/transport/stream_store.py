"""Stores what a receiver gets of one stream: files that are valid in themselves, and a journal.

A stored file has no gaps, as every `.ecd` file. Where packets are lost, the slices they belonged
to go on in another file, from their next key frame; slices that lost nothing go on where they are.
What is lost, and what came but cannot be decoded without it, is written into the journal. Nothing
is ever made up.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_codec.bitstream.header import unpack_header
from edge_codec.bitstream.packet import Packet
from edge_codec.errors import EdgeCodecError, FrameError, ProtocolError, SinkError
from edge_codec.runtime.packet_sink import Segment
from edge_codec.runtime.stream_folder import stream_folder
from edge_codec.runtime.sync_policy import SyncPolicy
from edge_codec.runtime.transport.forward_wire import Position
from edge_codec.runtime.transport.journal import Journal, Past, read_past
from edge_codec.runtime.transport.store_account import Listener, StoreAccount
from edge_codec.runtime.transport.stored_run import StoredRun, complete_file, packets_in
from edge_codec.spec import StreamSpec

MAX_RUNS = 8  # files that are open at once, of one stream
_TAG = 8  # hexadecimal digits of the session in a folder's name
_MAX_NAME = 64

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Chain:
    """A slice whose frames follow each other: the file they are in, and the last phase."""

    run: StoredRun
    phase: int


class StreamStore:
    """The files of one live stream from one sender.

    Parameters
    ----------
    folder : Path
        Where the streams are; must exist.
    name : str
        Of the stream. Where a folder of this name holds another session's stream, the session's
        first digits are added.
    session : bytes
        Random bytes of the sender that tell its session from others.
    sync : SyncPolicy
        When packets are forced onto the disk.
    listener : callable, optional
        Gets an event for each packet that is stored, lost or skipped.

    Attributes
    ----------
    position : Position
        The packet that is due next; everything before it is stored or in the journal.
    name : str
        Of the folder.
    counts : StoreCounts
        What was done since this object was made.
    keys_wanted : set of int
        Slices that cannot go on without a key frame, for the receiver to request and clear.

    Raises
    ------
    SinkError
        If the folder cannot be made or written.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        session: bytes,
        sync: SyncPolicy = SyncPolicy.NONE,
        listener: Listener | None = None,
    ) -> None:
        self._folder = folder
        self._account = StoreAccount(listener)
        self.counts = self._account.counts
        self._sync = sync
        self.keys_wanted: set[int] = set()
        self._runs: list[StoredRun] = []
        self._chains: dict[int, _Chain] = {}
        self._segment: Segment | None = None
        self._header = b""
        for self.name in (name, f"{name[: _MAX_NAME - _TAG - 1]}.{session.hex()[:_TAG]}"):
            path = stream_folder(folder, self.name)
            new = _make(path)
            past = Past() if new else read_past(path)
            if new or past.session == session.hex():
                break
        else:
            raise SinkError(f"{path} is there already, of another session; choose another name")
        self._journal = Journal(path, sync.ever)
        self._past: Past | None = past if past.session else None
        self.position = self._position_after(path, past)
        if self._past is None:
            self._journal.note("session", session=session.hex(), stream=name)
        else:
            self._journal.note(
                "resumed", segment=self.position.segment, packet=self.position.sequence
            )

    @property
    def segment(self) -> Segment:
        """The segment that is being stored."""
        if self._segment is None:
            raise ProtocolError("no segment has begun; send its header first")
        return self._segment

    @property
    def spec(self) -> StreamSpec:
        """Description of the segment that is being stored."""
        return self.segment.spec

    @property
    def due(self) -> tuple[int, int]:
        """Segment and packet to go on with."""
        return self.position.segment, self.position.sequence

    def begin(self, number: int, header: bytes) -> None:
        """Begin a segment, or hear again of the one that has begun.

        Raises
        ------
        ProtocolError
            If it is an older one, or has another header than before.
        BitstreamError
            If the header is not valid.
        """
        if self._segment is not None and number == self._segment.number:
            if header != self._header:
                raise ProtocolError(f"segment {number} has begun with another header")
            return
        if (number, True) <= (self.position.segment, self.position.ended):
            raise ProtocolError(f"segment {number} after segment {self.position.segment}")
        spec = unpack_header(header)
        past, self._past = self._past, None
        again = past is not None and past.segment == number
        if not again:
            self._finish("another segment begins")
            self._journal.note("segment", segment=number)
            self.position = Position(number)
        self._segment, self._header = Segment(self.name, number, spec), header
        if again and past is not None:
            self._go_on(past)
        elif past is not None:
            self._complete(past.files)

    def skip(self, end: int, slices: Collection[int] = ()) -> None:
        """Take note that the packets before `end` will not come; some slices may be known."""
        first = self.position.sequence
        if end > first:
            segment = self.segment
            self._journal.note("lost", segment=segment.number, first=first, end=end)
            self._account.lost(segment, first, end)
            self.position = Position(segment.number, end)
            n_slices = segment.spec.info.n_slices
            if n_slices == 1:  # else the next packets show which slices
                slices = (0,)
            for slice_index in slices:
                if slice_index < n_slices:
                    self._break(slice_index)

    def put(self, packet: Packet, data: bytes) -> bool:
        """Store the next packet, or note why that is impossible; whether it was stored.

        One that has been here before is passed over. Where there are packets missing before it,
        they are taken as lost.

        Raises
        ------
        FrameError
            If it does not fit its stream.
        SinkError
            If it cannot be written.
        """
        segment = self.segment
        if packet.sequence < self.position.sequence or self.position.ended:
            return False
        if packet.slice_index >= segment.spec.info.n_slices:
            raise FrameError(f"packet of slice {packet.slice_index} is outside the stream")
        arrived_ns = time.monotonic_ns()
        self.skip(packet.sequence)
        run = self._run_of(packet)
        if run is None:
            self._pass_over(packet)
        else:
            run.put(packet, data)
            self._chains[packet.slice_index] = _Chain(run, packet.phase_index)
            self.keys_wanted.discard(packet.slice_index)
            self._account.stored(segment, packet, len(data), arrived_ns)
        self.position = Position(segment.number, packet.sequence + 1)
        return run is not None

    def end(self, count: int) -> None:
        """Complete the segment, which had so many packets."""
        if self.position.ended:
            return
        if count < self.position.sequence:
            raise ProtocolError(f"segment ends with packet {count} after {self.position.sequence}")
        self.skip(count)
        number = self.segment.number
        self._close_runs()
        self._journal.note("end", segment=number, packets=count)
        self.position = Position(number, count, True)

    def close(self, why: str = "closed") -> None:
        """Complete the files that are open; never raises. The session may go on later."""
        try:
            self._finish(why)
        except EdgeCodecError as error:
            _log.warning("stream %s: %s", self.name, error)
        for run in self._runs:
            run.abort()
        self._journal.close()

    def _position_after(self, path: Path, past: Past) -> Position:
        """Work out where a session stopped whose receiver is not there any more."""
        if past.segment < 0:
            return Position()
        if past.ended is not None:
            return Position(past.segment, past.ended, True)
        stored = sum(packets_in(path / file) for file in past.files)
        return Position(past.segment, past.due_after(stored))

    def _go_on(self, past: Past) -> None:
        """Open the last file of the past again, if its phases are the sender's."""
        run = StoredRun(self._folder, self.segment, self._sync, exact=True)
        point = run.go_on(past.files[-1]) if past.files and past.exact else None
        self._complete(past.files if point is None else past.files[:-1])
        if point is None:
            return
        self._runs.append(run)
        for slice_index, phase in point.next_phases.items():
            self._chains[slice_index] = _Chain(run, phase - 1)

    def _complete(self, files: Sequence[str]) -> None:
        """Give files of the past their indexes: nothing more comes into them."""
        for file in files:
            why = complete_file(self._folder / self.name / file)
            if why:
                self._journal.note("without_index", file=file, why=why)

    def _break(self, slice_index: int) -> None:
        self._chains.pop(slice_index, None)
        self.keys_wanted.add(slice_index)

    def _pass_over(self, packet: Packet) -> None:
        self._break(packet.slice_index)
        self._account.skipped(self.segment, packet)
        self._journal.note(
            "skipped",
            segment=self.segment.number,
            packet=packet.sequence,
            slice=packet.slice_index,
            phase=packet.phase_index,
        )

    def _run_of(self, packet: Packet) -> StoredRun | None:
        """Find or make the file that a packet belongs in; None if it cannot be decoded."""
        chain = self._chains.get(packet.slice_index)
        follows = chain is not None and packet.phase_index == chain.phase + 1
        anew = chain is not None and packet.key and chain.run.outgrown(packet.slice_index)
        if chain is not None and follows and not anew:
            return chain.run
        if not packet.key:
            return None
        self._chains.pop(packet.slice_index, None)
        if self._runs and self._runs[-1].admits(packet):
            return self._runs[-1]
        return self._new_run(packet)

    def _new_run(self, packet: Packet) -> StoredRun:
        exact = packet.phase_index == 0
        run = StoredRun(self._folder, self.segment, self._sync, exact)
        run.begin()
        self.counts.files += 1
        self._journal.note(
            "file",
            file=run.path.name,
            segment=self.segment.number,
            exact=exact,
            first_packet=packet.sequence,
            slice=packet.slice_index,
            phase=packet.phase_index,
        )
        self._runs.append(run)
        self._retire()
        return run

    def _retire(self) -> None:
        """Complete the files that no slice goes on in, and the oldest where they are too many."""
        for slice_index, chain in list(self._chains.items()):
            if chain.run in self._runs[:-MAX_RUNS]:
                self._break(slice_index)
        used = {id(chain.run) for chain in self._chains.values()}
        for run in [run for run in self._runs[:-1] if id(run) not in used]:
            self._runs.remove(run)
            self._end(run)

    def _end(self, run: StoredRun) -> None:
        try:
            run.end()
        except SinkError as error:  # its header promises more frames than came
            self._journal.note("without_index", file=run.path.name, why=str(error))

    def _close_runs(self) -> None:
        self._chains.clear()
        self.keys_wanted.clear()
        while self._runs:  # where one fails, `close` still finds the others
            self._end(self._runs.pop(0))

    def _finish(self, why: str) -> None:
        if self._segment is not None and not self.position.ended:
            self._journal.note(
                "stopped", segment=self._segment.number, packet=self.position.sequence, why=why
            )
        self._close_runs()


def _make(path: Path) -> bool:
    """Make a folder; False if it is there already."""
    try:
        path.mkdir()
    except FileExistsError:
        return False
    except OSError as error:
        raise SinkError(f"{path} cannot be made: {error.strerror}") from error
    return True
