"""One connection: bytes in and out, with a bound on every wait.

A session reads in one thread and answers in another. A TLS connection must not be read and written
at the same instant, so the socket never blocks: each attempt to read or write is short and under a
lock, and waiting happens outside of it.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from edge_codec.errors import ProtocolError
from edge_codec.io.mrd_image import Buffer
from edge_codec.runtime.mrd.limits import Limits
from edge_codec.runtime.mrd.protocol import ID, AnyMessage

_LINGER_STEP = 1 << 16
_Result = TypeVar("_Result")


class Wire:
    """A connected socket as a source and a target of messages.

    Parameters
    ----------
    sock : socket.socket
        Connected, in clear or TLS; closed by `close`.
    limits : Limits
        Times to wait.
    """

    def __init__(self, sock: socket.socket, limits: Limits) -> None:
        self._sock = sock
        self._limits = limits
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._deadline_s = time.monotonic() + limits.first_message_s
        self._waits_for = "a config message"
        self._stopped = False
        self._end_s = float("inf")  # of all waiting, once this side has stopped
        sock.setblocking(False)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def stopped(self) -> bool:
        """Whether this side has stopped reading."""
        return self._stopped

    def handshake(self) -> None:
        """Complete the TLS handshake, if this is TLS, within the time for the first message.

        Raises
        ------
        ProtocolError
            If it fails or takes too long.
        """
        if isinstance(self._sock, ssl.SSLSocket):
            self._waits_for = "a TLS handshake"
            self._try(self._sock.do_handshake, self._deadline_s, select.POLLIN)
            self._waits_for = "a config message"

    def begin(self, first: bool) -> bytes:
        """Wait for the id of the next message; empty where the peer hung up before it."""
        if time.monotonic() >= self._end_s:  # a peer that sends on must not keep this side here
            return b""
        if not first:
            self._deadline_s = time.monotonic() + self._limits.idle_s
            self._waits_for = "the next message"
        prefix = self._receive(1)
        if not prefix:
            return b""
        if not first:
            self._deadline_s = time.monotonic() + self._limits.message_s
            self._waits_for = "the rest of a message"
        return prefix + self.read(ID.size - 1)

    def read(self, size: int) -> bytes:
        """Return exactly so many bytes."""
        return bytes(self.read_voxels(size))

    def read_voxels(self, size: int) -> Buffer:
        """Return exactly so many bytes, without a copy."""
        # Pages of an empty array are taken as bytes are written to them, not before.
        view, done = np.empty(size, np.uint8).data, 0
        while done < size:
            count = self._receive_into(view[done:])
            if not count:
                why = "this server is stopping" if self._stopped else "the peer hung up"
                raise ProtocolError(f"a message is cut off, {size - done} bytes early: {why}")
            done += count
        return view

    def send(self, message: AnyMessage) -> None:
        """Send a message whole.

        Raises
        ------
        ProtocolError
            If the peer does not take it in time, or is gone.
        """
        with self._sending:
            deadline_s = time.monotonic() + self._limits.send_s
            for part in message.parts():
                view = memoryview(part)
                while view:
                    view = view[self._send_some(view, deadline_s) :]

    def stop_reading(self) -> None:
        """Let the reading thread find the end of the peer's data; what has come is still read.

        From now on, reading and writing end within the time that one answer may take.
        """
        self._end_s = min(self._end_s, time.monotonic() + self._limits.send_s)
        self._stopped = True
        with contextlib.suppress(OSError):  # it may be gone already
            # Of a TLS socket only the connection below it, not the session.
            socket.socket.shutdown(self._sock, socket.SHUT_RD)

    def interrupt(self) -> None:
        """Break the connection from another thread."""
        self._end_s = time.monotonic()
        self._stopped = True
        with contextlib.suppress(OSError):  # it may be gone already
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)

    def finish(self) -> None:
        """Say that nothing more comes, and wait a little for the peer to hang up.

        Without that wait, bytes of the peer that nobody read would make the network throw away
        what was sent last: the very text that says what was wrong.
        """
        deadline_s = time.monotonic() + self._limits.linger_s
        with contextlib.suppress(OSError, ValueError):
            if isinstance(self._sock, ssl.SSLSocket):
                with self._lock, contextlib.suppress(ssl.SSLError):
                    self._sock.unwrap()  # says goodbye; the peer's is not waited for
            socket.socket.shutdown(self._sock, socket.SHUT_WR)
            while time.monotonic() < deadline_s:
                self._wait(select.POLLIN, deadline_s)
                if not socket.socket.recv(self._sock, _LINGER_STEP):
                    return

    def close(self) -> None:
        """Close the connection at once."""
        with contextlib.suppress(OSError):
            self._sock.close()

    def _receive(self, size: int) -> bytes:
        return self._try(lambda: self._sock.recv(size), self._deadline_s, select.POLLIN)

    def _receive_into(self, view: memoryview) -> int:
        return self._try(lambda: self._sock.recv_into(view), self._deadline_s, select.POLLIN)

    def _send_some(self, view: memoryview, deadline_s: float) -> int:
        try:
            return self._try(lambda: self._sock.send(view), deadline_s, select.POLLOUT)
        except _TimeIsUpError:
            raise ProtocolError(
                f"the peer did not take an answer within {self._limits.send_s:g} s; it must read "
                "while it sends"
            ) from None

    def _try(self, attempt: Callable[[], _Result], deadline_s: float, event: int) -> _Result:
        """Repeat an attempt that does not block until it succeeds or time is up."""
        while True:
            wanted = event
            try:
                with self._lock:
                    return attempt()
            except (BlockingIOError, InterruptedError):
                pass
            except ssl.SSLWantReadError:
                wanted = select.POLLIN
            except ssl.SSLWantWriteError:
                wanted = select.POLLOUT
            except OSError as error:
                raise ProtocolError(f"the connection is broken: {error}") from error
            if not self._wait(wanted, deadline_s):
                raise _TimeIsUpError(f"time is up, while waiting for {self._waits_for}")

    def _wait(self, event: int, deadline_s: float) -> bool:
        poll = select.poll()
        try:
            poll.register(self._sock, event)
        except ValueError as error:  # closed by another thread
            raise ProtocolError("the connection was closed") from error
        left_s = min(deadline_s, self._end_s) - time.monotonic()
        return left_s > 0 and bool(poll.poll(1000 * left_s))


class _TimeIsUpError(ProtocolError):
    """The peer was too slow."""
