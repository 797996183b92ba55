"""Buffers for frames that wait: made once, page-aligned, locked in memory, used again and again.

A page that was never touched costs a page fault when the first frame is copied into it, and one
that was swapped out a disk access: both in the middle of a frame that has some milliseconds. So
buffers are touched as they are made, and locked where the system allows it (`ulimit -l`). Most are
made with the first one: a queue fills for the first time when the machine has no time to spare.
"""

from __future__ import annotations

import ctypes
import logging
import mmap
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.errors import StreamError

logger = logging.getLogger(__name__)

AT_ONCE_BYTES = 1 << 24  # of buffers that are made before they are needed


class FrameBuffer:
    """One buffer, which holds frames of any shape up to its size.

    Parameters
    ----------
    size : int
        Bytes, more than 0; rounded up to whole pages.
    """

    def __init__(self, size: int) -> None:
        self.size = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        self._bytes = np.frombuffer(mmap.mmap(-1, self.size), np.uint8)
        self._bytes[:] = 0  # pages are there from now on
        self.locked = _lock(self._bytes)
        self._view: NDArray[Any] = self._bytes

    def view(self, shape: tuple[int, int], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return the buffer's beginning as an array; the same array for the same arguments."""
        if self._view.shape != shape or self._view.dtype != dtype:
            size = shape[0] * shape[1] * dtype.itemsize
            self._view = self._bytes[:size].view(dtype).reshape(shape)
        return self._view


def _lock(memory: NDArray[np.uint8]) -> bool:
    """Lock memory against swapping; say whether the system allowed it. Unmapping unlocks."""
    try:
        mlock = ctypes.CDLL(None).mlock
    except (AttributeError, OSError, TypeError):  # no such function on this system
        return False
    return bool(mlock(ctypes.c_void_p(memory.ctypes.data), ctypes.c_size_t(memory.nbytes)) == 0)


class FramePool:
    """Lends buffers, at most `limit` at a time.

    Parameters
    ----------
    limit : int
        How many buffers there are at most.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._free: list[FrameBuffer] = []
        self._lent = 0
        self._size = 0
        self._told = False
        self.made = 0

    def take(self, size: int) -> FrameBuffer:
        """Lend a buffer of at least `size` bytes.

        Raises
        ------
        StreamError
            If all are lent: whoever takes one must have made sure of it.
        """
        with self._lock:
            if self._lent == self._limit:
                raise StreamError(f"all {self._limit} frame buffers are in use")
            self._lent += 1
            grown = size > self._size
            if grown:
                self._size = size
                self._free.clear()  # too small from now on
            if self._free:
                return self._free.pop()
            size = self._size
            spare = min(self._limit - self._lent, AT_ONCE_BYTES // size) if grown else 0
        try:
            buffers = [self._make(size) for _ in range(1 + spare)]
        except BaseException:  # no memory: it is not lent
            with self._lock:
                self._lent -= 1
            raise
        buffer = buffers.pop()
        with self._lock:
            self.made += 1 + spare
            self._free.extend(other for other in buffers if other.size >= self._size)
        return buffer

    def _make(self, size: int) -> FrameBuffer:
        buffer = FrameBuffer(size)
        if not buffer.locked and not self._told:
            self._told = True
            logger.info(
                "frame buffers are not locked in memory; `ulimit -l` bounds how much may be"
            )
        return buffer

    def give_back(self, buffer: FrameBuffer) -> None:
        """Take a buffer back; one that is too small by now is freed."""
        with self._lock:
            self._lent -= 1
            if buffer.size >= self._size:
                self._free.append(buffer)

    def clear(self) -> None:
        """Free what is not lent."""
        with self._lock:
            self._free.clear()
            self._size = 0

    @property
    def lent(self) -> int:
        """How many buffers are lent."""
        return self._lent
