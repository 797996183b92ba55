"""What Linux tells: when this process began, its memory, and what a hypervisor took from us."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

PROC = Path("/proc/self")
MACHINE = Path("/proc/stat")
STOLEN = 8  # column of "steal" in the line of all cores


def started_ns(proc: Path = PROC) -> int | None:
    """Return when this process began, as `time.monotonic_ns` would have; None where unknown.

    Known to 10 ms, the tick of Linux' account.
    """
    try:
        text = (proc / "stat").read_text()
        ticks = int(text.rpartition(")")[2].split()[19])
        since_boot_ns = ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK")
        age_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - since_boot_ns
    except (OSError, ValueError, IndexError, AttributeError):
        return None
    return time.monotonic_ns() - age_ns


def resident_bytes(proc: Path = PROC) -> int | None:
    """Return how much memory this process has now; None where unknown."""
    try:
        return int((proc / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


def stolen_s(account: Path = MACHINE) -> float | None:
    """Return for how long cores of this virtual machine had work and were not run; None: unknown.

    Seconds since it was booted, all cores together, known to 10 ms. A machine of its own has 0.
    """
    try:
        with account.open() as file:
            return int(file.readline().split()[STOLEN]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return None


def peak_bytes() -> int | None:
    """Return the most memory that this process has had; None where unknown."""
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
