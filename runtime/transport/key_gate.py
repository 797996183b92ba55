"""How often a key frame may be requested: one costs bits, and one answers many requests."""

from __future__ import annotations

import time
from collections.abc import Callable

KEY_PAUSE_NS = 50_000_000  # a frame at 20 frames/s: the key frame is on its way by then


class KeyGate:
    """Lets through one request of a slice within a time.

    Parameters
    ----------
    pause_ns : int
        Shortest time between two requests of a slice.
    clock : callable
        Nanoseconds, as `time.monotonic_ns`.
    """

    def __init__(
        self, pause_ns: int = KEY_PAUSE_NS, clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._pause_ns = pause_ns
        self._clock = clock
        self._last_ns: dict[int | None, int] = {}

    def opens(self, slice_index: int | None) -> bool:
        """Whether a request of this slice (None: of every slice) is to be passed on now."""
        now_ns = self._clock()
        last_ns = max(
            self._last_ns.get(slice_index, now_ns - self._pause_ns),
            self._last_ns.get(None, now_ns - self._pause_ns),
        )
        if now_ns - last_ns < self._pause_ns:
            return False
        self._last_ns[slice_index] = now_ns
        return True

    def reset(self, slice_index: int) -> None:
        """Let the next request of a slice through: the frame it asked for has come."""
        self._last_ns.pop(slice_index, None)
