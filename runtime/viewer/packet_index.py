"""Where the frames of a stream file lie, found while the file may still grow.

`StreamReader` reads a file that has an end. A viewer opens streams that a server is writing: the
index remembers how far it has looked, and each `poll` goes on from there. What is no whole packet
at the end of the file may be one that is being written, and is no damage until packets follow it.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from edge_codec.bitstream.live import LiveNote
from edge_codec.bitstream.order import PacketOrder
from edge_codec.bitstream.packet import LayerId, Packet, PacketHead
from edge_codec.bitstream.packet_file import PacketFile, always
from edge_codec.bitstream.phases import PhaseOrder
from edge_codec.bitstream.short_packet import Place
from edge_codec.codec import RESIDUAL_CHECK
from edge_codec.errors import BitstreamError, FrameError, SourceError
from edge_codec.residual import count_fast
from edge_codec.spec import Effort, StreamSpec

MAX_FRAMES = 1 << 19  # 2.4 hours at 60 frames/s, about 100 MB of index
MAX_DAMAGE = 200

# What the page is told of a frame, in this order; `policy` is -1 where there is no live note.
FIELDS = (
    "slice", "phase", "key", "base_bytes", "residual_bytes", "other_bytes", "policy", "waited_us",
    "coded_us", "dropped", "clock_jumped", "late", "fast_bands",
)  # fmt: skip
ROW = np.dtype([(name, np.int64) for name in ("offset", "sequence", *FIELDS)])


class PacketIndex:
    """The decodable frames of one stream file, in file order.

    Methods may be called from several threads.

    Parameters
    ----------
    path : Path
        The stream.

    Attributes
    ----------
    damage : list of (int, str)
        Byte offset and description of what is wrong, at most `MAX_DAMAGE`.
    complete : bool
        Whether the index at the end of a closed stream was reached.
    tail_bytes : int
        Bytes after the last whole packet: of one that is being written, or cut.

    Raises
    ------
    SourceError
        If the file cannot be read.
    BitstreamError
        If it has no whole header.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._handle = path.open("rb", buffering=0)  # a buffer would keep what was overwritten
        except OSError as error:
            raise SourceError(f"{path.name} cannot be read: {error.strerror}") from error
        try:
            self._file = PacketFile(self._handle)
        except BaseException:
            self._handle.close()
            raise
        self._lock = threading.Lock()
        self._order = PacketOrder(self._file.spec)
        self._phases = PhaseOrder(self._file.spec)
        self._offset = self._file.start
        self._searched = 0
        self._rows = np.zeros(64, ROW)
        self._places: dict[int, int] = {}
        self.damage: list[tuple[int, str]] = []
        self.complete = False
        self.tail_bytes = 0

    @property
    def spec(self) -> StreamSpec:
        """Description of the stream."""
        return self._file.spec

    @property
    def file_bytes(self) -> int:
        """Size of the file at the last poll."""
        return self._file.size

    def __len__(self) -> int:
        return len(self._places)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._handle.close()

    def poll(self, budget_s: float = 0.25) -> None:
        """Look at what the file has gained, for about `budget_s` at most; call again for more.

        Raises
        ------
        SourceError
            After `close`.
        """
        with self._lock:
            self._check_open()
            self._resize(os.fstat(self._handle.fileno()).st_size)
            end = time.monotonic() + budget_s
            while self._step() and time.monotonic() < end:
                pass

    def rows(self, since: int, count: int) -> list[tuple[int, ...]]:
        """Return `FIELDS` of up to `count` frames from number `since` on, in file order."""
        with self._lock:
            found = self._rows[: len(self._places)][since : since + count]
            values: list[tuple[int, ...]] = found[list(FIELDS)].tolist()
            return values

    def chain(self, slice_index: int, phase_index: int) -> list[int]:
        """Return the numbers of the frames that decoding one takes, from a key frame to itself.

        They have turns one after another, in the order of coding.

        Raises
        ------
        FrameError
            If the stream has no such frame, or it was lost.
        """
        numbers: list[int] = []
        with self._lock:
            for turn in range(self._phases.turn_of(phase_index), -1, -1):
                phase = self._phases.phase_at(turn)
                number = self._places.get(slice_index << 32 | phase)
                if number is None:
                    break
                numbers.append(number)
                if self._rows["key"][number]:
                    return numbers[::-1]
        raise FrameError(
            f"slice {slice_index}, phase {phase_index} is not in the stream, or is lost"
        )

    def read(self, number: int) -> Packet:
        """Read the packet of a frame.

        Raises
        ------
        BitstreamError
            If it is not what it was when it was indexed.
        SourceError
            After `close`.
        """
        with self._lock:
            self._check_open()
            row = self._rows[number]
            offset = int(row["offset"])
            place = Place(int(row["sequence"]), int(row["slice"]), int(row["phase"]))
            head = self._file.head_at(offset, always(place))
            return Packet.from_payload(head, self._file.payload_of(head, offset))

    def _check_open(self) -> None:
        if self._handle.closed:
            raise SourceError("the stream was closed for others; choose it again")

    def _resize(self, size: int) -> None:
        """Take note of the file's size; one that was complete may be gone on with."""
        if size == self._file.size:
            return
        if size < self._offset <= self._file.size:
            self._report(size, "the file became shorter; frames at its end are gone")
        self._file.size = size
        self.complete = len(self) >= MAX_FRAMES

    def _step(self) -> bool:
        """Go on by one packet or one stretch of damage; whether there is more."""
        file, offset = self._file, self._offset
        self.tail_bytes = max(0, file.size - offset)
        if self.complete or offset >= file.size or file.size == self._searched:
            return False
        try:
            head = file.head_at(offset, self._order.follow)
        except BitstreamError as error:
            self._offset = self._after_damage(offset, str(error))
            return self._offset > offset
        if head.is_index:
            self.complete, self.tail_bytes = True, 0
            return False
        if len(self) >= MAX_FRAMES:
            self._report(offset, f"the viewer shows no more than {MAX_FRAMES} frames of a stream")
            self.complete = True
            return False
        self._examine(head, offset)
        self._offset += head.size
        return True

    def _after_damage(self, offset: int, what: str) -> int:
        """Return where the next whole packet begins, or `offset` if none does yet."""
        found = self._file.short_after(offset, self._order)
        if found is None:
            found = self._file.next_packet(offset + 1, self._file.size)
        if found >= self._file.size:
            self._searched = self._file.size  # not again before the file has grown
            return offset
        self._report(offset, what)
        return found

    def _examine(self, head: PacketHead, offset: int) -> None:
        """Take a packet into the index, or report why its frame is lost."""
        due = self._order.next_sequence
        if head.sequence < due:
            self._report(offset, f"packet {head.sequence} stands where packet {due} is due")
            return
        if head.sequence > due:
            self._report(offset, f"packets {due} to {head.sequence - 1} are missing")
        self._order.pass_by(head)
        wrong = self._order.misfit(head)
        try:
            if wrong is None:
                packet = Packet.from_payload(head, self._file.payload_of(head, offset))
                wrong = self._order.break_of_chain(head)
        except BitstreamError as error:
            wrong = str(error)
        if wrong is not None:
            self._report(
                offset, f"slice {head.slice_index}, phase {head.phase_index} is lost: {wrong}"
            )
            return
        self._order.accept(head)
        self._append(packet, offset, head.head_size)

    def _append(self, packet: Packet, offset: int, head_size: int) -> None:
        number = len(self._places)
        if number == len(self._rows):
            self._rows = np.concatenate([self._rows, np.zeros_like(self._rows)])
        sizes = {layer: len(payload) for layer, payload in packet.layers.items()}
        base, residual = sizes.pop(LayerId.BASE, 0), sizes.pop(LayerId.RESIDUAL, 0)
        place = (packet.slice_index, packet.phase_index, packet.key)
        self._rows[number] = (
            offset,
            packet.sequence,
            *place,
            base,
            residual,
            sum(sizes.values()) + head_size,
            *self._note(packet, offset),
            self._fast_bands(packet),
        )
        self._places[packet.slice_index << 32 | packet.phase_index] = number

    def _note(self, packet: Packet, offset: int) -> tuple[Any, ...]:
        payload = packet.layers.get(LayerId.LIVE)
        if payload is not None:
            try:
                note = LiveNote.unpack(payload)
            except BitstreamError as error:
                self._report(offset, f"packet {packet.sequence}: {error}")
            else:
                times = (note.policy, note.waited_us, note.coded_us, note.dropped)
                return (*times, note.clock_jumped, note.late)
        return (-1, 0, 0, 0, False, False)

    def _fast_bands(self, packet: Packet) -> int:
        """Count the bands whose effort was given up to be in time."""
        payload = packet.layers.get(LayerId.RESIDUAL)
        if payload is None or self.spec.effort is Effort.FAST:
            return 0
        try:
            return count_fast(payload[RESIDUAL_CHECK.size :], self.spec.info.rows)[0]
        except BitstreamError:  # its decoder will say so
            return 0

    def _report(self, offset: int, what: str) -> None:
        if len(self.damage) < MAX_DAMAGE:
            self.damage.append((offset, what))
