"""The sending side of a live stream: a thread that hands its packets to its sinks, in order.

A sink that hangs, on a disk or a connection, hangs this thread. While there are packets to send
that is waited for: it is what back-pressure is. Once the stream is to end without them, nobody
waits for longer than `GIVE_UP_S`: the thread is left behind with that sink, and the others are told
on another one.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from edge_codec.errors import SinkError
from edge_codec.runtime.clock import Clock
from edge_codec.runtime.frame_event import FrameEvent
from edge_codec.runtime.live_coder import Coded
from edge_codec.runtime.packet_sink import PacketSink, Segment

WAKE_S = 0.5
GIVE_UP_S = 10.0  # looked at every WAKE_S; twice what the slowest sink of ours takes to abort

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
        Is told what a sink raised, or that it hangs, and on which frames, without the lock.
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
        self._unsettled: FrameEvent | None = None  # of the packet in work
        self._finishing = False
        self._aborting = False
        self._patient_until_s = math.inf
        self._at: PacketSink | None = None  # which sink is at work
        self._to_abort = deque(self._sinks)
        self._given_up = False
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
        self._sending, self._unsettled = False, None

    def finish(self) -> None:
        """Complete the segment once everything is sent, and end; the lock is held."""
        self._finishing = True
        self._changed.notify_all()

    def abort(self) -> list[FrameEvent]:
        """End at once; return the frames that are not sent now. The lock is held."""
        events = [coded.event for coded in self._queue]
        self._queue.clear()
        if not self._aborting:
            self._aborting = True
            self._patient_until_s = time.monotonic() + GIVE_UP_S
        self._changed.notify_all()
        return events

    def join(self) -> None:
        """Wait for the thread's end; without the lock.

        After `abort` that is waited for `GIVE_UP_S`. A sink that is at work for longer is given up:
        `on_failed` is told, and the other sinks abort.
        """
        others: list[PacketSink] = []
        lost: list[FrameEvent] = []
        with self._changed:
            wait_patiently(self._changed, lambda: self._ended or self._hangs())
            stuck = None if self._ended else self._at
            if stuck is not None:
                self._given_up, lost = True, self._take_unsettled()
                others = [sink for sink in self._to_abort if sink is not stuck]
                # Its own thread tells it, should it ever come back.
                self._to_abort = deque(sink for sink in self._to_abort if sink is stuck)
        if stuck is not None:
            try:
                self._go_on_without(stuck, others, lost)
            finally:
                self._end()
        elif not self._given_up:
            self._thread.join()

    # In the thread of who joins.

    def _hangs(self) -> bool:
        late = time.monotonic() >= self._patient_until_s
        return late and self._at is not None and not self._given_up

    def _go_on_without(
        self, stuck: PacketSink, others: Sequence[PacketSink], lost: Sequence[FrameEvent]
    ) -> None:
        """Fail because of a sink that hangs; what is whole in the others is kept."""
        error = SinkError(
            f"sink {type(stuck).__name__} of stream '{self._name}' did not come back within "
            f"{GIVE_UP_S:g} s and is given up; what it has may lack its end. Look at its disk or "
            "its connection"
        )
        logger.error("%s", error)
        self._on_failed(error, lost)
        helper = threading.Thread(  # they may hang as well
            target=self._abort_all,
            args=(others,),
            name=f"edge-codec-abort-{self._name}",
            daemon=True,
        )
        helper.start()
        helper.join(GIVE_UP_S)
        if helper.is_alive():
            logger.error("other sinks of stream '%s' hang as well", self._name)

    # In either thread.

    def _end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _abort_all(self, sinks: Sequence[PacketSink]) -> None:
        for sink in sinks:
            self._abort(sink)

    def _abort(self, sink: PacketSink) -> None:
        try:
            sink.abort()
        except Exception:  # against the protocol; but the others must be told, and `join` end
            logger.exception("a sink of stream '%s' failed to abort", self._name)

    def _take_unsettled(self) -> list[FrameEvent]:
        """Return the frame in work for whoever counts it; the lock is held."""
        event, self._unsettled = self._unsettled, None
        return [] if event is None else [event]

    # In the sender's own thread.

    def _run(self) -> None:
        try:
            while (coded := self._next()) is not None:
                self._send(coded)
            if not self._aborting:
                self._end_segment()
        except BaseException as error:  # a sink is not ours: whatever it raises fails its stream
            self._fail(error)
        if self._aborting:
            while (sink := self._next_to_abort()) is not None:
                self._abort(sink)
        self._end()

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._at, lost = None, self._take_unsettled()
        self._on_failed(error, lost)

    def _next_to_abort(self) -> PacketSink | None:
        with self._changed:
            self._at = self._to_abort.popleft() if self._to_abort else None
            return self._at

    def _next(self) -> Coded | None:
        with self._changed:
            while not self._queue and not self._aborting and not self._finishing:
                self._changed.wait()
            if self._aborting or not self._queue:
                return None
            coded = self._queue.popleft()
            self._sending, self._unsettled = True, coded.event
            return coded

    def _each_sink(self) -> Iterator[PacketSink]:
        """Give each sink its turn; none any more once this thread was given up."""
        for sink in self._sinks:
            with self._changed:
                if self._given_up:
                    return
                self._at = sink
            yield sink
        with self._changed:
            if not self._given_up:
                self._at = None

    def _send(self, coded: Coded) -> None:
        steps_ns = coded.event.steps_ns
        begun_ns = self._clock.monotonic_ns()
        steps_ns["hand_over"] = begun_ns - coded.ready_ns
        if self._segment is None or self._segment.number != coded.segment.number:
            self._end_segment()
            self._segment, self.begun = coded.segment, True
            for sink in self._each_sink():
                sink.begin(coded.segment)
        for sink in self._each_sink():
            sink.send(coded.packet, coded.data)
        if self._given_up:  # its frame was counted as failed
            return
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
        for sink in self._each_sink():
            if promised and self._next_sequence != promised:
                sink.abort()
            else:
                sink.end()
        self._segment = None
