"""What the codec asks of those who run it: inference, and a way to share work among threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from numpy.typing import NDArray

# Applies a function to each item, in order: `map`, or an executor's.
Mapper = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]

# Told of each step of a frame ("normalize", "infer", "code") as it ends.
Mark = Callable[[str], None]


def no_mark(step: str) -> None:
    """Measure nothing."""
    del step


class Engine(Protocol):
    """One loaded network with one input and one output.

    Implementations are in `edge_codec.runtime`. An integer network gives the same integers on
    every one of them.
    """

    @property
    def name(self) -> str:
        """Backend, precision and threads, for reports."""

    def run(self, tensor: NDArray[Any]) -> NDArray[Any]:
        """Return the network's output for `tensor`.

        Raises
        ------
        EngineError
            If the backend refuses the input or fails.
        """


class NamedEngine(Protocol):
    """One loaded float network with several named inputs and one output.

    Implementations are in `edge_codec.runtime.float_network`. Results differ between them, and
    between machines, in the last bits.
    """

    @property
    def name(self) -> str:
        """Backend, precision and threads, for reports."""

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """Return the network's output, in memory of its own.

        Raises
        ------
        EngineError
            If the backend refuses the inputs or fails.
        """


class FrameEncoder(Protocol):
    """Codes the base layer of one slice's frames as a whole, on a device."""

    def encode(self, samples: NDArray[Any], key: bool) -> tuple[bytes, NDArray[Any]]:
        """Return what `edge_codec.base.layer.BaseCoder.encode` returns.

        Raises
        ------
        EngineError
            If the device fails.
        """
