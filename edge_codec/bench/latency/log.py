"""What became of every frame, in memory that is there before the first of them.

A record of the pipeline names the instant a frame was due; that instant says which frame it was.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from edge_codec.runtime.frame_event import FrameEvent, FrameOutcome
from edge_codec.runtime.telemetry.histogram import Histogram

STEPS = ("wait", "normalize", "infer", "code", "pack", "hand_over", "send")


class Outcome(IntEnum):
    """`FrameOutcome` as a number; 0 where nothing was heard of the frame."""

    NONE = 0
    SENT = 1
    DROPPED = 2
    REFUSED = 3
    FAILED = 4


_NUMBERS = {outcome: Outcome[outcome.name] for outcome in FrameOutcome}


class FrameLog:
    """All frames of one stream.

    Parameters
    ----------
    n_frames : int
        How many will be pushed.
    warmup : int
        How many of them, the first ones, do not count.

    Attributes
    ----------
    due_ns, pushed_ns, finished_ns : ndarray, shape (n_frames,), int64
        Instants: due (or pushed, in a closed loop), `push` begun, taken by the last sink.
    outcome, fast : ndarray, shape (n_frames,), uint8
        `Outcome`; whether parts of the frame fell back to effort fast.
    segment, slices, phases, packet_bytes : ndarray, shape (n_frames,), int32
        Where the frame's packet is, and its size; phase -1 where there is none.
    steps : dict of str to Histogram
        Durations of the steps of frames that count.
    fast_bands, bands : int
        Parts of the residual layers that fell back to effort fast, and all; of frames that count.
    """

    def __init__(self, n_frames: int, warmup: int = 0) -> None:
        # Filled, not only reserved: memory that grows during the run would look like a leak.
        self.due_ns, self.pushed_ns, self.finished_ns = (
            np.full(n_frames, -1, np.int64) for _ in range(3)
        )
        self.outcome, self.fast = (np.full(n_frames, 0, np.uint8) for _ in range(2))
        self.segment, self.slices, self.phases, self.packet_bytes = (
            np.full(n_frames, -1, np.int32) for _ in range(4)
        )
        self.warmup = warmup
        self.steps = {step: Histogram() for step in STEPS}
        self.fast_bands = 0
        self.bands = 0
        self.n_pushed = 0
        self.n_done = 0
        self.details: list[str] = []

    def push(self, due_ns: int, now_ns: int) -> None:
        """Note that the next frame is about to be pushed."""
        number = self.n_pushed
        if number and due_ns <= self.due_ns[number - 1]:
            due_ns = int(self.due_ns[number - 1]) + 1  # an instant names one frame
        self.due_ns[number] = due_ns
        self.pushed_ns[number] = now_ns
        self.n_pushed = number + 1

    def record(self, event: FrameEvent) -> int:
        """Note what became of a frame.

        Returns
        -------
        int
            Its number; -1 where no frame was due then.
        """
        number = self._find(event.acquired_ns)
        if number < 0:
            return -1
        self.finished_ns[number] = event.finished_ns
        self.outcome[number] = _NUMBERS[event.outcome]
        self.fast[number] = event.fast_bands > 0
        self.segment[number] = event.segment
        self.slices[number] = event.slice_index
        self.phases[number] = event.phase_index
        self.packet_bytes[number] = event.packet_bytes
        self.n_done += 1
        if event.detail and len(self.details) < 10:
            self.details.append(event.detail)
        if number >= self.warmup and event.outcome is FrameOutcome.SENT:
            self._record_steps(event)
        return number

    def _find(self, due_ns: int) -> int:
        number = self.n_done  # which it is, unless frames were dropped
        if number >= self.n_pushed or self.due_ns[number] != due_ns:
            number = int(np.searchsorted(self.due_ns[: self.n_pushed], due_ns))
            if number == self.n_pushed or self.due_ns[number] != due_ns:
                return -1
        return number

    def _record_steps(self, event: FrameEvent) -> None:
        self.fast_bands += event.fast_bands
        self.bands += event.bands
        for step, duration in event.steps_ns.items():
            histogram = self.steps.get(step)
            if histogram is None:
                histogram = self.steps[step] = Histogram()
            histogram.record(duration)

    @property
    def counted(self) -> slice:
        """The frames that count."""
        return slice(self.warmup, self.n_pushed)

    def sent(self) -> NDArray[np.bool_]:
        """Return which of all frames were sent, warm-up left out."""
        found: NDArray[np.bool_] = self.outcome == Outcome.SENT
        found[: self.warmup] = False
        return found

    def latency_ns(self) -> NDArray[np.int64]:
        """Return the latencies of the frames that count and were sent, in order."""
        sent = self.sent()
        return self.finished_ns[sent] - self.due_ns[sent]


class LogBook:
    """The logs of all streams: the listener of their pipeline."""

    def __init__(self, logs: Mapping[str, FrameLog]) -> None:
        self.logs = dict(logs)
        self._locks = {name: threading.Lock() for name in logs}
        self._done = {name: threading.Semaphore(0) for name in logs}
        self.first_sent_ns = 0
        self.strays = 0

    def record(self, event: FrameEvent) -> None:
        """Take the record of one frame, on any thread."""
        with self._locks[event.stream]:
            number = self.logs[event.stream].record(event)
        if number < 0:
            self.strays += 1
        if not self.first_sent_ns and event.outcome is FrameOutcome.SENT:
            self.first_sent_ns = event.finished_ns
        self._done[event.stream].release()

    def wait(self, stream: str, timeout_s: float) -> bool:
        """Wait until one more frame of a stream is done; False where time is out."""
        return self._done[stream].acquire(timeout=timeout_s)
