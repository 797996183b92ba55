"""Scheduling that live service deserves, where the system allows it: `--realtime`."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

PRIORITY = 20
SWITCH_INTERVAL_S = 0.0005
MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT = 1, 2, 4  # sys/mman.h


def describe_scheduling() -> dict[str, Any]:
    """Return the calling thread's scheduling policy and priority, and how Python is set."""
    found: dict[str, Any] = {
        "gc": gc.isenabled(),
        "gc_frozen": gc.get_freeze_count(),
        "switch_interval_ms": 1e3 * sys.getswitchinterval(),
    }
    if hasattr(os, "sched_getscheduler"):
        names = {os.SCHED_OTHER: "other", os.SCHED_FIFO: "fifo", os.SCHED_RR: "rr"}
        policy = os.sched_getscheduler(0)
        found["policy"] = names.get(policy, str(policy))
        found["priority"] = os.sched_getparam(0).sched_priority
        found["processors"] = len(os.sched_getaffinity(0))
    return found


@contextmanager
def realtime(wanted: bool) -> Iterator[list[str]]:
    """Run a block with `SCHED_FIFO`, memory locked, and threads that take turns sooner.

    Threads that are started in the block inherit the policy. Afterwards all is as it was, but for
    the threads that still run, and locked memory, which stays locked.

    Parameters
    ----------
    wanted : bool
        False: do nothing.

    Yields
    ------
    list of str
        What the system did not allow, and how it would.
    """
    if not wanted:
        yield []
        return
    refused = []
    before = _enter_fifo()
    if before is None:
        refused.append(
            "SCHED_FIFO is not allowed; run as root, with CAP_SYS_NICE, or with LimitRTPRIO=20"
        )
    if not _lock_memory():
        refused.append("mlockall is not allowed; run as root, or with LimitMEMLOCK=infinity")
    interval = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        yield refused
    finally:
        sys.setswitchinterval(interval)
        if before is not None:
            os.sched_setscheduler(0, *before)


def raise_priority() -> None:
    """Put the calling thread before others of its priority, where it has `SCHED_FIFO`.

    Who pushes frames only copies them, as a driver does: it may interrupt those who code.
    """
    if not hasattr(os, "sched_getscheduler") or os.sched_getscheduler(0) != os.SCHED_FIFO:
        return
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY + 1))


@contextmanager
def no_collections(wanted: bool) -> Iterator[None]:
    """Run a block without garbage collections: what is there is collected and frozen before.

    Python frees what nobody refers to at once, collections or not; they find cycles, and stop the
    thread that happens to allocate for as long as it takes to go over all objects there are.
    """
    if not wanted:
        yield
        return
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def _enter_fifo() -> tuple[int, Any] | None:
    """Give the calling thread `SCHED_FIFO`; return what it had, None where that is not allowed."""
    if not hasattr(os, "sched_setscheduler"):
        return None
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    except OSError:
        return None
    return before


def _lock_memory() -> bool:
    if sys.platform != "linux":
        return False
    # Pages are locked when they are first touched: the stacks of threads that are reserved, not
    # used, stay out of memory.
    return bool(ctypes.CDLL(None).mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) == 0)
