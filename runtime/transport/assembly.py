"""Packets from datagrams: those of one segment, in order, with what is missing known in time.

Memory follows what came and is bounded by a window of packets and of bytes; whoever sends beyond
it makes the oldest missing packet be given up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from edge_codec.runtime.transport.datagram import CHUNK, WHOLE_PACKET, Datagram
from edge_codec.runtime.transport.udp_options import UdpOptions

MAX_HEADER_FRAGMENTS = 256  # a header of 289 KiB; what is larger goes over TCP


@dataclass(slots=True)
class Partial:
    """A packet that is not whole yet, or of which only its number is known.

    Attributes
    ----------
    fragments : int
        Number of its parts; 0 while nothing of it has come.
    parts : dict of int to bytes
        Parts that have come.
    slice_index : int or None
        Slice, once anything of it has come.
    noticed_ns, touched_ns, asked_ns : int
        When it was first known of, last heard of, and last asked for.
    """

    noticed_ns: int
    touched_ns: int
    asked_ns: int = 0
    fragments: int = 0
    slice_index: int | None = None
    parts: dict[int, bytes] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """Whether all parts are there."""
        return 0 < self.fragments == len(self.parts)

    def data(self) -> bytes:
        """Join the parts."""
        return b"".join(self.parts[i] for i in range(self.fragments))

    def missing(self) -> Iterator[int]:
        """Yield the parts to ask for."""
        if not self.fragments:
            yield WHOLE_PACKET
            return
        for fragment in range(self.fragments):
            if fragment not in self.parts:
                yield fragment


class Assembly:
    """Collects the datagrams of one segment.

    Parameters
    ----------
    number : int
        Of the segment.
    options : UdpOptions
        Times and bounds.
    max_fragments : int
        Most parts of a packet; to be set when the header is known.

    Attributes
    ----------
    number, max_fragments : int
        As given.
    header : bytes or None
        The segment's header, once it is whole.
    due : int or None
        Packet to be handed out next; None until a header says where to begin.
    count : int or None
        Number of packets, once the end is known.
    heard_ns : int
        When the last datagram came.
    """

    def __init__(self, number: int, options: UdpOptions, max_fragments: int = 1 << 10) -> None:
        self.number = number
        self.max_fragments = max_fragments
        self.header: bytes | None = None
        self.due: int | None = None
        self.count: int | None = None
        self.heard_ns = 0
        self._options = options
        self._header_parts: dict[int, bytes] = {}
        self._partials: dict[int, Partial] = {}
        self._end = 0  # after the last packet that is known of
        self._bytes = 0

    @property
    def complete(self) -> bool:
        """Whether everything was handed out or given up, and the end is known."""
        return self.count is not None and self.due is not None and self.due >= self.count

    def add_header(self, part: Datagram) -> None:
        """Take a part of the header."""
        if self.header is not None or part.fragments > MAX_HEADER_FRAGMENTS:
            return
        self._header_parts[part.fragment] = part.body
        if all(i in self._header_parts for i in range(part.fragments)):
            self.header = b"".join(self._header_parts[i] for i in range(part.fragments))
            self._header_parts.clear()

    def start(self, due: int, now_ns: int) -> None:
        """Begin to hand out at a packet; what was kept of earlier ones is thrown away."""
        self.due = due
        for sequence in [sequence for sequence in self._partials if sequence < due]:
            self._drop(sequence)
        self._end = max(self._end, due)
        for sequence in range(due, min(self._end, due + self._options.window_packets)):
            self._partials.setdefault(sequence, Partial(now_ns, now_ns))

    def notice(self, end: int, now_ns: int) -> None:
        """Learn that packets before `end` were sent."""
        if self.due is not None:
            first = max(self._end, self.due)
            for sequence in range(max(first, end - self._options.window_packets), end):
                self._partials.setdefault(sequence, Partial(now_ns, now_ns))
        self._end = max(self._end, end)

    def add(self, part: Datagram, now_ns: int) -> None:
        """Take a part of a packet."""
        sequence = part.sequence
        if part.fragments > self.max_fragments or len(part.body) > CHUNK:
            return
        if self.due is not None and sequence < self.due:
            return
        if self.due is None and len(self._partials) >= self._options.window_packets:
            return
        self.notice(sequence + 1, now_ns)
        partial = self._partials.setdefault(sequence, Partial(now_ns, now_ns))
        partial.touched_ns = now_ns
        if partial.fragments not in (0, part.fragments) or part.fragment in partial.parts:
            return
        partial.fragments, partial.slice_index = part.fragments, part.slice_index
        partial.parts[part.fragment] = part.body
        self._bytes += len(part.body)
        if self.due is None and self._bytes > self._options.window_bytes:
            self._drop(sequence)  # nothing tells yet what is the oldest

    def take(self) -> bytes | None:
        """Take out the packet that is due, if it is whole."""
        partial = None if self.due is None else self._partials.get(self.due)
        if partial is None or not partial.whole:
            return None
        data = partial.data()
        self._forget_due()
        return data

    def give_up(self, now_ns: int) -> tuple[int, set[int]] | None:
        """Give up what is due and late.

        Returns
        -------
        tuple of (int, set of int) or None
            The packet that is due now, and the slices that are known to have lost one.
        """
        if self.due is None:
            return None
        first, slices = self.due, set()
        while self.due < self._end and self._late(self._partials.get(self.due), now_ns):
            partial = self._partials.get(self.due)
            if partial is None:  # beyond the window: whatever the window holds comes next
                self.due = min(self._partials, default=self._end)
                continue
            if partial.slice_index is not None:
                slices.add(partial.slice_index)
            self._forget_due()
        return None if self.due == first else (self.due, slices)

    def missing(self, now_ns: int, limit: int) -> list[tuple[int, int]]:
        """List what is to be asked for now: packet and part."""
        found: list[tuple[int, int]] = []
        if self.due is None:
            return found
        options = self._options
        for sequence in range(self.due, self._end):
            partial = self._partials.get(sequence)
            if partial is None or len(found) >= limit:
                break
            if (
                not partial.whole
                and now_ns - partial.touched_ns >= options.reorder_ns
                and now_ns - partial.asked_ns >= options.ask_ns
            ):
                partial.asked_ns = now_ns
                found += [(sequence, fragment) for fragment in partial.missing()]
        return found[:limit]

    def _late(self, partial: Partial | None, now_ns: int) -> bool:
        if partial is None:
            return True
        if partial.whole:
            return False
        options = self._options
        crowded = len(self._partials) > options.window_packets or self._bytes > options.window_bytes
        limit_ns = options.deadline_ns if options.retransmit else options.reorder_ns
        since_ns = partial.noticed_ns if options.retransmit else partial.touched_ns
        return crowded or now_ns - since_ns >= limit_ns

    def _forget_due(self) -> None:
        if self.due is not None:
            self._drop(self.due)
            self.due += 1

    def _drop(self, sequence: int) -> None:
        partial = self._partials.pop(sequence, None)
        if partial is not None:
            self._bytes -= sum(map(len, partial.parts.values()))
