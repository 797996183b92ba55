"""The receiving side of packet forwarding over TCP: a thread for each sender, bounded in all.

Whatever a sender does harms only its own connection: sizes are bounded before memory is spent,
each step has a time-out, and what does not fit the protocol or the stream ends the connection
with one line that says why. What was stored before stays.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from pathlib import Path

from edge_codec.bitstream.packet import Packet
from edge_codec.errors import EdgeCodecError, ProtocolError, SinkError, SpecError, StreamError
from edge_codec.runtime.access import check_listen, same_proof
from edge_codec.runtime.transport import forward_wire as wire
from edge_codec.runtime.transport.channel import Channel
from edge_codec.runtime.transport.forward_wire import Kind, Refusal
from edge_codec.runtime.transport.key_gate import KeyGate
from edge_codec.runtime.transport.receiver_options import ReceiverOptions
from edge_codec.runtime.transport.sessions import Sessions
from edge_codec.runtime.transport.store_account import Listener
from edge_codec.runtime.transport.stream_store import StreamStore

_log = logging.getLogger(__name__)

LINGER_S = 60.0  # a stream stays open for a sender that may come back
KEY_RETRY_NS = 500_000_000  # a key frame that was requested has come by then, or is asked for again
_TICK_S = 0.1
_LAST_WORDS_S = 1.0
_DRAIN_S = 10.0
_MAX_UNREAD = 1 << 20  # bytes of answers that a sender may leave unread


class PacketReceiver:
    """Listens for `TcpForwardSink` and stores what comes.

    Parameters
    ----------
    address : tuple of (str, int)
        Where to listen; port 0 takes a free one.
    folder : Path
        Where the streams are stored; must exist.
    options : ReceiverOptions
        Token, TLS, limits.
    listener : callable, optional
        Gets an event for each packet that is stored, lost or skipped, from several threads.

    Attributes
    ----------
    address : tuple of (str, int)
        Where it listens.
    completed : int
        Segments that came whole, or as whole as they were sent.

    Raises
    ------
    SpecError
        If the address is open to other machines and there is no token, or it cannot be used.
    """

    def __init__(
        self,
        address: tuple[str, int],
        folder: Path,
        options: ReceiverOptions | None = None,
        listener: Listener | None = None,
    ) -> None:
        self._options = options or ReceiverOptions()
        check_listen(address[0], self._options.access)
        if not folder.is_dir():
            raise SpecError(f"{folder} is no folder; make it first")
        self._sock = _listen(address)
        host, port = self._sock.getsockname()[:2]
        self.address: tuple[str, int] = (host, port)
        self.completed = 0
        self._sessions = Sessions(folder, self._options.sync, listener)
        self._lock = threading.Lock()
        self._connections: dict[_Connection, bool] = {}  # whether it has shown who it is
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._accept, name="receive", daemon=True)
        self._thread.start()

    def __enter__(self) -> PacketReceiver:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Take no more, store what has come, tell the senders, and complete every file."""
        self._closing.set()
        self._thread.join(_DRAIN_S)
        self._sock.close()
        with self._lock:
            threads = [connection.thread for connection in self._connections]
        for thread in threads:
            thread.join(_DRAIN_S)
        self._sessions.close_idle(0)

    @property
    def streams(self) -> list[str]:
        """Names of the streams that are open."""
        return self._sessions.names()

    def _accept(self) -> None:
        while not self._closing.is_set():
            self._sessions.close_idle(LINGER_S)
            try:
                sock, peer = self._sock.accept()
            except TimeoutError:
                continue
            except OSError as error:  # too many open files, say: others must not suffer
                _log.warning("a connection could not be taken: %s", error)
                self._closing.wait(_TICK_S)
                continue
            connection = _Connection(self, sock, f"{peer[0]}:{peer[1]}")
            if self._make_room(connection):
                try:
                    connection.thread.start()
                except RuntimeError as error:  # no more threads: others must not suffer
                    _log.warning("%s: refused, %s", peer[0], error)
                    self.forget(connection)
                    sock.close()
            else:
                _log.warning("%s: refused, %d connections", peer[0], self._options.max_peers)
                sock.close()

    def _make_room(self, connection: _Connection) -> bool:
        """Count a connection; whether it may stay.

        Where there are too many, the oldest that has not shown who it is leaves: strangers who
        connect and say nothing must not keep senders out.
        """
        with self._lock:
            if len(self._connections) >= self._options.max_peers:
                stranger = next((c for c, known in self._connections.items() if not known), None)
                if stranger is None:
                    return False
                del self._connections[stranger]
                stranger.interrupt()
            self._connections[connection] = False
            return True

    # What follows is for the connections.

    @property
    def closing(self) -> bool:
        """Whether the receiver stops."""
        return self._closing.is_set()

    @property
    def options(self) -> ReceiverOptions:
        """As given."""
        return self._options

    @property
    def sessions(self) -> Sessions:
        """The streams."""
        return self._sessions

    def admit(self, connection: _Connection) -> bool:
        """Take note that a connection has shown who it is; False if it had to leave before."""
        with self._lock:
            if connection in self._connections:
                self._connections[connection] = True
            return connection in self._connections

    def segment_completed(self) -> None:
        """Count a segment."""
        with self._lock:
            self.completed += 1

    def forget(self, connection: _Connection) -> None:
        """Drop a connection that has ended."""
        with self._lock:
            self._connections.pop(connection, None)


