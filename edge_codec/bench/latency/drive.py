"""Pushes frames: in an open loop as a scanner does, or in a closed loop one after the other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from edge_codec.bench.latency.clock import Clock
from edge_codec.bench.latency.log import FrameLog
from edge_codec.errors import FrameError, StreamError

PATIENCE_S = 60.0


class Pushable(Protocol):
    """What is asked of a live stream."""

    def push(
        self,
        frame: NDArray[Any],
        slice_index: int = 0,
        metadata: bytes = b"",
        *,
        acquired_ns: int | None = None,
        timeout_s: float | None = None,
    ) -> None:
        """Take one frame."""


@dataclass(frozen=True, slots=True, eq=False)
class LoopFrame:
    """One frame of the exam that is pushed again and again."""

    slice_index: int
    phase_index: int
    samples: NDArray[Any]


@dataclass(frozen=True, slots=True)
class Schedule:
    """Instants at which frames are due: `start_ns + place * 1e9 / rate`, fixed beforehand.

    Attributes
    ----------
    start_ns : int
        Instant of the first frame.
    rate : float
        Frames per second.
    """

    start_ns: int
    rate: float

    def due_ns(self, place: int) -> int:
        """Return when a frame is due; rounded from the start, so that errors never add up."""
        return self.start_ns + round(place * 1e9 / self.rate)


class Driver:
    """Pushes the frames of one stream, on one thread.

    Parameters
    ----------
    stream : Pushable
        Where to.
    frames : sequence of LoopFrame
        The exam, begun again at its end.
    log : FrameLog
        Told of every frame before it is pushed.
    clock : Clock
        Time.
    stop : threading.Event
        When set, no more frames are pushed.
    """

    def __init__(
        self,
        stream: Pushable,
        frames: Sequence[LoopFrame],
        log: FrameLog,
        clock: Clock,
        stop: threading.Event,
    ) -> None:
        self._stream = stream
        self._frames = frames
        self._log = log
        self._clock = clock
        self._stop = stop

    def open_loop(self, numbers: range, schedule: Schedule) -> None:
        """Push every frame when it is due, or as soon after as the stream takes it.

        A frame's latency counts from when it was due, however late it could be pushed.

        Parameters
        ----------
        numbers : range
            Which frames.
        schedule : Schedule
            When they are due, the first of them at its start.

        Raises
        ------
        EdgeCodecError
            If the stream fails.
        """
        for place, number in enumerate(numbers):
            due_ns = schedule.due_ns(place)
            self._clock.sleep_until(due_ns)
            if self._stop.is_set():
                return
            self._push(number, due_ns)

    def closed_loop(self, numbers: range, wait: Callable[[float], bool]) -> None:
        """Push every frame when the one before is done.

        Parameters
        ----------
        numbers : range
            Which frames.
        wait : callable
            Waits for so many seconds until one more frame is done; False where time is out.

        Raises
        ------
        EdgeCodecError
            If the stream fails, or gives no sign of life.
        """
        for number in numbers:
            if self._stop.is_set():
                return
            self._push(number, self._clock.now_ns())
            if not wait(PATIENCE_S):
                raise StreamError(
                    f"frame {number} was neither sent nor refused within {PATIENCE_S:.0f} s"
                )

    def _push(self, number: int, due_ns: int) -> None:
        frame = self._frames[number % len(self._frames)]
        self._log.push(due_ns, self._clock.now_ns())
        with suppress(FrameError):  # refused, and recorded as that: the stream lives on
            self._stream.push(
                frame.samples, frame.slice_index, acquired_ns=int(self._log.due_ns[number])
            )
