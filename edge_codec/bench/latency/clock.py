"""Time, and waiting for an instant of it; a test brings its own."""

from __future__ import annotations

import ctypes
import sys
import time
from typing import Protocol

PR_SET_TIMERSLACK = 29  # linux/prctl.h


class Clock(Protocol):
    """Monotonic time of one thread."""

    def now_ns(self) -> int:
        """Return the time in nanoseconds."""

    def sleep_until(self, instant_ns: int) -> None:
        """Return when the instant has come, at once where it is past."""


class MonotonicClock:
    """The machine's monotonic clock, which pipelines go by.

    It never spins: a spinning thread would hold the interpreter's lock, and a processor, that the
    pipeline needs. What a thread wakes up too late is part of the latency, and reported.
    """

    def now_ns(self) -> int:
        """Return the time in nanoseconds."""
        return time.monotonic_ns()

    def sleep_until(self, instant_ns: int) -> None:
        """Return when the instant has come, at once where it is past."""
        while (left := instant_ns - time.monotonic_ns()) > 0:
            time.sleep(left / 1e9)


def sharpen_timers() -> bool:
    """Ask Linux to wake the calling thread, and those it starts, on time: to 1 ns, not to 50 us.

    Returns
    -------
    bool
        Whether it does.
    """
    if sys.platform != "linux":
        return False
    return bool(ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0) == 0)
