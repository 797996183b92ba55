"""Looks at the run from outside, a few times a second: progress, memory, stolen time."""

from __future__ import annotations

import sys
import time
from array import array
from collections.abc import Callable, Sequence
from threading import Thread
from typing import Any

from edge_codec.bench.latency.log import FrameLog
from edge_codec.bench.latency.process import peak_bytes, resident_bytes, stolen_s
from edge_codec.bench.latency.realtime import raise_priority
from edge_codec.runtime.telemetry.energy import EnergyMeter

LOOK_S = 0.2
SETTLED_FRAMES = 1000
MIB = 1 << 20

Progress = Callable[[int], None]


class Watch:
    """Waits for the drivers of all streams, and notes the memory on the way.

    Parameters
    ----------
    logs : sequence of FrameLog
        Of all streams.
    progress : callable
        Told how many frames more are done.
    """

    def __init__(self, logs: Sequence[FrameLog], progress: Progress) -> None:
        self._logs = logs
        self._progress = progress
        self._warmup = sum(log.warmup for log in logs)
        self._told = 0
        self._settled: int | None = None
        self._settled_blocks = 0
        self._settled_at = 0
        self.memory_mib = array("d")  # one for each second
        self.stolen_s = array("d")  # since the frames that count began, at the end of each second
        self._stolen_before: float | None = None
        self._began_s = time.monotonic()
        self._energy: EnergyMeter | None = None

    def join(self, threads: Sequence[Thread]) -> None:
        """Return when all threads have ended."""
        for thread in threads:
            while thread.is_alive():
                thread.join(LOOK_S)
                self.look()

    def begin(self, energy: EnergyMeter) -> None:
        """Note that the frames that count begin."""
        self._energy = energy
        self._began_s = time.monotonic()
        self.memory_mib = array("d")
        self.stolen_s = array("d")
        self._stolen_before = stolen_s()

    def look(self) -> None:
        """Tell the progress; note the memory once enough frames are through."""
        done = sum(log.n_done for log in self._logs)
        self._progress(done - self._told)
        self._told = done
        if time.monotonic() - self._began_s >= len(self.memory_mib):
            self.memory_mib.append((resident_bytes() or 0) / MIB)
            self._note_stolen()
            if self._energy is not None:
                self._energy.look()
        if self._settled is None and done - self._warmup >= SETTLED_FRAMES:
            self._settle(done - self._warmup)

    def end(self) -> None:
        """Note that all frames are through."""
        self._note_stolen()

    def _note_stolen(self) -> None:
        now = stolen_s()
        if now is not None and self._stolen_before is not None:
            self.stolen_s.append(now - self._stolen_before)

    def _settle(self, frames: int) -> None:
        self._settled = resident_bytes()
        self._settled_blocks = sys.getallocatedblocks()
        self._settled_at = frames

    def memory(self) -> dict[str, Any]:
        """Return the memory at the end, and what it grew by since the first thousand frames."""
        now, blocks = resident_bytes(), sys.getallocatedblocks()
        peak = peak_bytes()
        found: dict[str, Any] = {
            "peak_mib": None if peak is None else peak / MIB,
            "end_mib": None if now is None else now / MIB,
        }
        if self._settled and now:
            found |= {
                "settled_mib": self._settled / MIB,
                "settled_after_frames": self._settled_at,
                "growth_percent": 100 * (now - self._settled) / self._settled,
                "python_blocks_growth": blocks - self._settled_blocks,
            }
        return found


class Task(Thread):
    """A thread that pushes frames, and keeps the error that ended it.

    Parameters
    ----------
    name : str
        Of the thread.
    work : callable
        What to do.
    stop : callable
        Called where it fails, to stop the others.
    """

    def __init__(self, name: str, work: Callable[[], None], stop: Callable[[], None]) -> None:
        super().__init__(name=name, daemon=True)
        self._work = work
        self._stop_others = stop
        self.error: Exception | None = None

    def run(self) -> None:
        """Do the work."""
        raise_priority()
        try:
            self._work()
        except Exception as error:  # whatever it is: frames that are not pushed must not go unsaid
            self.error = error
            self._stop_others()
