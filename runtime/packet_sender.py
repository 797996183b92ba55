"""The sending side of a live stream: a thread that hands its packets to its sinks, in order."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence

from edge_codec.runtime.clock import Clock
from edge_codec.runtime.frame_event import FrameEvent
from edge_codec.runtime.live_coder import Coded
from edge_codec.runtime.packet_sink import PacketSink, Segment

WAKE_S = 0.5

logger = logging.getLogger(__name__)


def wait_patiently(condition: threading.Condition, predicate: Callable[[], bool]) -> None:
    """Wait as long as it takes, but let Ctrl-C through.

    A signal that arrives right before a thread falls asleep is seen when it wakes up: now and then
    it does.
    """
    while not condition.wait_for(predicate, WAKE_S):
        pass


class PacketSender:
    """Sends the packets of one live stream.

    Parameters
    ----------
    name : str
        The stream's.
    sinks : sequence of PacketSink
        Where each packet goes, one after the other.
    lock : threading.Lock
        The pipeline's.
    clock : Clock
        The pipeline's.
    on_sent : callable
        Is told when all sinks have taken a packet, without the lock; calls `settle`.
    on_failed : callable
        Is told what a sink raised, and on which frames, without the lock.
    """

    def __init__(
        self,
        name: str,
        sinks: Sequence[PacketSink],
        lock: threading.Lock,
        clock: Clock,
        on_sent: Callable[[FrameEvent, int], None],
        on_failed: Callable[[BaseException, Sequence[FrameEvent]], None],
    ) -> None:
        self._name = name
        self._sinks = tuple(sinks)
        self._clock = clock
        self._on_sent = on_sent
        self._on_failed = on_failed
        self._changed = threading.Condition(lock)
        self._queue: deque[Coded] = deque()
        self._sending = False
        self._finishing = False
        self._aborting = False
        self._ended = False
        self._segment: Segment | None = None
        self._next_sequence = 0
        self.begun = False  # whether the sinks were told of any segment
        self._thread = threading.Thread(
            target=self._run, name=f"edge-codec-send-{name}", daemon=True
        )
        self._thread.start()

    @property
    def pending(self) -> int:
        """Packets that no or not every sink has yet; the lock is held."""
        return len(self._queue) + self._sending

    def put(self, coded: Coded) -> None:
        """Send a packet after those before; the lock is held."""
        self._queue.append(coded)
        self._changed.notify_all()

    def settle(self) -> None:
        """Count the packet in work as one that every sink has; the lock is held."""
        self._sending = False

    def finish(self) -> None:
        """Complete the segment once everything is sent, and end; the lock is held."""
        self._finishing = True
        self._changed.notify_all()

    def abort(self) -> list[FrameEvent]:
        """End at once; return the frames that are not sent now. The lock is held."""
        events = [coded.event for coded in self._queue]
        self._queue.clear()
        self._aborting = True
        self._changed.notify_all()
        return events

    def join(self) -> None:
        """Wait for the thread's end; without the lock."""
        with self._changed:
            wait_patiently(self._changed, lambda: self._ended)
        self._thread.join()

    def _run(self) -> None:
        coded = None
        try:
            while (coded := self._next()) is not None:
                self._send(coded)
            if not self._aborting:
                self._end_segment()
        except BaseException as error:  # a sink is not ours: whatever it raises fails its stream
            self._on_failed(error, [] if coded is None else [coded.event])
        if self._aborting:
            for sink in self._sinks:
                self._abort(sink)
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _abort(self, sink: PacketSink) -> None:
        try:
            sink.abort()
        except Exception:  # against the protocol; but the others must be told, and `join` end
            logger.exception("a sink of stream '%s' failed to abort", self._name)

    def _next(self) -> Coded | None:
        with self._changed:
            while not self._queue and not self._aborting and not self._finishing:
                self._changed.wait()
            if self._aborting or not self._queue:
                return None
            self._sending = True
            return self._queue.popleft()

    def _send(self, coded: Coded) -> None:
        steps_ns = coded.event.steps_ns
        begun_ns = self._clock.monotonic_ns()
        steps_ns["hand_over"] = begun_ns - coded.ready_ns
        if self._segment is None or self._segment.number != coded.segment.number:
            self._end_segment()
            self._segment, self.begun = coded.segment, True
            for sink in self._sinks:
                sink.begin(coded.segment)
        for sink in self._sinks:
            sink.send(coded.packet, coded.data)
        self._next_sequence = coded.packet.sequence + 1
        finished_ns = self._clock.monotonic_ns()
        steps_ns["send"] = finished_ns - begun_ns
        coded.event.finished_ns = finished_ns
        self._on_sent(coded.event, finished_ns - coded.coded_ns)

    def _end_segment(self) -> None:
        """Complete the segment; leave it as a cut one if frames that it promises are missing."""
        if self._segment is None:
            return
        info = self._segment.spec.info
        promised = info.n_slices * info.n_phases
        for sink in self._sinks:
            if promised and self._next_sequence != promised:
                sink.abort()
            else:
                sink.end()
        self._segment = None
