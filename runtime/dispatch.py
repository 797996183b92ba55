"""Which frame is coded next: that with the earliest deadline, one at a time of each stream.

Frames of one stream are coded in their order, so that at any moment a worker has a stream to
itself. Among the streams whose oldest frame waits, the one whose deadline comes first goes first;
a stream without deadlines counts as if it had a generous one, so that nobody starves.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from edge_codec.runtime.clock import Clock
from edge_codec.runtime.deadline import Due
from edge_codec.runtime.frame_event import FrameEvent
from edge_codec.runtime.live_coder import Job

Listener = Callable[[FrameEvent], None]

NO_HURRY_NS = 100_000_000  # of frames without a deadline, to be ranked among others

logger = logging.getLogger(__name__)


class Lane(Protocol):
    """A stream as the dispatcher sees it; all but `code` with the lock held."""

    @property
    def ready(self) -> bool:
        """Whether its oldest frame can be coded now."""

    @property
    def deadline_ns(self) -> int:
        """When its oldest frame is due."""

    def dues(self) -> list[Due]:
        """Return what the oldest waiting frames need, the oldest first."""

    def take(self) -> list[Job]:
        """Return the oldest frame, or several of different slices, to be coded by the caller."""

    def code(self, jobs: list[Job], others: list[Due]) -> None:
        """Code them; without the lock."""


class Dispatch:
    """The one lock of a pipeline, and what is under it.

    Parameters
    ----------
    clock : Clock
        The pipeline's.
    workers : int
        How many frames are coded at a time.
    listener : callable or None
        Is told of every frame.
    """

    def __init__(self, clock: Clock, workers: int, listener: Listener | None) -> None:
        self.clock = clock
        self.lock = threading.Lock()
        self.work = threading.Condition(self.lock)
        self._workers = workers
        self._listener = listener
        self._lanes: list[Lane] = []
        self._closed = False

    def add(self, lane: Lane) -> None:
        """Dispatch the frames of another stream."""
        with self.lock:
            self._lanes.append(lane)

    def remove(self, lane: Lane) -> None:
        """Forget a stream; a second call does nothing."""
        with self.lock:
            if lane in self._lanes:
                self._lanes.remove(lane)

    def next(self) -> tuple[Lane, list[Job], list[Due]] | None:
        """Wait for a frame to code.

        Returns
        -------
        (Lane, list of Job, list of Due) or None
            The stream, its oldest frame or frames, and the frames that wait for the same worker;
            None at the end.
        """
        with self.lock:
            while (lane := self._most_urgent()) is None:
                if self._closed:
                    return None
                self.work.wait()
            jobs = lane.take()
            return lane, jobs, self._waiting()

    def close(self) -> None:
        """End the workers, once no frame waits."""
        with self.lock:
            self._closed = True
            self.work.notify_all()

    def report(self, events: Sequence[FrameEvent]) -> None:
        """Tell the listener, who must not be told with the lock held."""
        if self._listener is not None:
            for event in events:
                _tell(self._listener, event)

    def _most_urgent(self) -> Lane | None:
        ready = [lane for lane in self._lanes if lane.ready]
        return min(ready, key=lambda lane: lane.deadline_ns, default=None)

    def _waiting(self) -> list[Due]:
        """Return the frames that wait for this worker; several workers share all of them."""
        if self._workers == 1:
            return [due for lane in self._lanes for due in lane.dues()]
        dues = sorted((due for lane in self._lanes for due in lane.dues()), key=_by_deadline)
        return dues[self._workers - 1 :: self._workers]


def _tell(listener: Listener, event: FrameEvent) -> None:
    try:
        listener(event)
    except Exception:  # what is wrong with a listener must not end a stream
        logger.exception("a listener failed on a frame: %s", event)


def _by_deadline(due: Due) -> int:
    return due.deadline_ns
