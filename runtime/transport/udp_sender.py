"""The sending side of one stream over UDP, without sockets and clocks: packets in, datagrams out.

It greets until the receiver has answered, repeats the header until that is known, and keeps recent
packets to send parts of them again. It never waits: what the receiver could not get in time is
lost, and its request for a key frame says so.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from edge_codec.errors import SinkError
from edge_codec.runtime.transport import datagram as wire
from edge_codec.runtime.transport.assembly import MAX_HEADER_FRAGMENTS
from edge_codec.runtime.transport.datagram import Datagram, Flag, Kind, Seal
from edge_codec.runtime.transport.forward_options import OnKeyRequest
from edge_codec.runtime.transport.key_gate import KeyGate
from edge_codec.runtime.transport.udp_options import UdpOptions

SMALL_HEADER = 8  # datagrams of a header that goes with every key frame, known or not
GREET_AGAIN_NS = 500_000_000  # of silence: the receiver may be another one now


@dataclass(frozen=True, slots=True)
class _Kept:
    slice_index: int
    key: bool
    parts: list[bytes]


@dataclass(slots=True)
class SenderCounts:
    """What a sender over UDP did so far.

    Attributes
    ----------
    packets, datagrams, sent_bytes : int
        Packets, datagrams of all kinds, and their bytes.
    sent_again : int
        Parts of packets that were sent again.
    key_requests : int
        Key frames that were requested.
    """

    packets: int = 0
    datagrams: int = 0
    sent_bytes: int = 0
    sent_again: int = 0
    key_requests: int = 0


class UdpSender:
    """Turns the packets of one stream into datagrams.

    Parameters
    ----------
    name : str
        Of the stream.
    token : str or None
        Secret that the receiver knows.
    transmit : callable
        Sends a datagram.
    on_key_request : callable
        Called with a slice or None.
    options : UdpOptions
        Times and bounds.

    Attributes
    ----------
    counts : SenderCounts
        What was done so far.
    heard_ns : int or None
        When the receiver last said something valid; None if it never did.
    """

    def __init__(
        self,
        name: str,
        token: str | None,
        transmit: Callable[[bytes], None],
        on_key_request: OnKeyRequest,
        options: UdpOptions | None = None,
    ) -> None:
        self.counts = SenderCounts()
        self.heard_ns: int | None = None
        self._name, self._token = name, token
        self._transmit = transmit
        self._on_key_request = on_key_request
        self._options = options or UdpOptions()
        self._stream = os.urandom(wire.ID_SIZE)
        self._greeting = wire.greeting_seal(token)
        self._nonce = os.urandom(wire.NONCE_SIZE)
        self._seal: Seal | None = None
        self._now_ns = 0
        self._keys = KeyGate(clock=lambda: self._now_ns)
        self._segment = -1
        self._header: list[bytes] = []
        self._header_known = False
        self._kept: OrderedDict[int, _Kept] = OrderedDict()
        self._kept_bytes = 0
        self._sequence = 0
        self._first_parts = 0  # parts of packets that were sent for the first time
        self._key_at: dict[int, int] = {}  # slice -> packet of its last key frame
        self._ended = self._acknowledged = True
        self._greeted_ns: int | None = None
        self._repeated_ns = self._sent_ns = 0

    @property
    def established(self) -> bool:
        """Whether the receiver has answered the greeting."""
        return self._seal is not None

    @property
    def acknowledged(self) -> bool:
        """Whether the receiver knows that the last segment is complete."""
        return self._acknowledged

    def begin(self, number: int, header: bytes, now_ns: int) -> None:
        """Begin a segment.

        Raises
        ------
        SinkError
            If the header is too large for datagrams.
        """
        parts = wire.cut(header)
        if len(parts) > MAX_HEADER_FRAGMENTS:
            raise SinkError(
                f"the stream's header has {len(header)} bytes; over UDP "
                f"{MAX_HEADER_FRAGMENTS * wire.CHUNK} are possible: forward it over TCP"
            )
        self._now_ns = now_ns
        self._segment, self._header, self._header_known = number, parts, False
        self._kept.clear()
        self._kept_bytes = self._sequence = 0
        self._key_at.clear()
        self._ended = self._acknowledged = False
        self._greet()
        self._send_header()

    def send(self, sequence: int, slice_index: int, key: bool, data: bytes, now_ns: int) -> None:
        """Send a packet."""
        self._now_ns = now_ns
        kept = _Kept(slice_index, key, wire.cut(data))
        self._kept[sequence] = kept
        self._kept_bytes += len(data)
        self._sequence = sequence + 1
        self.counts.packets += 1
        if key:
            self._key_at[slice_index] = sequence
            if len(self._header) <= SMALL_HEADER or not self._header_known:
                self._send_header()
        self._let_go()
        self._first_parts += len(kept.parts)
        self._send_parts(sequence, kept, range(len(kept.parts)))

    def end(self, now_ns: int) -> None:
        """Say that the segment is complete; `tick` repeats it until it is known."""
        self._now_ns = now_ns
        self._ended = True
        self._say(Kind.END, self._sequence)

    def receive(self, data: bytes, now_ns: int) -> None:
        """Take what the receiver says; what is not from it is passed over."""
        self._now_ns = now_ns
        if wire.stream_of(data) != self._stream:
            return
        challenge = wire.open_datagram(data, self._greeting)
        if challenge is not None and challenge.kind == Kind.CHALLENGE:
            self._establish(challenge.body)
            return
        found = None if self._seal is None else wire.open_datagram(data, self._seal)
        if found is None or found.kind < Kind.CHALLENGE:  # our own words, thrown back
            return
        self.heard_ns = now_ns
        if found.kind == Kind.REPORT:
            self._follow(found)
        elif found.kind == Kind.KEY and found.segment == self._segment:
            self._request_key(found)

    def tick(self, now_ns: int) -> None:
        """Do what is due with time: greet, repeat, show a sign of life."""
        self._now_ns = now_ns
        options = self._options
        silent = self.heard_ns is not None and now_ns - self.heard_ns > GREET_AGAIN_NS
        waited = self._greeted_ns is None or now_ns - self._greeted_ns >= options.repeat_ns
        if (self._seal is None or silent) and waited:
            self._greet()
        if now_ns - self._repeated_ns >= options.repeat_ns:
            self._repeated_ns = now_ns
            if not self._header_known and not self._acknowledged:
                self._send_header()
            if self._ended and not self._acknowledged:
                self._say(Kind.END, self._sequence)
        if now_ns - self._sent_ns >= options.ping_ns and not self._acknowledged:
            self._say(Kind.PING, self._sequence, body=wire.PING_BODY)

    def _greet(self) -> None:
        self._greeted_ns = self._now_ns
        hello = wire.pack_hello(self._stream, self._nonce, self._name, self._greeting)
        self._emit(hello)

    def _establish(self, body: bytes) -> None:
        """Take the receiver's nonce, and send what it has missed."""
        if len(body) != 2 * wire.NONCE_SIZE or body[: wire.NONCE_SIZE] != self._nonce:
            return
        self._seal = wire.session_seal(
            self._token, self._stream, self._nonce, body[wire.NONCE_SIZE :]
        )
        self._nonce = os.urandom(wire.NONCE_SIZE)  # an answer establishes one session
        self.heard_ns = self._now_ns
        self._header_known = False
        self._send_header()
        for sequence, kept in self._kept.items():
            self._send_parts(sequence, kept, range(len(kept.parts)))
        if self._ended:
            self._say(Kind.END, self._sequence)

    def _follow(self, report: Datagram) -> None:
        if report.segment != self._segment:
            return
        self._header_known = bool(report.flags & Flag.HEADER_KNOWN) or self._acknowledged
        if report.flags & Flag.ENDED:
            self._acknowledged = self._ended
            return
        for sequence, fragment in wire.unpack_missing(report.body):
            kept = self._kept.get(sequence)
            if kept is None:
                continue
            parts = range(len(kept.parts))
            if fragment != wire.WHOLE_PACKET:
                parts = parts[fragment : fragment + 1]
            if self.counts.sent_again + len(parts) > self._first_parts:
                return  # a report that somebody repeats must not make a flood
            self.counts.sent_again += len(parts)
            self._send_parts(sequence, kept, parts)

    def _request_key(self, request: Datagram) -> None:
        """Pass on a request, unless a key frame is on its way that will do."""
        slice_index = request.slice_index
        if self._key_at.get(slice_index, -1) >= request.sequence:
            return
        if self._keys.opens(slice_index):
            self.counts.key_requests += 1
            self._on_key_request(None if slice_index == wire.ALL_SLICES else slice_index)

    def _let_go(self) -> None:
        options = self._options
        while len(self._kept) > 1 and (
            len(self._kept) > options.window_packets or self._kept_bytes > options.window_bytes
        ):
            _, kept = self._kept.popitem(last=False)
            self._kept_bytes -= sum(map(len, kept.parts))

    def _send_header(self) -> None:
        oldest = next(iter(self._kept), self._sequence)
        for fragment, body in enumerate(self._header):
            self._say(Kind.HEADER, oldest, fragment, len(self._header), body=body)

    def _send_parts(self, sequence: int, kept: _Kept, parts: range) -> None:
        flags = Flag.KEY_FRAME if kept.key else 0
        for fragment in parts:
            self._say(
                Kind.DATA, sequence, fragment, len(kept.parts), kept.slice_index, flags,
                kept.parts[fragment],
            )  # fmt: skip

    def _say(
        self, kind: Kind, sequence: int, fragment: int = 0, fragments: int = 1,
        slice_index: int = 0, flags: int = 0, body: bytes = b"",
    ) -> None:  # fmt: skip
        if self._seal is None:
            return
        self._sent_ns = self._now_ns
        self._emit(
            Datagram(
                kind, self._stream, self._segment, sequence, fragment, fragments, slice_index,
                flags, body,
            ).pack(self._seal)
        )  # fmt: skip

    def _emit(self, data: bytes) -> None:
        self.counts.datagrams += 1
        self.counts.sent_bytes += len(data)
        self._transmit(data)
