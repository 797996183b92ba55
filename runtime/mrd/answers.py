"""Answers in the order of the questions, from a thread of their own.

Each message of the peer takes a slot when it is read; the slot is filled when its answer is known,
and sent when all before it are. A slot also stands for the memory that its message takes: while too
much of it waits, the peer is not read from.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence

from edge_codec.errors import EdgeCodecError, ProtocolError
from edge_codec.runtime.mrd.limits import Limits
from edge_codec.runtime.mrd.protocol import AnyMessage
from edge_codec.runtime.mrd.wire import Wire

_log = logging.getLogger(__name__)


class Slot:
    """The place of one answer.

    Parameters
    ----------
    size : int
        Bytes of the message that it answers.
    """

    __slots__ = ("messages", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.messages: Sequence[AnyMessage] | None = None


class Answers:
    """Sends answers to one peer, and does the work that making them takes.

    Parameters
    ----------
    wire : Wire
        The connection.
    limits : Limits
        How much may wait.
    """

    def __init__(self, wire: Wire, limits: Limits) -> None:
        self._wire = wire
        self._limits = limits
        self._changed = threading.Condition()
        self._slots: deque[Slot] = deque()
        self._work: deque[Callable[[], None]] = deque()
        self._bytes = 0
        self._closing = False
        self._error: EdgeCodecError | None = None
        self._thread: threading.Thread | None = None

    @property
    def error(self) -> EdgeCodecError | None:
        """Why no more answers are sent, if that is so."""
        return self._error

    def reserve(self, size: int) -> Slot:
        """Take the next slot, as soon as there is room; for the thread that reads.

        Raises
        ------
        EdgeCodecError
            If answers cannot be sent any more.
        """
        slot = Slot(size)
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="mrd-answers", daemon=True)
                self._thread.start()
            self._changed.wait_for(self._has_room)
            if self._error is not None:
                raise self._error
            self._slots.append(slot)
            self._bytes += size
        return slot

    def fill(self, slot: Slot, messages: Sequence[AnyMessage]) -> None:
        """Say what a slot's answer is: any number of messages."""
        with self._changed:
            slot.messages = messages
            self._changed.notify_all()

    def later(self, work: Callable[[], None]) -> None:
        """Have something done in the answering thread, in order."""
        with self._changed:
            if self._error is None:
                self._work.append(work)
                self._changed.notify_all()

    def close(self) -> None:
        """Send what is filled, and end; slots that nobody filled are left out."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _has_room(self) -> bool:
        few = len(self._slots) < self._limits.max_in_flight_items
        return (few and self._bytes < self._limits.max_in_flight_bytes) or self._error is not None

    def _head_is_ready(self) -> bool:
        return bool(self._slots) and self._slots[0].messages is not None

    def _run(self) -> None:
        try:
            while (task := self._next()) is not None:
                task()
        except EdgeCodecError as error:
            self._fail(error)
        except Exception as error:
            # A defect must not leave the reading thread waiting for ever; the session reports it.
            _log.exception("defect while answering; please report it")
            self._fail(ProtocolError(f"defect: {error!r}; please report it"))

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._work or self._closing or self._head_is_ready())
            if self._head_is_ready():
                slot = self._slots.popleft()
                return lambda: self._send(slot)
            if self._work:
                return self._work.popleft()
            if self._slots:  # closing: nobody will fill it
                slot = self._slots.popleft()
                return lambda: self._release(slot)
            return None

    def _send(self, slot: Slot) -> None:
        for message in slot.messages or ():
            self._wire.send(message)
        self._release(slot)

    def _release(self, slot: Slot) -> None:
        with self._changed:
            self._bytes -= slot.size
            self._changed.notify_all()

    def _fail(self, error: EdgeCodecError) -> None:
        with self._changed:
            self._error = error
            self._slots.clear()
            self._work.clear()
            self._changed.notify_all()
        self._wire.stop_reading()
