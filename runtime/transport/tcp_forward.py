"""The sending side of packet forwarding over TCP: a sink that outlives its connections.

The pipeline's thread puts packets into a bounded window; a thread of the sink carries them to the
receiver, connects again when the connection breaks, and goes on where the receiver stopped. A
packet leaves the window when the receiver says that it is stored. Where the window is full, the
pipeline waits: that is the back-pressure of a slow receiver.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import ssl
import threading
import time

from edge_codec.bitstream.header import pack_header
from edge_codec.bitstream.packet import Packet
from edge_codec.errors import EdgeCodecError, ProtocolError, SinkError
from edge_codec.runtime.access import PROOF_SIZE, same_proof
from edge_codec.runtime.packet_sink import Segment
from edge_codec.runtime.transport import forward_wire as wire
from edge_codec.runtime.transport.channel import Channel
from edge_codec.runtime.transport.forward_options import (
    ForwardCounts,
    ForwardOptions,
    OnKeyRequest,
    WhenGone,
)
from edge_codec.runtime.transport.forward_wire import Kind, Position
from edge_codec.runtime.transport.key_gate import KeyGate
from edge_codec.runtime.transport.unacknowledged import Entry, Unacknowledged

_log = logging.getLogger(__name__)

_FEED = 1 << 18  # bytes handed to the connection ahead of what it has sent
_LAST_WORDS_S = 1.0  # to say that the stream is aborted
_JOIN_S = 5.0


class TcpForwardSink:
    """Forwards the packets of one live stream to a `PacketReceiver`.

    Parameters
    ----------
    address : tuple of (str, int)
        Host and port of the receiver; its certificate, with TLS, must name the host.
    options : ForwardOptions
        Token, TLS, and what happens if the receiver is slow or gone.
    on_key_request : callable, optional
        Called from the sink's thread with a slice or None when packets are lost; may be set later,
        as in `sink.on_key_request = stream.request_key`.

    Attributes
    ----------
    counts : ForwardCounts
        What was done so far.
    on_key_request : callable or None
        As given.
    """

    def __init__(
        self,
        address: tuple[str, int],
        options: ForwardOptions | None = None,
        on_key_request: OnKeyRequest | None = None,
    ) -> None:
        self._address = address
        self._options = options or ForwardOptions()
        self.on_key_request = on_key_request
        self.counts = ForwardCounts()
        self._session = os.urandom(wire.SESSION_SIZE)
        self._state = threading.Condition()
        self._window = Unacknowledged(self._options.window_packets, self._options.window_bytes)
        self._headers: dict[int, bytes] = {}
        self._segment: Segment | None = None
        self._sequence = 0
        self._keys = KeyGate()
        self._thread: threading.Thread | None = None
        self._running = self._stop = self._abort = self._behind = False
        self._failure: EdgeCodecError | None = None
        self._gone_s: float | None = time.monotonic()  # since when there is no connection
        self._progress_s = time.monotonic()
        self._wake_out: socket.socket | None = None
        self._due = Position()  # what this connection sends next
        self._begun = -1  # segment that this connection knows
        self._confirmed = Position()  # how far a receiver has said that it is

    def begin(self, segment: Segment) -> None:
        """Announce a segment; the receiver hears of it with its first packet."""
        wire.stream_name(segment.stream.encode())
        with self._state:
            if self._segment is not None and segment.stream != self._segment.stream:
                raise SinkError(
                    f"the sink forwards stream {self._segment.stream}, not {segment.stream}; "
                    "give each stream a sink of its own"
                )
            self._failure = None  # what was refused may be let in now
            self._headers[segment.number] = pack_header(segment.spec)
            self._segment, self._sequence = segment, 0
            self._gone_s = self._progress_s = time.monotonic()
        self._start()

    def send(self, packet: Packet, data: bytes) -> None:
        """Put a packet into the window.

        Raises
        ------
        SinkError
            If the receiver is gone or refuses the stream, and the options say to fail.
        """
        entry = Entry(self._number(), packet.sequence, data)
        with self._state:
            self._make_room()
            if not len(self._window):
                self._progress_s = time.monotonic()  # nothing was there to be confirmed
            self._window.add(entry)
            self._sequence = packet.sequence + 1
            self.counts.packets += 1
        self._wake()

    def end(self) -> None:
        """Wait until the whole segment is stored, and close the connection.

        Raises
        ------
        SinkError
            If that cannot be, and the options say to fail.
        """
        number = self._number()
        with self._state:
            self._window.add(Entry(number, self._sequence, None))
        self._wake()
        with self._state:
            while len(self._window) and self._failure is None and self._wait():
                pass
            missing = len(self._window)
        self._halt()
        if missing:
            self._lost(f"{missing} messages were not confirmed at the end of the segment")

    def abort(self) -> None:
        """Tell the receiver, if it can be told within a second, and let go of the rest."""
        self._abort = True
        self._halt()

    def _number(self) -> int:
        if self._segment is None:
            raise SinkError("no segment has begun; call begin first")
        return self._segment.number

    def _make_room(self) -> None:
        """Wait for room in the window, or do what the options say."""
        fails = self._options.when_gone is WhenGone.FAIL
        if self._failure is not None and fails:
            self._lost("the receiver refuses the stream")
        gone_for = 0.0 if self._gone_s is None else time.monotonic() - self._gone_s
        if fails and gone_for > self._options.patience_s:
            self._lost(f"no connection for {gone_for:.1f} s")
        self._behind = self._behind and not self._window.low
        while self._window.full:
            gone = self._gone_s is not None or self._failure is not None
            if not fails and (gone or self._behind):
                self._drop()
            elif not self._wait():
                self._behind = True
                self._lost(f"nothing was confirmed for {self._options.patience_s:g} s")

    def _drop(self) -> None:
        entry = self._window.drop_oldest()
        if entry is None:  # all of it may have arrived: it is not given up
            self._state.wait(self._options.retry_s)
        elif entry.data is not None:
            self.counts.lost += 1

    def _wait(self) -> bool:
        """Wait for a change; whether the receiver may still be waited for."""
        left_s = self._progress_s + self._options.patience_s - time.monotonic()
        return left_s > 0 and self._state.wait(left_s)

    def _lost(self, what: str) -> None:
        why = self._failure or self.counts.last_error or "it does not answer"
        host, port = self._address
        message = f"forwarding to {host}:{port}: {what} ({why})"
        if self._options.when_gone is WhenGone.FAIL:
            raise SinkError(f"{message}; check that the receiver runs and has room")
        _log.warning("%s; going on without it", message)

    def _start(self) -> None:
        with self._state:
            self._stop = False
            if self._running:  # one that was told to stop may not have come to it: it goes on
                return
            name = f"forward-{self._segment.stream if self._segment else ''}"
            self._wake_out, wake_in = socket.socketpair()
            self._wake_out.setblocking(False)
            self._thread = threading.Thread(
                target=self._run, args=(self._wake_out, wake_in), name=name, daemon=True
            )
            self._thread.start()
            self._running = True

    def _halt(self) -> None:
        with self._state:
            self._stop = True
            self._state.notify_all()
        self._wake()
        if self._thread is not None:
            self._thread.join(_JOIN_S)

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # full of wake-ups already, or closed
            if self._wake_out is not None:
                self._wake_out.send(b"\0")

    # What follows runs in the sink's own thread.

    def _run(self, wake_out: socket.socket, wake_in: socket.socket) -> None:
        with wake_out, wake_in:
            self._keep_connected(wake_in)

    def _goes_on(self) -> bool:
        with self._state:  # so that `_start` either sees this thread end or makes it go on
            self._running = not self._stop and self._failure is None
            return self._running

    def _keep_connected(self, wake: socket.socket) -> None:
        pause_s = self._options.retry_s
        while self._goes_on():
            made = self.counts.connections
            try:
                self._connect_and_talk(wake)
            except (OSError, EdgeCodecError) as error:
                self._note(error)
            if self.counts.connections > made:
                pause_s = self._options.retry_s
            with self._state:
                self._state.wait_for(lambda: self._stop or self._failure is not None, pause_s)
            pause_s = min(2 * pause_s, self._options.max_retry_s)

    def _note(self, error: Exception) -> None:
        with self._state:
            self.counts.last_error = f"{type(error).__name__}: {error}"
            if self._gone_s is None:
                self._gone_s = time.monotonic()
            if isinstance(error, SinkError):
                self._failure = error
            elif isinstance(error, ssl.SSLCertVerificationError):
                self._failure = SinkError(f"the receiver's certificate: {error.verify_message}")
            self._state.notify_all()
        _log.info("forwarding to %s:%d: %s", *self._address, self.counts.last_error)

    def _connect_and_talk(self, wake: socket.socket) -> None:
        options = self._options
        sock = socket.create_connection(self._address, options.connect_s)
        if options.tls is not None:
            sock = options.tls.wrap_socket(
                sock, server_hostname=self._address[0], do_handshake_on_connect=False
            )
        channel = Channel(sock, wire.SMALL, options.silence_s)
        try:
            channel.handshake(options.connect_s)
            self._greet(channel, wake)
            self._talk(channel, wake)
        finally:
            channel.close()

    def _greet(self, channel: Channel, wake: socket.socket) -> None:
        """Prove the token to each other, and learn where the receiver stopped."""
        secret = self._options.secret
        challenge = wire.Challenge.unpack(self._expect(channel, wake, Kind.CHALLENGE))
        if challenge.demands_token and not secret:
            raise SinkError("it demands a token; give --token-file")
        name = self._segment.stream if self._segment else ""
        hello = wire.Hello(os.urandom(wire.NONCE_SIZE), bytes(PROOF_SIZE), self._session, name)
        proof = wire.sender_proof(secret, challenge, hello)
        channel.queue(Kind.HELLO, wire.Hello(hello.nonce, proof, hello.session, name).pack())
        proof, position = wire.unpack_welcome(self._expect(channel, wake, Kind.WELCOME))
        if secret and not same_proof(proof, wire.receiver_proof(secret, challenge, hello)):
            raise SinkError("it does not know the token; this may not be your receiver")
        with self._state:
            self.counts.connections += 1
            self._gone_s = None
            self._compare(position)
            self._window.rewind()
            self._due, self._begun = position, -1
        self._acknowledge(position)

    def _compare(self, position: Position) -> None:
        """Count what the receiver had confirmed and does not have any more."""
        before, self._confirmed = self._confirmed, position
        if position < before:
            if position.segment == before.segment:
                self.counts.lost += before.sequence - position.sequence
            _log.warning("the receiver had confirmed %s, and has lost it: %s", before, position)

    def _expect(self, channel: Channel, wake: socket.socket, kind: Kind) -> bytes:
        deadline_s = time.monotonic() + self._options.connect_s
        while (left_s := deadline_s - time.monotonic()) > 0 and not self._stop:
            channel.pump(left_s, wake)
            for found, body in channel.messages():
                if found == Kind.ERROR:
                    self._refused(body)
                if found != kind:
                    raise ProtocolError(f"message of kind {found} where {kind.name} is due")
                return body
        raise TimeoutError(f"no {kind.name} within {self._options.connect_s:g} s")

    def _talk(self, channel: Channel, wake: socket.socket) -> None:
        """Carry packets until there is nothing more to carry."""
        pinged_s = time.monotonic()
        while True:
            stop = self._stop
            if self._feed(channel):
                self._request_key(None)
            if stop:
                self._say_farewell(channel)
                return
            channel.pump(self._options.silence_s / 4, wake)
            for kind, body in channel.messages():
                self._take(kind, body)
            now_s = time.monotonic()
            if now_s - channel.heard_s > self._options.silence_s:
                raise TimeoutError(f"no sign of life for {self._options.silence_s:g} s")
            if now_s - pinged_s > self._options.silence_s / 4:
                channel.queue(Kind.PING)
                pinged_s = now_s

    def _feed(self, channel: Channel) -> bool:
        """Hand entries to the connection; whether packets are missing between them."""
        gap = False
        with self._state:
            while channel.waiting < _FEED and (entry := self._window.next()) is not None:
                if entry.segment != self._begun:
                    header = self._headers[entry.segment]
                    channel.queue(Kind.BEGIN, wire.pack_begin(entry.segment, header))
                    self._begun = entry.segment
                if entry.segment != self._due.segment:
                    self._due = Position(entry.segment)
                if entry.sequence > self._due.sequence:
                    body = wire.pack_gap(entry.segment, self._due.sequence, entry.sequence)
                    channel.queue(Kind.GAP, body)
                    gap = True
                if entry.data is None:
                    channel.queue(Kind.END, wire.pack_end(entry.segment, entry.sequence))
                else:
                    channel.queue(Kind.PACKET, entry.data)
                self._due = Position(entry.segment, entry.sequence + 1)
        return gap

    def _take(self, kind: int, body: bytes) -> None:
        if kind == Kind.ACK:
            self._acknowledge(Position.unpack(body))
        elif kind == Kind.KEY:
            self._request_key(wire.unpack_key(body))
        elif kind == Kind.ERROR:
            self._refused(body)
        else:
            raise ProtocolError(f"message of kind {kind} is none of a receiver's")

    def _acknowledge(self, position: Position) -> None:
        with self._state:
            self._confirmed = max(self._confirmed, position)
            packets = self._window.acknowledge(position)
            if packets:
                self.counts.acknowledged += packets
                self._progress_s = time.monotonic()
            needed = self._window.segments() | {self._number()}
            for segment in self._headers.keys() - needed:
                del self._headers[segment]
            self._state.notify_all()

    def _refused(self, body: bytes) -> None:
        code, text = wire.unpack_error(body)
        if code.passing:
            raise ProtocolError(f"it says: {text}")
        raise SinkError(f"it says: {text}")

    def _request_key(self, slice_index: int | None) -> None:
        slices = self._segment.spec.info.n_slices if self._segment else 0
        if slice_index is not None and slice_index >= slices:
            raise ProtocolError(f"key frame requested of slice {slice_index} of {slices}")
        if self.on_key_request is not None and self._keys.opens(slice_index):
            self.counts.key_requests += 1
            with contextlib.suppress(EdgeCodecError):  # the stream may just be ending
                self.on_key_request(slice_index)

    def _say_farewell(self, channel: Channel) -> None:
        if self._abort and self._begun >= 0:
            channel.queue(Kind.ABORT, wire.pack_end(self._begun, self._due.sequence))
        deadline_s = time.monotonic() + _LAST_WORDS_S
        while channel.waiting and time.monotonic() < deadline_s:
            channel.pump(_LAST_WORDS_S / 4)
