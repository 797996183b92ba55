"""The receiving side of one sender over UDP, without sockets and clocks: datagrams in, packets out.

A packet is handed out when those before it were, or were given up. What is missing is asked for
until its deadline; a slice that cannot go on without what was given up gets a key frame requested.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edge_codec.bitstream.packet import Packet
from edge_codec.errors import BitstreamError, FrameError
from edge_codec.runtime.transport import datagram as wire
from edge_codec.runtime.transport.assembly import Assembly
from edge_codec.runtime.transport.datagram import Datagram, Flag, Kind, Seal
from edge_codec.runtime.transport.forward_wire import max_packet
from edge_codec.runtime.transport.key_gate import KeyGate
from edge_codec.runtime.transport.packet_consumer import PacketConsumer
from edge_codec.runtime.transport.udp_options import UdpOptions

MAX_LATER = 2  # segments that may come before the one they follow is complete


@dataclass(slots=True)
class PeerCounts:
    """What a receiver over UDP saw of one sender.

    Attributes
    ----------
    datagrams, received_bytes : int
        Datagrams with a right tag, and their bytes.
    answered_bytes : int
        Bytes that were sent back.
    asked : int
        Parts that were asked for again.
    key_requests : int
        Requests for key frames.
    damaged : int
        Packets that came whole but do not fit their stream.
    """

    datagrams: int = 0
    received_bytes: int = 0
    answered_bytes: int = 0
    asked: int = 0
    key_requests: int = 0
    damaged: int = 0


class UdpPeer:
    """Turns the datagrams of one sender into packets.

    Parameters
    ----------
    stream : bytes
        The sender's random id.
    seal : Seal
        Of the session.
    consumer : PacketConsumer
        Where the packets go.
    answer : callable
        Sends a datagram back.
    options : UdpOptions
        Times and bounds.
    ended : int
        Last segment that an earlier receiver has completed; -1 if none.

    Attributes
    ----------
    seal : Seal
        As given; another after the sender has greeted again.
    counts : PeerCounts
        What was seen so far.
    heard_ns : int
        When the last datagram came.
    completed : int
        Segments that were handed out to their end.
    """

    def __init__(
        self,
        stream: bytes,
        seal: Seal,
        consumer: PacketConsumer,
        answer: Callable[[bytes], None],
        options: UdpOptions | None = None,
        ended: int = -1,
    ) -> None:
        self.seal = seal
        self.counts = PeerCounts()
        self.heard_ns = 0
        self.completed = 0
        self._stream = stream
        self._consumer = consumer
        self._answer = answer
        self._options = options or UdpOptions()
        self._now_ns = 0
        self._keys = KeyGate(self._options.key_retry_ns, lambda: self._now_ns)
        self._current: Assembly | None = None
        self._ended = ended  # last segment that was completed or given up
        self._begun = False  # whether the consumer knows the current segment
        self._later: dict[int, Assembly] = {}
        self._reported_ns = 0
        self._owed = False  # whether the sender waits for a report

    def receive(self, data: bytes, now_ns: int) -> bool:
        """Take a datagram; False if its tag is wrong.

        Raises
        ------
        EdgeCodecError
            If the consumer cannot go on.
        """
        found = wire.open_datagram(data, self.seal)
        if found is None or found.stream != self._stream or found.kind >= Kind.CHALLENGE:
            return False  # the last: our own words, thrown back
        self._now_ns = self.heard_ns = now_ns
        self.counts.datagrams += 1
        self.counts.received_bytes += len(data)
        assembly = self._assembly_of(found)
        if assembly is not None:
            assembly.heard_ns = now_ns
            self._sort(assembly, found)
        elif found.segment <= self._ended:
            self._owed = True  # it may not know that this segment is complete
        self._hand_out()
        return True

    def tick(self, now_ns: int) -> None:
        """Do what is due with time: give up, ask again, report.

        Raises
        ------
        EdgeCodecError
            If the consumer cannot go on.
        """
        self._now_ns = now_ns
        self._hand_out()  # first: what is whole behind a late packet is not given up with it
        self._move_on()
        self._report()
        self._request_keys()

    def _assembly_of(self, found: Datagram) -> Assembly | None:
        """Find where a datagram belongs; None if its segment is over, or too far ahead."""
        number = found.segment
        if number <= self._ended:
            return None
        if self._current is None:
            self._current = Assembly(number, self._options)
        if number == self._current.number:
            return self._current
        if number < self._current.number:
            return None
        if number not in self._later and len(self._later) < MAX_LATER:
            self._later[number] = Assembly(number, self._options)
        return self._later.get(number)

    def _sort(self, assembly: Assembly, found: Datagram) -> None:
        if found.kind == Kind.DATA:
            assembly.add(found, self._now_ns)
        elif found.kind == Kind.HEADER:
            assembly.add_header(found)
            if assembly.header is not None and assembly.due is None:
                assembly.start(self._first(found), self._now_ns)
        elif found.kind == Kind.PING:
            assembly.notice(found.sequence, self._now_ns)
        elif found.kind == Kind.END:
            assembly.notice(found.sequence, self._now_ns)
            assembly.count = found.sequence
            self._owed = True
        if found.kind in (Kind.HEADER, Kind.PING):
            self._owed = True

    def _first(self, header: Datagram) -> int:
        """Where to begin: where the consumer stopped, or with the oldest the sender still has."""
        segment, due = self._consumer.due
        return max(header.sequence, due if segment == header.segment else 0)

    def _move_on(self) -> None:
        """Give up a segment that nothing more comes of, where a later one has begun."""
        current = self._current
        if current is None or not self._later:
            return
        if self._now_ns - current.heard_ns > self._options.deadline_ns:
            self._ended = current.number
            self._next_segment()

    def _next_segment(self) -> None:
        self._begun = False
        number = min(self._later, default=None)
        self._current = None if number is None else self._later.pop(number)

    def _hand_out(self) -> None:
        while (current := self._current) is not None and current.header is not None:
            if not self._begun:
                self._begin(current, current.header)
            self._take_out(current)
            if not current.complete:
                return
            self._consumer.end(current.count or 0)
            self.completed += 1
            self._ended = current.number
            self._owed = True
            self._next_segment()

    def _begin(self, current: Assembly, header: bytes) -> None:
        self._consumer.begin(current.number, header)
        self._begun = True
        current.max_fragments = len(range(0, max_packet(self._consumer.spec), wire.CHUNK))

    def _take_out(self, current: Assembly) -> None:
        while True:
            sequence = current.due or 0
            data = current.take()
            if data is not None:
                self._put(sequence, data)
                continue
            given_up = current.give_up(self._now_ns)
            if given_up is None:
                return
            self._consumer.skip(*given_up)

    def _put(self, sequence: int, data: bytes) -> None:
        try:
            packet = Packet.unpack(data)
            if packet.sequence != sequence:
                raise FrameError(f"packet {packet.sequence} came as {sequence}")
            self._consumer.put(packet, data)
        except (BitstreamError, FrameError):
            self.counts.damaged += 1
            self._consumer.skip(sequence + 1)

    def _report(self) -> None:
        """Tell the sender how far this is, and what is missing."""
        current, now_ns = self._current, self._now_ns
        missing: list[tuple[int, int]] = []
        if current is not None and self._options.retransmit:
            room = self.counts.received_bytes - self.counts.answered_bytes - wire.OVERHEAD
            limit = min(wire.MAX_MISSING, room // wire.ENTRY_SIZE)
            missing = current.missing(now_ns, max(limit, 0))
        heard = self._owed or self.heard_ns > self._reported_ns
        late = now_ns - self._reported_ns >= self._options.report_ns
        awaited = self._owed and current is None  # the sender waits for the end to be confirmed
        if not missing and not awaited and not (heard and late):
            return
        flags, segment, due = int(Flag.ENDED), self._ended, 0
        if current is not None:
            flags = 0 if current.header is None else int(Flag.HEADER_KNOWN)
            segment, due = current.number, current.due or 0
        if segment < 0:
            return
        body = wire.pack_missing(missing)
        self._say(Datagram(Kind.REPORT, self._stream, segment, due, flags=flags, body=body))
        self.counts.asked += len(missing)
        self._reported_ns = now_ns
        self._owed = False

    def _request_keys(self) -> None:
        current = self._current
        if current is None or current.due is None:
            return
        for slice_index in sorted(self._consumer.keys_wanted):
            if self._keys.opens(slice_index):
                self.counts.key_requests += 1
                self._say(
                    Datagram(
                        Kind.KEY, self._stream, current.number, current.due, slice_index=slice_index
                    )
                )

    def _say(self, answer: Datagram) -> None:
        """Answer, unless that would be more than the sender has sent."""
        data = answer.pack(self.seal)
        counts = self.counts
        if counts.answered_bytes + len(data) <= counts.received_bytes:
            counts.answered_bytes += len(data)
            self._answer(data)
