"""Energy since a beginning: from counters where a machine has them, else from its power."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from edge_codec.runtime.telemetry.sensors import Sensors

BOARD = "board"


class EnergyMeter:
    """Joules since the meter was made.

    Parameters
    ----------
    sensors : Sensors
        The machine's. Where it has no counters but tells the power of the whole board (a Jetson),
        power is summed up from one `look` to the next.
    now_ns : callable
        A monotonic clock.
    """

    def __init__(self, sensors: Sensors, now_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._sensors = sensors
        self._now_ns = now_ns
        self._first = sensors.energy_j()
        self._last = dict(self._first)
        self._power_w = None if self._first else sensors.total_power_w()
        self._measured = self._power_w is not None
        self._looked_ns = now_ns()
        self._joules = 0.0
        self._lock = threading.Lock()

    def look(self) -> dict[str, float]:
        """Read again, and return the joules so far by name; empty where nothing tells.

        To be called about every second, on any thread.
        """
        with self._lock:
            return self._look()

    def _look(self) -> dict[str, float]:
        if self._first:
            self._last.update(self._sensors.energy_j())
            return {name: self._last[name] - value for name, value in self._first.items()}
        if not self._measured:
            return {}
        now_ns, power_w = self._now_ns(), self._sensors.total_power_w()
        if power_w is not None and self._power_w is not None:
            self._joules += (power_w + self._power_w) / 2 * (now_ns - self._looked_ns) / 1e9
        self._power_w, self._looked_ns = power_w, now_ns
        return {BOARD: self._joules}
