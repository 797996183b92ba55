"""Counts what became of a stream's frames, so that each is counted once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from edge_codec.runtime.clock import Clock
from edge_codec.runtime.frame_event import FrameEvent, FrameOutcome


class FrameTally:
    """The counts of one live stream; whoever calls holds the stream's lock.

    Parameters
    ----------
    clock : Clock
        Says when a frame ended.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._pushed = 0
        self._ended: Counter[FrameOutcome] = Counter()

    @property
    def counts(self) -> Mapping[str, int]:
        """Frames pushed, sent, dropped, refused and failed so far."""
        each = {outcome.value: self._ended[outcome] for outcome in FrameOutcome}
        return {"pushed": self._pushed, **each}

    def push(self) -> None:
        """Count a frame that was pushed."""
        self._pushed += 1

    def send(self) -> None:
        """Count a frame that was sent; its event says so already."""
        self._ended[FrameOutcome.SENT] += 1

    def settle(self, event: FrameEvent, outcome: FrameOutcome, detail: str) -> FrameEvent:
        """Count a frame that ends otherwise, and return its event, which says why."""
        self._ended[outcome] += 1
        event.outcome, event.detail = outcome, detail
        event.finished_ns = self._clock.monotonic_ns()
        return event
