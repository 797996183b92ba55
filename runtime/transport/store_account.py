"""What became of the packets of a stream that is received: counted, and told packet by packet."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from edge_codec.bitstream.packet import Packet
from edge_codec.runtime.frame_event import FrameEvent, FrameOutcome
from edge_codec.runtime.packet_sink import Segment

# Gets what became of each packet. Its times are those of the receiver: from a whole packet to disk.
Listener = Callable[[FrameEvent], None]

LOST = "lost on the way"
SKIPPED = "cannot be decoded without a packet that is lost"
MAX_EVENTS = 256  # of one loss


@dataclass(slots=True)
class StoreCounts:
    """What became of the packets of one stream.

    Attributes
    ----------
    stored, stored_bytes : int
        Packets in files, and their size.
    lost : int
        Packets that never came.
    skipped : int
        Packets that came, but cannot be decoded without those that are lost.
    files : int
        Files that were begun.
    """

    stored: int = 0
    stored_bytes: int = 0
    lost: int = 0
    skipped: int = 0
    files: int = 0


class StoreAccount:
    """Counts packets and tells a listener of them.

    Parameters
    ----------
    listener : callable or None
        Gets the events.

    Attributes
    ----------
    counts : StoreCounts
        What was counted.
    """

    def __init__(self, listener: Listener | None) -> None:
        self.counts = StoreCounts()
        self._listener = listener

    def stored(self, segment: Segment, packet: Packet, size: int, arrived_ns: int) -> None:
        """Count a packet that is in a file."""
        self.counts.stored += 1
        self.counts.stored_bytes += size
        if self._listener is None:
            return
        event = self._event(segment, packet)
        info = segment.spec.info
        event.outcome = FrameOutcome.SENT
        event.acquired_ns = arrived_ns
        event.steps_ns = {"store": event.finished_ns - arrived_ns}
        event.voxels = info.rows * info.columns
        event.frame_bytes = event.voxels * info.dtype.itemsize
        event.packet_bytes = size
        self._listener(event)

    def skipped(self, segment: Segment, packet: Packet) -> None:
        """Count a packet that came and cannot be decoded."""
        self.counts.skipped += 1
        if self._listener is not None:
            event = self._event(segment, packet)
            event.detail = SKIPPED
            self._listener(event)

    def lost(self, segment: Segment, first: int, end: int) -> None:
        """Count packets that never came; few of very many are told."""
        self.counts.lost += end - first
        if self._listener is None:
            return
        now_ns = time.monotonic_ns()
        for sequence in range(first, min(end, first + MAX_EVENTS)):
            self._listener(
                FrameEvent(
                    segment.stream, FrameOutcome.FAILED, segment.number, sequence,
                    acquired_ns=now_ns, finished_ns=now_ns, detail=LOST,
                )
            )  # fmt: skip

    def _event(self, segment: Segment, packet: Packet) -> FrameEvent:
        now_ns = time.monotonic_ns()
        return FrameEvent(
            segment.stream, FrameOutcome.FAILED, segment.number, packet.sequence,
            packet.slice_index, packet.phase_index, packet.key, now_ns, now_ns,
        )  # fmt: skip