class _Connection:
    """One sender, in a thread of its own."""

    def __init__(self, receiver: PacketReceiver, sock: socket.socket, peer: str) -> None:
        self._receiver = receiver
        self._options = receiver.options
        self._sock = sock
        self._peer = peer
        self._keys = KeyGate(KEY_RETRY_NS)
        self._packets = 0  # since the last acknowledgement
        self._aborted = ""
        self.thread = threading.Thread(target=self._run, name=f"receive-{peer}", daemon=True)

    def interrupt(self) -> None:
        """Break the connection from another thread."""
        with contextlib.suppress(OSError):  # it may be broken already
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)

    def _run(self) -> None:
        try:
            self._serve()
        except (OSError, EdgeCodecError) as error:
            _log.info("%s: %s", self._peer, error)
        finally:
            self._sock.close()
            self._receiver.forget(self)

    def _serve(self) -> None:
        tls = self._options.access.server_tls
        if tls is not None:
            self._sock = tls.wrap_socket(
                self._sock, server_side=True, do_handshake_on_connect=False
            )
        channel = Channel(self._sock, wire.SMALL, self._options.message_s)
        channel.handshake(self._options.hello_s)
        try:
            hello, proof = self._greet(channel)
            if not self._receiver.admit(self):
                raise StreamError("too many connections; this one was too slow to greet")
            key = hello.name, hello.session
            store = self._receiver.sessions.take(*key, channel.interrupt)
        except EdgeCodecError as error:
            self._refuse(channel, error)
            raise
        try:
            channel.queue(Kind.WELCOME, wire.pack_welcome(proof, store.position))
            self._converse(channel, store)
        except EdgeCodecError as error:
            self._refuse(channel, error)
            raise
        finally:
            if self._aborted:
                self._receiver.sessions.discard(*key, self._aborted)
            else:
                self._receiver.sessions.release(*key)

    def _greet(self, channel: Channel) -> tuple[wire.Hello, bytes]:
        access = self._options.access
        challenge = wire.Challenge(os.urandom(wire.NONCE_SIZE), access.token is not None)
        channel.queue(Kind.CHALLENGE, challenge.pack())
        deadline_s = time.monotonic() + self._options.hello_s
        while (left_s := deadline_s - time.monotonic()) > 0:
            channel.pump(min(left_s, _TICK_S))
            for kind, body in channel.messages():
                if kind != Kind.HELLO:
                    raise ProtocolError(f"message of kind {kind} where HELLO is due")
                hello = wire.Hello.unpack(body)
                due = wire.sender_proof(access.secret, challenge, hello)
                if access.token is not None and not same_proof(hello.proof, due):
                    raise _WrongTokenError("the token is wrong or missing")
                return hello, wire.receiver_proof(access.secret, challenge, hello)
        raise ProtocolError(f"no HELLO within {self._options.hello_s:g} s")

    def _converse(self, channel: Channel, store: StreamStore) -> None:
        channel.limit = wire.MAX_BEGIN
        while not self._receiver.closing:
            channel.pump(_TICK_S)
            for kind, body in channel.messages():
                self._take(channel, store, kind, body)
            if self._aborted:
                return
            if self._packets:
                self._acknowledge(channel, store)
            if time.monotonic() - channel.heard_s > self._options.silence_s:
                raise ProtocolError(f"no sign of life for {self._options.silence_s:g} s")
        raise StreamError("the receiver stops")

    def _take(self, channel: Channel, store: StreamStore, kind: int, body: bytes) -> None:
        self._packets += 1
        if kind == Kind.PACKET:
            self._store(store, body)
        elif kind == Kind.BEGIN:
            store.begin(*wire.unpack_begin(body))
            channel.limit = max(wire.MAX_BEGIN, wire.max_packet(store.segment.spec))
        elif kind == Kind.GAP:
            segment, first, end = wire.unpack_gap(body)
            _check_due(store, segment, first)
            store.skip(end)
        elif kind == Kind.END:
            segment, count = wire.unpack_end(body)
            _check_due(store, segment, count)
            store.end(count)
            self._receiver.segment_completed()
        elif kind == Kind.ABORT:
            self._aborted = "the sender has aborted the stream"
        elif kind != Kind.PING:
            raise ProtocolError(f"message of kind {kind} is none of a sender's")
        for slice_index in [i for i in store.keys_wanted if self._keys.opens(i)]:
            channel.queue(Kind.KEY, wire.pack_key(slice_index))

    def _store(self, store: StreamStore, data: bytes) -> None:
        limit = wire.max_packet(store.segment.spec)
        if len(data) > limit:
            raise ProtocolError(f"packet of {len(data)} bytes; {limit} are allowed")
        packet = Packet.unpack(data)
        _check_due(store, store.segment.number, packet.sequence)
        store.put(packet, data)

    def _acknowledge(self, channel: Channel, store: StreamStore) -> None:
        channel.queue(Kind.ACK, store.position.pack())
        self._packets = 0
        if channel.waiting > _MAX_UNREAD:
            raise ProtocolError("the sender does not read what it is told")

    def _refuse(self, channel: Channel, error: EdgeCodecError) -> None:
        """Say why the connection ends, if the sender still listens."""
        channel.queue(Kind.ERROR, wire.pack_error(_code_of(error), str(error)))
        channel.farewell(_LAST_WORDS_S)


class _WrongTokenError(ProtocolError):
    """Somebody knocked without the token."""


def _code_of(error: EdgeCodecError) -> Refusal:
    if isinstance(error, _WrongTokenError):
        return Refusal.TOKEN
    if isinstance(error, SinkError):
        return Refusal.STORAGE
    return Refusal.CLOSING if isinstance(error, StreamError) else Refusal.PROTOCOL


def _check_due(store: StreamStore, segment: int, sequence: int) -> None:
    """Refuse what leaves something out without saying so: gaps are announced."""
    due = store.position
    if segment != due.segment or sequence > due.sequence:
        raise ProtocolError(
            f"packet {sequence} of segment {segment} where {due.sequence} of {due.segment} is due"
        )


def _listen(address: tuple[str, int]) -> socket.socket:
    host, port = address
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.create_server((host, port), family=family)
    except OSError as error:
        raise SpecError(
            f"cannot listen at {host or '*'}:{port}: {error.strerror or error}; choose another "
            "address or port"
        ) from error
    sock.settimeout(_TICK_S)
    return sock
