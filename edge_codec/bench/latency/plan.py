"""What `edge-codec bench latency` is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge_codec.bitstream.live import Policy
from edge_codec.errors import SpecError
from edge_codec.spec import Effort, ModelId

MAX_FRAMES = 10_000_000
MAX_STREAMS = 64
MAX_RATE = 100_000.0
SINKS = ("file", "memory", "null")


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run.

    Attributes
    ----------
    source : Path
        The exam.
    model, max_error, effort, backend, threads, policy, budget_ms
        As of `edge_codec.runtime.live_options.LiveOptions`.
    rate : float
        Frames per second of each stream; 0: closed loop.
    frames : int
        How many frames of each stream count.
    warmup : int
        How many are pushed before them, at the same rate.
    streams : int
        How many streams run at once; their frames are due evenly spread over the interval.
    workers : int
        Threads of the pipeline that code frames.
    deadline_ms : float
        Later than this is a miss.
    sink : str
        Where packets go: one of `SINKS`.
    verify_all : bool
        Decode and compare every packet afterwards, not only a sample.
    decode : bool
        Measure decoding, too.
    realtime : bool
        Ask for the scheduling that live service deserves (`edge_codec.bench.latency.realtime`).
    """

    source: Path
    model: ModelId = ModelId.NONE
    max_error: int | None = 0
    effort: Effort = Effort.DEFAULT
    backend: str = "auto"
    threads: int | None = None
    policy: Policy = Policy.ADAPTIVE
    budget_ms: float = 10.0
    rate: float = 30.0
    frames: int = 900
    warmup: int = 60
    streams: int = 1
    workers: int = 1
    deadline_ms: float = 16.7
    sink: str = "file"
    verify_all: bool = False
    decode: bool = False
    realtime: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be run.

        Raises
        ------
        SpecError
            If a number is out of range.
        """
        for name, value, low, high in (
            ("frames", self.frames, 1, MAX_FRAMES),
            ("warmup", self.warmup, 0, MAX_FRAMES),
            ("streams", self.streams, 1, MAX_STREAMS),
            ("workers", self.workers, 1, MAX_STREAMS),
            ("rate", self.rate, 0, MAX_RATE),
            ("deadline-ms", self.deadline_ms, 0, 1e6),
            ("budget-ms", self.budget_ms, 0, 1e6),
        ):
            if not low <= value <= high:
                raise SpecError(f"{name} is {value:g}; use {low:g} to {high:g}")
        if self.sink not in SINKS:
            raise SpecError(f"sink '{self.sink}' is unknown; use one of {', '.join(SINKS)}")
        if self.rate and not self.rate >= 0.01:
            raise SpecError(f"rate is {self.rate:g}; use 0.01 or more, or a closed loop")

    def names(self) -> list[str]:
        """Return the names of the streams."""
        return [f"stream{number}" for number in range(self.streams)]
