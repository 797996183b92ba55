"""The clocks of the streaming runtime, in one place, so that tests can set them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    """Where the runtime reads the time.

    Attributes
    ----------
    monotonic_ns : callable
        Nanoseconds that never jump: of every deadline and duration.
    unix_ns : callable
        Nanoseconds since 1970 by the wall clock, which somebody may set: of what packets tell.
    """

    monotonic_ns: Callable[[], int] = time.monotonic_ns
    unix_ns: Callable[[], int] = time.time_ns


class JumpWatch:
    """Finds out when the wall clock was set.

    Parameters
    ----------
    clock : Clock
        The clocks to compare.
    """

    # Clocks that a time server slows down or speeds up differ by 0.05 % at most: it takes minutes
    # between two frames for that to look like a jump.
    LIMIT_NS = 100_000_000

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset_ns: int | None = None

    def read(self, instant_ns: int) -> tuple[int, bool]:
        """Tell what the wall clock shows at an instant of the monotonic one.

        Returns
        -------
        (int, bool)
            Its time, and whether it was set since the last call.
        """
        offset_ns = self._clock.unix_ns() - self._clock.monotonic_ns()
        before, self._offset_ns = self._offset_ns, offset_ns
        jumped = before is not None and abs(offset_ns - before) > self.LIMIT_NS
        return offset_ns + instant_ns, jumped
