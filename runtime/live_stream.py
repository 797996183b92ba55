"""One live stream: where its frames are pushed, wait, are counted, and fail.

Every frame that `push` took is sent, or dropped by the policy, or failed with its stream, and is
counted as that: `pushed = sent + dropped + refused + failed` once nothing is in flight.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from numpy.typing import NDArray

from edge_codec.bitstream.live import Policy
from edge_codec.errors import FrameError, StreamError
from edge_codec.runtime.clock import JumpWatch
from edge_codec.runtime.cut_segment import ResumeFrom
from edge_codec.runtime.deadline import Due
from edge_codec.runtime.dispatch import NO_HURRY_NS, Dispatch
from edge_codec.runtime.frame_event import FrameEvent, FrameOutcome
from edge_codec.runtime.frame_queue import FrameQueue
from edge_codec.runtime.frame_tally import FrameTally
from edge_codec.runtime.live_coder import Coded, Job, LiveCoder
from edge_codec.runtime.live_frame import FrameChecker, check_metadata
from edge_codec.runtime.live_options import LiveOptions
from edge_codec.runtime.packet_sender import PacketSender, wait_patiently
from edge_codec.runtime.packet_sink import PacketSink
from edge_codec.spec import StreamSpec

HORIZON = 16  # waiting frames that a coder leaves time for: a long queue is late anyway


class LiveStream:
    """A stream of a pipeline; `Pipeline.open` makes it.

    Frames may be pushed from several threads; those of one slice should come from one, which then
    gives their order.

    Parameters
    ----------
    name : str
        Its name.
    options : LiveOptions
        What was chosen for it.
    spec : StreamSpec or None
        Its fixed description, if it has one.
    coder : LiveCoder
        Codes its frames.
    sinks : sequence of PacketSink
        Where its packets go.
    dispatch : Dispatch
        The pipeline's.
    together : int
        How many frames of different slices are coded together where so many wait.
    resume : ResumeFrom, optional
        What holds a segment that was cut off until frames come.
    """

    def __init__(
        self,
        name: str,
        options: LiveOptions,
        spec: StreamSpec | None,
        coder: LiveCoder,
        sinks: Sequence[PacketSink],
        dispatch: Dispatch,
        together: int = 1,
        resume: ResumeFrom | None = None,
    ) -> None:
        self.name = name
        self._options = options
        self._coder = coder
        self._resume = resume
        self._dispatch = dispatch
        self._checker = FrameChecker(options, spec)
        self._watch = JumpWatch(dispatch.clock)
        # All below is under the lock.
        self._changed = threading.Condition(dispatch.lock)
        self._queue = FrameQueue(options.queue_frames, together)
        self._working = 0
        self._tally = FrameTally(dispatch.clock)
        self._closing = self._closed = self._cancelled = False
        self._cause: BaseException | None = None
        self._told = False
        self._sender = PacketSender(
            name, sinks, dispatch.lock, dispatch.clock, self._on_sent, self._fail
        )

    def push(
        self,
        frame: NDArray[Any],
        slice_index: int = 0,
        metadata: bytes = b"",
        *,
        acquired_ns: int | None = None,
        timeout_s: float | None = None,
    ) -> None:
        """Take the next frame of a slice; returns when it is copied.

        Parameters
        ----------
        frame : ndarray, shape (rows, columns)
            Voxels; see `check_frame`. The caller may use it again at once.
        slice_index : int
            Slice the frame belongs to.
        metadata : bytes
            The packed source header of this frame, at most `MAX_LAYER_SIZE`.
        acquired_ns : int, optional
            Instant of `time.monotonic_ns` at which the frame was acquired, if not now: its
            deadline counts from there.
        timeout_s : float, optional
            How long to wait at most where the queue is full; without it, as long as it takes.

        Raises
        ------
        FrameError
            If the frame or its metadata cannot be coded. It is counted as refused, and the stream
            lives on.
        MemoryError, OSError
            If there is no memory for its copy. It is counted as failed, and the stream lives on.
        StreamError
            If the stream has failed or is closed, or no room came in time. The frame was not
            taken.
        """
        now_ns = self._dispatch.clock.monotonic_ns()
        event = FrameEvent(
            self.name,
            slice_index=slice_index,
            acquired_ns=now_ns if acquired_ns is None else acquired_ns,
            deadline_ns=self._options.budget_ns,
        )
        try:
            phase_index = self._coder.resumed_at(slice_index) + self._queue.pushed(slice_index)
            checked = self._checker.check(frame, slice_index, phase_index)
            check_metadata(metadata)
        except FrameError as error:
            self._refuse(event, error)
            raise
        event.voxels = checked.samples.size
        event.frame_bytes = event.voxels * checked.dtype.itemsize
        self._reserve(timeout_s)
        try:
            copied, buffer = self._queue.copy(checked)
        except BaseException as error:  # no memory, Ctrl-C: nobody may wait for this frame
            self._lose(event, error)
            raise
        at_wall_clock = self._watch.read(event.acquired_ns)
        self._enqueue(Job(copied, buffer, event, metadata, *at_wall_clock))

    def request_key(self, slice_index: int | None = None) -> None:
        """Make the next frame of a slice, or of every slice, a key frame."""
        with self._dispatch.lock:
            every = range(self._options.n_slices)
            self._queue.ask_keys(every if slice_index is None else (slice_index,))

    def flush(self, timeout_s: float | None = None) -> None:
        """Wait until every frame that was pushed is sent, and the listener told of it.

        Raises
        ------
        StreamError
            If the stream failed, or the time is out.
        """
        with self._changed:
            done = self._changed.wait_for(
                lambda: not self._in_flight or self._cause is not None, timeout_s
            )
            error = self._failure()
            if error is not None:
                raise error
            if not done:
                raise StreamError(
                    f"stream '{self.name}': {self._in_flight} frames are not sent after "
                    f"{timeout_s} s"
                )

    def close(self, *, drain: bool = True) -> None:
        """End the stream; a second call does nothing.

        Parameters
        ----------
        drain : bool
            Send what was pushed and complete the sinks, however long they take; otherwise frames
            that wait are dropped, and the sinks are left as at a cut. One that hangs is then given
            up after `packet_sender.GIVE_UP_S`: the stream fails with an error that names it.

        Raises
        ------
        StreamError
            If `drain` is set, the stream has failed, and nobody was told yet.
        """
        error = self.end(drain=drain)
        if error is not None:
            raise error

    def stop(self, *, drain: bool) -> None:
        """Begin to end as `close` does, without waiting."""
        events: list[FrameEvent] = []
        with self._changed:
            self._closing = True
            if not drain and self._cause is None:
                self._cancelled = True
                events = self._give_up(FrameOutcome.DROPPED, "the stream was closed undrained")
            self._look_for_the_end()
        self._dispatch.report(events)

    def end(self, *, drain: bool) -> StreamError | None:
        """End the stream as `close` does, but return what that raises."""
        self.stop(drain=drain)
        self._sender.join()
        with self._changed:
            wait_patiently(self._changed, lambda: not self._working and not self._queue.copying)
        self._dispatch.remove(self)
        self._queue.pool.clear()
        if self._resume is not None and not self._sender.begun:
            self._resume.abort()
        self._closed = True
        return self._failure() if drain and not self._told else None

    @property
    def closed(self) -> bool:
        """Whether nothing can be pushed any more, and all its threads have ended."""
        return self._closed

    @property
    def counts(self) -> Mapping[str, int]:
        """Frames pushed, sent, dropped, refused and failed so far."""
        with self._dispatch.lock:
            return self._tally.counts

    @property
    def depth(self) -> int:
        """Frames that wait to be coded."""
        return len(self._queue)

    # In the thread of who pushes.

    def _refuse(self, event: FrameEvent, error: FrameError) -> None:
        with self._dispatch.lock:
            self._tally.push()
            self._tally.settle(event, FrameOutcome.REFUSED, str(error))
        self._dispatch.report([event])

    def _reserve(self, timeout_s: float | None) -> None:
        """Wait for room in the queue, or make some, as the policy says."""
        dropped = []
        with self._changed:
            if not self._changed.wait_for(self._can_go_on, timeout_s):
                raise StreamError(
                    f"stream '{self.name}': its {self._options.queue_frames} waiting frames were "
                    f"not coded within {timeout_s} s; push more slowly, or use effort fast"
                )
            self._check_open()
            if self._queue.full:
                event = self._queue.drop_oldest()
                dropped = [self._tally.settle(event, FrameOutcome.DROPPED, "the queue was full")]
            self._queue.reserve()
            self._tally.push()
        self._dispatch.report(dropped)

    def _can_go_on(self) -> bool:
        drops = self._options.policy is Policy.DROP_OLDEST and len(self._queue) > 0
        return drops or not self._queue.full or self._closing or self._cause is not None

    def _lose(self, event: FrameEvent, error: BaseException) -> None:
        """Count a frame that room was kept for as failed; the stream lives on."""
        with self._changed:
            self._queue.give_up_room()
            self._tally.settle(event, FrameOutcome.FAILED, f"it was not copied: {error!r}")
            self._look_for_the_end()
        self._dispatch.report([event])

    def _enqueue(self, job: Job) -> None:
        lost = []
        with self._changed:
            if self._ended_early:
                self._queue.discard(job)
                lost = [self._settle_late(job.event)]
            else:
                self._queue.put(job)
                self._dispatch.work.notify()
            self._changed.notify_all()  # the end waits for this, and who may drop the frame
        self._dispatch.report(lost)

    # In a worker, or with its lock held.

    @property
    def ready(self) -> bool:
        """See `Lane`."""
        room = self._sender.pending < self._options.queue_frames
        return len(self._queue) > 0 and not self._working and room

    @property
    def deadline_ns(self) -> int:
        """See `Lane`."""
        acquired_ns = next(iter(self._queue)).event.acquired_ns
        return acquired_ns + (self._options.budget_ns or NO_HURRY_NS)

    def dues(self) -> list[Due]:
        """See `Lane`."""
        dues = (self._coder.deadline.due(job.event.acquired_ns) for job in self._queue)
        return [due for due in islice(dues, HORIZON) if due is not None]

    def take(self) -> list[Job]:
        """See `Lane`."""
        jobs = self._queue.take()
        self._working = len(jobs)
        self._changed.notify_all()
        return jobs

    def code(self, jobs: list[Job], others: list[Due]) -> None:
        """Code frames that were taken, and pass them on; what goes wrong fails the stream."""
        coded: list[Coded] = []
        cause = None
        try:
            coded = self._coder.code(jobs, others)
        except Exception as error:  # a defect in a coder must not end the other streams
            cause = error
        for job in jobs:
            self._queue.pool.give_back(job.buffer)
        if cause is not None:
            self._fail(cause, [job.event for job in jobs], coder=True)
            return
        with self._changed:
            self._working = 0
            lost = [self._settle_late(each.event) for each in coded] if self._ended_early else []
            for each in coded[len(lost) :]:
                self._sender.put(each)
            self._look_for_the_end()
        self._dispatch.report(lost)

    @property
    def _ended_early(self) -> bool:
        return self._cancelled or self._cause is not None

    def _settle_late(self, event: FrameEvent) -> FrameEvent:
        outcome = FrameOutcome.DROPPED if self._cancelled else FrameOutcome.FAILED
        return self._tally.settle(event, outcome, "the stream ended meanwhile")

    # In the sender.

    def _on_sent(self, event: FrameEvent, after_ns: int) -> None:
        self._coder.deadline.learn_sending(after_ns)
        self._dispatch.report([event])  # before a `flush` that waits for it returns
        with self._changed:
            self._sender.settle()
            self._tally.send()
            self._look_for_the_end()
            if len(self._queue):  # it may have waited for room in the sender
                self._dispatch.work.notify()

    # Ends; the lock is held in those that are not `_fail`.

    def _fail(self, error: BaseException, lost: Sequence[FrameEvent], coder: bool = False) -> None:
        """End the stream because of an error, and this stream only."""
        with self._changed:
            if coder:
                self._working = 0
            detail = f"the stream failed: {error}"
            if self._cause is None:
                self._cause = error
            events = self._give_up(FrameOutcome.FAILED, detail)
            events += [self._tally.settle(event, FrameOutcome.FAILED, detail) for event in lost]
            self._changed.notify_all()
        self._dispatch.report(events)

    def _give_up(self, outcome: FrameOutcome, detail: str) -> list[FrameEvent]:
        events = self._queue.clear() + self._sender.abort()
        return [self._tally.settle(event, outcome, detail) for event in events]

    @property
    def _in_flight(self) -> int:
        return len(self._queue) + self._queue.copying + self._working + self._sender.pending

    def _look_for_the_end(self) -> None:
        """Finish if everything is sent, and wake up who waits for that or for less."""
        if self._closing and not self._in_flight:
            self._sender.finish()
        self._changed.notify_all()

    def _check_open(self) -> None:
        error = self._failure()
        if error is not None:
            raise error
        if self._closing:
            raise StreamError(f"stream '{self.name}' is closed; open a new one")

    def _failure(self) -> StreamError | None:
        """Return what to tell of the stream's failure, if it failed."""
        if self._cause is None:
            return None
        self._told = True
        error = StreamError(f"stream '{self.name}' failed: {self._cause}")
        error.__cause__ = self._cause
        return error
