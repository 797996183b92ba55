"""How busy the machine was with something else while a codec was timed.

Linux counts the time of all processors in `/proc/stat` (man 5 proc_stat); this process' own is
taken off. Time that a hypervisor took from a virtual machine counts as somebody else's work.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

STATISTICS = Path("/proc/stat")
# user nice system idle iowait irq softirq steal
IDLE_FIELDS = (3, 4)
FIELDS = 8


class OtherWork:
    """Counts from when it is made.

    Parameters
    ----------
    statistics : Path
        Linux' account of processor time.
    """

    def __init__(self, statistics: Path = STATISTICS) -> None:
        self._statistics = statistics
        self._start = self._now()

    def processors(self) -> float | None:
        """Return how many processors were busy with other work, on average; None if unknown."""
        end = self._now()
        if self._start is None or end is None:
            return None
        wall, busy, own = (after - before for before, after in zip(self._start, end, strict=True))
        return None if wall <= 0 else round(max(0.0, (busy - own) / wall), 3)

    def _now(self) -> tuple[float, float, float] | None:
        """Seconds by the clock, of all processors, and of this process."""
        try:
            words = self._statistics.read_text().split("\n", 1)[0].split()
        except OSError:
            return None
        if words[:1] != ["cpu"] or len(words) <= FIELDS:
            return None
        ticks = [int(word) for word in words[1 : 1 + FIELDS]]
        busy = sum(ticks) - sum(ticks[field] for field in IDLE_FIELDS)
        return time.monotonic(), busy / os.sysconf("SC_CLK_TCK"), time.process_time()
