"""What a sender keeps until the receiver says that it is stored: bounded, in order."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from edge_codec.runtime.transport.forward_wire import Position


@dataclass(frozen=True, slots=True)
class Entry:
    """A packet, or the end of a segment.

    Attributes
    ----------
    segment, sequence : int
        Of the packet; the number of packets for an end.
    data : bytes or None
        The packet; None for an end.
    """

    segment: int
    sequence: int
    data: bytes | None

    @property
    def size(self) -> int:
        """Bytes that it holds on to."""
        return len(self.data or b"")

    def stored(self, position: Position) -> bool:
        """Whether a receiver that has come so far has it."""
        if self.data is None:
            return (position.segment, position.ended) >= (self.segment, True)
        return position > Position(self.segment, self.sequence)


class Unacknowledged:
    """Entries between the pipeline and the receiver's disk. Not locked: its owner does that.

    Half of it at most is on its way, so that what has to make room is never what may have arrived.

    Parameters
    ----------
    max_packets, max_bytes : int
        Bounds; one entry always fits.
    """

    def __init__(self, max_packets: int, max_bytes: int) -> None:
        self._max_packets, self._max_bytes = max_packets, max_bytes
        self._sent: deque[Entry] = deque()
        self._unsent: deque[Entry] = deque()
        self._sent_bytes = self._bytes = 0

    def __len__(self) -> int:
        return len(self._sent) + len(self._unsent)

    @property
    def full(self) -> bool:
        """Whether another entry has to wait."""
        return len(self) >= self._max_packets or self._bytes >= self._max_bytes

    @property
    def low(self) -> bool:
        """Whether less than half is in use."""
        return len(self) < self._max_packets / 2 and self._bytes < self._max_bytes / 2

    def add(self, entry: Entry) -> None:
        """Append the next entry."""
        self._unsent.append(entry)
        self._bytes += entry.size

    def next(self) -> Entry | None:
        """Take the next entry to send; None where there is none, or enough is on its way."""
        on_way = len(self._sent) >= self._max_packets / 2 or self._sent_bytes >= self._max_bytes / 2
        if not self._unsent or (self._sent and on_way):
            return None
        entry = self._unsent.popleft()
        self._sent.append(entry)
        self._sent_bytes += entry.size
        return entry

    def rewind(self) -> None:
        """Send everything again: the connection is a new one."""
        self._unsent.extendleft(reversed(self._sent))
        self._sent.clear()
        self._sent_bytes = 0

    def acknowledge(self, position: Position) -> int:
        """Let go of what is stored; return how many entries that were."""
        count = 0
        while self._sent and self._sent[0].stored(position):
            entry = self._sent.popleft()
            self._sent_bytes -= entry.size
            self._bytes -= entry.size
            count += 1
        while not self._sent and self._unsent and self._unsent[0].stored(position):
            self._bytes -= self._unsent.popleft().size
            count += 1
        return count

    def drop_oldest(self) -> Entry | None:
        """Give up the oldest entry that is not on its way, and return it."""
        if not self._unsent:
            return None
        entry = self._unsent.popleft()
        self._bytes -= entry.size
        return entry

    def segments(self) -> set[int]:
        """Numbers of the segments that have entries."""
        return {entry.segment for queue in (self._sent, self._unsent) for entry in queue}
