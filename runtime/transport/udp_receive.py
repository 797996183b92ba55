"""Listens for `UdpSink` and stores what comes: one thread, bounded whoever sends what.

A sender first shows that it is where its datagrams come from, and that it knows the token. Until
then nothing is kept of it but two random numbers; after that it gets answers, which together are
never more bytes than it sent.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_codec.errors import EdgeCodecError, ProtocolError, SpecError
from edge_codec.runtime.access import check_listen
from edge_codec.runtime.transport import datagram as wire
from edge_codec.runtime.transport.datagram import Datagram, Kind, Seal
from edge_codec.runtime.transport.receiver_options import ReceiverOptions
from edge_codec.runtime.transport.store_account import Listener
from edge_codec.runtime.transport.stream_store import StreamStore
from edge_codec.runtime.transport.udp_options import UdpOptions
from edge_codec.runtime.transport.udp_peer import UdpPeer

_log = logging.getLogger(__name__)

MAX_GREETED = 64  # senders that have greeted and not yet sent anything else
_TICK_NS = 5_000_000
_IDLE_S = 0.1
_QUIET_NS, _DRAIN_NS = 100_000_000, 1_000_000_000  # at the end: of silence, and in all
_BUFFER = 4 << 20

_Address = Any  # as the socket module has it: (host, port) and more for IPv6


@dataclass(frozen=True, slots=True)
class _Greeted:
    seal: Seal
    name: str
    challenge: bytes  # the answer, for when the same greeting comes again
    since_ns: int


@dataclass(slots=True)
class _Known:
    peer: UdpPeer
    store: StreamStore
    address: _Address


class UdpReceiver:
    """Stores the streams that come over UDP.

    Parameters
    ----------
    address : tuple of (str, int)
        Where to listen; port 0 takes a free one.
    folder : Path
        Where the streams are stored; must exist.
    options : ReceiverOptions
        Token and limits; there is no TLS over UDP.
    udp : UdpOptions
        Times and bounds.
    listener : callable, optional
        Gets an event for each packet that is stored, lost or skipped, from the receiver's thread.

    Attributes
    ----------
    address : tuple of (str, int)
        Where it listens.
    completed : int
        Segments whose end is known, whatever was lost of them.
    refused : int
        Datagrams that were none of a known sender's.

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
        udp: UdpOptions | None = None,
        listener: Listener | None = None,
    ) -> None:
        self._options = options or ReceiverOptions()
        self._listener = listener
        self._udp = udp or UdpOptions()
        access = self._options.access
        if access.server_tls is not None:
            raise SpecError("there is no TLS over UDP; leave --tls-cert, or listen over TCP")
        check_listen(address[0], access)
        if not folder.is_dir():
            raise SpecError(f"{folder} is no folder; make it first")
        self._folder = folder
        self._greeting = wire.greeting_seal(access.token)
        self._sock = _bind(address)
        host, port = self._sock.getsockname()[:2]
        self.address: tuple[str, int] = (host, port)
        self.completed = self.refused = self._heard = 0
        self._greeted: OrderedDict[tuple[bytes, _Address, bytes], _Greeted] = OrderedDict()
        self._known: dict[bytes, _Known] = {}
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="receive-udp", daemon=True)
        self._thread.start()

    def __enter__(self) -> UdpReceiver:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def streams(self) -> list[str]:
        """Names of the streams that are open."""
        return [known.store.name for known in list(self._known.values())]

    def close(self) -> None:
        """Take what has arrived, and complete every file."""
        self._closing.set()
        self._thread.join()
        self._sock.close()

    def _run(self) -> None:
        ticked_ns = 0
        while not self._closing.is_set():
            ticked_ns = self._step(ticked_ns)
        # What is on its way is taken, and what is complete is confirmed.
        deadline_ns = heard_ns = time.monotonic_ns()
        while self._known and ticked_ns < min(deadline_ns + _DRAIN_NS, heard_ns + _QUIET_NS):
            before = self._heard
            ticked_ns = self._step(ticked_ns)
            heard_ns = heard_ns if self._heard == before else time.monotonic_ns()
        for stream in list(self._known):
            self._forget(stream, "the receiver stops")

    def _step(self, ticked_ns: int) -> int:
        """Take a datagram if one comes, and do what is due; return when that was last done."""
        self._sock.settimeout(_TICK_NS / 1e9 if self._known else _IDLE_S)
        try:
            self._handle(*self._sock.recvfrom(wire.MAX_DATAGRAM + 1))
            self._heard += 1
        except OSError:  # nothing came, or an earlier answer found nobody
            pass
        now_ns = time.monotonic_ns()
        if now_ns - ticked_ns < _TICK_NS:
            return ticked_ns
        self._tick(now_ns)
        return now_ns

    def _handle(self, data: bytes, address: _Address) -> None:
        stream = wire.stream_of(data)
        if stream is None:
            self.refused += 1
            return
        now_ns = time.monotonic_ns()
        try:
            if not (
                self._continue(stream, data, address, now_ns)
                or self._welcome(stream, data, address, now_ns)
                or self._challenge(stream, data, address, now_ns)
            ):
                self.refused += 1
        except EdgeCodecError as error:
            _log.warning("%s: %s", address[0], error)
            self._forget(stream, str(error))

    def _continue(self, stream: bytes, data: bytes, address: _Address, now_ns: int) -> bool:
        """Take a datagram of a sender that is known."""
        known = self._known.get(stream)
        if known is None or known.address != address:
            return False
        before = known.peer.completed
        taken = known.peer.receive(data, now_ns)
        self.completed += known.peer.completed - before
        return taken

    def _welcome(self, stream: bytes, data: bytes, address: _Address, now_ns: int) -> bool:
        """Take the first datagram of a sender that has answered the challenge."""
        fitting = (
            key
            for key, greeted in self._greeted.items()
            if key[:2] == (stream, address) and wire.open_datagram(data, greeted.seal) is not None
        )
        key = next(fitting, None)
        if key is None:
            return False
        greeted = self._greeted.pop(key)
        known = self._known.get(stream)
        if known is not None:  # it has another address now, or has greeted again
            known.address, known.peer.seal = address, greeted.seal
        else:
            if len(self._known) >= self._options.max_peers:
                raise ProtocolError(f"refused: {len(self._known)} senders are all that may be")
            store = StreamStore(
                self._folder, greeted.name, stream, self._options.sync, self._listener
            )
            position = store.position
            peer = UdpPeer(
                stream,
                greeted.seal,
                store,
                lambda answer: self._answer(stream, answer),
                self._udp,
                position.segment if position.ended else position.segment - 1,
            )
            self._known[stream] = _Known(peer, store, address)
        return self._continue(stream, data, address, now_ns)

    def _challenge(self, stream: bytes, data: bytes, address: _Address, now_ns: int) -> bool:
        """Answer a greeting with less than it has."""
        found = wire.open_datagram(data, self._greeting)
        if found is None or found.kind != Kind.HELLO:
            return False
        try:
            sender, name = wire.unpack_hello(found.body)
        except ProtocolError as error:  # anybody may name any stream: that one must not suffer
            _log.info("%s: %s", address[0], error)
            return False
        key = stream, address, sender
        # The same greeting gets the same answer: it is repeated while the first is on its way.
        greeted = self._greeted.get(key)
        if greeted is None:
            nonce = os.urandom(wire.NONCE_SIZE)
            seal = wire.session_seal(self._options.access.token, stream, sender, nonce)
            answer = Datagram(Kind.CHALLENGE, stream, body=sender + nonce).pack(self._greeting)
            greeted = self._greeted[key] = _Greeted(seal, name, answer, now_ns)
        if len(self._greeted) > MAX_GREETED:
            self._greeted.popitem(last=False)
        with contextlib.suppress(OSError):
            self._sock.sendto(greeted.challenge, address)
        return True

    def _answer(self, stream: bytes, data: bytes) -> None:
        known = self._known.get(stream)
        if known is not None:
            with contextlib.suppress(OSError):  # lost, as it may be on the way
                self._sock.sendto(data, known.address)

    def _tick(self, now_ns: int) -> None:
        for stream, known in list(self._known.items()):
            before = known.peer.completed
            try:
                known.peer.tick(now_ns)
            except EdgeCodecError as error:
                _log.warning("stream %s: %s", known.store.name, error)
                self._forget(stream, str(error))
            self.completed += known.peer.completed - before
            if now_ns - known.peer.heard_ns > self._options.silence_s * 1e9:
                self._forget(stream, "the sender is gone")
        oldest = next(iter(self._greeted.values()), None)
        if oldest is not None and now_ns - oldest.since_ns > self._options.hello_s * 1e9:
            self._greeted.popitem(last=False)

    def _forget(self, stream: bytes, why: str) -> None:
        known = self._known.pop(stream, None)
        if known is not None:
            known.store.close(why)


def _bind(address: tuple[str, int]) -> socket.socket:
    host, port = address
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise SpecError(
            f"cannot listen at {host or '*'}:{port} over UDP: {error.strerror or error}; choose "
            "another address or port"
        ) from error
    return sock
