"""Messages over one TCP connection, in clear or TLS, from one thread that never waits unbounded.

A message is one byte of kind, four bytes of size, and so many bytes of body. What arrives is kept
only up to the size that the protocol allows at that point; what is to go out waits here until the
peer takes it. One thread does both, as a TLS connection is not to be read and written at once.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import struct
import time
from collections import deque
from collections.abc import Iterator, Sequence

from edge_codec.errors import ProtocolError

HEAD = struct.Struct("<BI")
_STEP = 1 << 18  # read at once; memory follows what came, not what was promised


class Channel:
    """Frames messages on a connected socket.

    Parameters
    ----------
    sock : socket.socket
        Connected; the channel owns it from now on.
    limit : int
        Largest body of a message to accept; may be changed later.
    message_s : float
        Longest time that one message may take from its first byte to its last.

    Attributes
    ----------
    limit : int
        As given.
    heard_s : float
        `time.monotonic` when the last bytes came.
    received, sent : int
        Bytes so far.
    """

    def __init__(self, sock: socket.socket, limit: int, message_s: float) -> None:
        self._sock = sock
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.limit = limit
        self._message_s = message_s
        self._in = bytearray()
        self._out: deque[memoryview] = deque()
        self._waiting = 0
        self._wants_write = False
        self.heard_s = self._began_s = time.monotonic()
        self.received = self.sent = 0

    @property
    def waiting(self) -> int:
        """Bytes that the peer has not taken yet."""
        return self._waiting

    @property
    def _holds_message(self) -> bool:
        """Whether a whole message has come that was not taken out yet."""
        whole = len(self._in) >= HEAD.size
        return whole and len(self._in) >= HEAD.size + HEAD.unpack_from(self._in)[1]

    def close(self) -> None:
        """Close the connection; what waits is thrown away."""
        self._sock.close()

    def interrupt(self) -> None:
        """Break the connection from another thread: the channel's own finds it ended."""
        with contextlib.suppress(OSError):  # it may be broken already
            # Of a TLS socket only the connection below it: the session is the other thread's.
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)

    def handshake(self, timeout_s: float) -> None:
        """Complete the TLS handshake, if this is TLS.

        Raises
        ------
        OSError
            If it fails, as `ssl.SSLError`, or takes longer, as `TimeoutError`.
        """
        if not isinstance(self._sock, ssl.SSLSocket):
            return
        deadline_s = time.monotonic() + timeout_s
        while True:
            reads, writes = [], []
            try:
                self._sock.do_handshake()
                return
            except ssl.SSLWantReadError:
                reads = [self._sock]
            except ssl.SSLWantWriteError:
                writes = [self._sock]
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 or not wait_ready(reads, writes, left_s):
                raise TimeoutError(f"the TLS handshake took more than {timeout_s:g} s")

    def queue(self, kind: int, *body: bytes) -> None:
        """Add a message to what is to be sent."""
        size = sum(map(len, body))
        self._out.append(memoryview(b"".join((HEAD.pack(kind, size), *body))))
        self._waiting += HEAD.size + size

    def pump(self, timeout_s: float, wake: socket.socket | None = None) -> None:
        """Send and receive what is possible now; wait for that at most `timeout_s`.

        Parameters
        ----------
        timeout_s : float
            0 not to wait.
        wake : socket.socket, optional
            Bytes that come here end the wait, and are thrown away.

        Raises
        ------
        OSError
            If the connection is broken or the peer has closed it.
        ProtocolError
            If a message is larger than allowed, or too slow.
        """
        self._write()
        room = len(self._in) < HEAD.size + self.limit
        buffered = isinstance(self._sock, ssl.SSLSocket) and self._sock.pending() > 0
        reads = ([self._sock] if room else []) + ([wake] if wake else [])
        writes = [self._sock] if self._out or self._wants_write else []
        idle = not (room and buffered) and not self._holds_message
        wait_s = max(timeout_s, 0) if idle else 0
        ready = wait_ready(reads, writes, wait_s)
        if wake is not None and wake in ready:
            wake.recv(1 << 16)
        if self._sock in ready:  # trying in vain costs little
            self._write()
        if room and (buffered or self._sock in ready):
            self._read()
        self._check_pace()

    def messages(self) -> Iterator[tuple[int, bytes]]:
        """Take out the messages that have come whole: kind and body.

        Raises
        ------
        ProtocolError
            If one is larger than allowed.
        """
        taken = False
        while len(self._in) >= HEAD.size:
            kind, size = HEAD.unpack_from(self._in)
            if size > self.limit:
                raise ProtocolError(
                    f"message of kind {kind} says it has {size} bytes; {self.limit} are allowed"
                )
            end = HEAD.size + size
            if len(self._in) < end:
                break
            body = bytes(memoryview(self._in)[HEAD.size : end])
            del self._in[:end]
            taken = True
            yield kind, body
        if taken:  # the time that it took to work on them is not the peer's
            self._began_s = time.monotonic()

    def farewell(self, timeout_s: float) -> None:
        """Send what waits and end the connection, so that the peer gets to read it.

        What it still sends is thrown away: closing with that unread would tear the connection and
        take our last words with it.
        """
        deadline_s = time.monotonic() + timeout_s
        said = False
        with contextlib.suppress(OSError):  # the peer may be gone already
            while (left_s := deadline_s - time.monotonic()) > 0:
                self._write()
                if not said and not self._out:
                    socket.socket.shutdown(self._sock, socket.SHUT_WR)
                    said = True
                self._in.clear()
                if wait_ready([self._sock], [self._sock] if self._out else [], left_s):
                    self._read()

    def _write(self) -> None:
        while self._out:
            try:
                sent = self._sock.send(self._out[0])
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            self.sent += sent
            self._waiting -= sent
            rest = self._out.popleft()[sent:]
            if rest:
                self._out.appendleft(rest)

    def _read(self) -> None:
        self._wants_write = False
        try:
            data = self._sock.recv(_STEP)
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        except ssl.SSLWantWriteError:
            self._wants_write = True
            return
        if not data:
            raise ConnectionResetError("the peer has closed the connection")
        self.heard_s = time.monotonic()
        if not self._in:
            self._began_s = self.heard_s
        self.received += len(data)
        self._in += data

    def _check_pace(self) -> None:
        if self._in and time.monotonic() - self._began_s > self._message_s:
            raise ProtocolError(
                f"a message is not whole after {self._message_s:g} s; the peer is too slow"
            )


def wait_ready(
    reads: Sequence[socket.socket], writes: Sequence[socket.socket], timeout_s: float
) -> set[socket.socket]:
    """Wait until one of some sockets can be read or written, or has failed; return those."""
    with selectors.DefaultSelector() as selector:
        for sock in {*reads, *writes}:
            events = (sock in reads) * selectors.EVENT_READ | (
                sock in writes
            ) * selectors.EVENT_WRITE
            selector.register(sock, events)
        return {key.fileobj for key, _ in selector.select(timeout_s)}  # type: ignore[misc]
