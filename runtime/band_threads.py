"""The parts of a frame on several threads that live as long as a pipeline.

As `edge_codec.runtime.shared.share`, but its threads can be ended, and it hands over with less
ceremony: a frame of 6 ms is divided in two at most some hundred times a second for weeks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from typing import Any


class _Task:
    """One item at work on another thread."""

    __slots__ = ("_done", "_error", "_function", "_item", "_result")

    def __init__(self, function: Callable[[Any], Any], item: Any) -> None:
        self._function = function
        self._item = item
        self._result: Any = None
        self._error: BaseException | None = None
        self._done = threading.Lock()
        self._done.acquire()

    def run(self) -> None:
        """Do it, and keep what comes of it for the thread that waits."""
        try:
            self._result = self._function(self._item)
        except BaseException as error:  # whatever it is, it goes up in the thread that waits
            self._error = error
        self._done.release()

    def join(self) -> None:
        """Wait for it."""
        self._done.acquire()

    def result(self) -> Any:
        """Return or raise what came of it."""
        if self._error is not None:
            raise self._error
        return self._result


class BandThreads:
    """A `map` that does the first item itself and the others on threads of its own.

    Parameters
    ----------
    threads : int
        How many work at a time, the calling one included.
    """

    def __init__(self, threads: int) -> None:
        self._tasks: SimpleQueue[_Task | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"edge-codec-band-{i}", daemon=True)
            for i in range(1, threads)
        ]
        for thread in self._threads:
            thread.start()

    def __call__(self, function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        """Return the function's result for each item; there must be one."""
        if not self._threads:
            return [function(item) for item in items]
        first, *others = items
        tasks = [_Task(function, item) for item in others]
        for task in tasks:
            self._tasks.put(task)
        try:
            own = function(first)
        finally:
            for task in tasks:  # no item may still be at work when an error goes up
                task.join()
        return [own, *(task.result() for task in tasks)]

    def close(self) -> None:
        """End the threads."""
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()
        self._threads = []

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            task.run()
