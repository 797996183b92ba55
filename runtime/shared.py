"""The parts of a frame on several threads, the calling one among them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

from edge_codec.engine import Mapper
from edge_codec.errors import SpecError
from edge_codec.runtime.pick import default_threads


def share(threads: int) -> Mapper:
    """Return a `map` that does the first item itself, and the others on threads that it keeps.

    Handing an item over and waiting for it takes some tenth of a millisecond; the calling thread
    would do nothing else meanwhile. There must be an item. The threads end with the interpreter.

    Parameters
    ----------
    threads : int
        How many work at a time, the calling one included; with 1 it is the builtin `map`.
    """
    if threads <= 1:
        return map
    pool = ThreadPoolExecutor(threads - 1, "edge-codec")

    def shared(function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        first, *others = items
        rest = [pool.submit(function, item) for item in others]
        try:
            return [function(first), *(future.result() for future in rest)]
        finally:
            wait(rest)  # no item may still be at work when an error goes up

    return shared


def band_mapper(threads: int | None = None) -> Mapper:
    """Return how to go over the bands of a frame: on several threads where there are any."""
    count = default_threads() if threads is None else threads
    if count < 1:
        raise SpecError(f"threads is {count}; use 1 or more")
    return share(count)
