"""What this machine can hold: measured before streams are admitted, not found out by their misses.

The pipeline itself is run for about a second, without deadlines and as fast as it goes, on each
rung of the ladder: with its threads, queues and buffers, and sinks that take no time. What sinks
cost comes on top; the margin is for that, for bursts, and for frames that are harder to code.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.bitstream.live import Policy
from edge_codec.errors import SpecError, StreamError
from edge_codec.runtime.frame_event import FrameEvent, FrameOutcome
from edge_codec.runtime.live_options import LiveOptions
from edge_codec.runtime.phantom import BEAT, heart
from edge_codec.runtime.pipeline import Pipeline
from edge_codec.spec import CineInfo, Effort

MARGIN = 0.75  # of the measured rate may be promised
MIN_FRAMES = 8  # on each rung, however slow


@dataclass(frozen=True, slots=True)
class Rung:
    """What was measured at one effort.

    Attributes
    ----------
    effort : Effort
        Of the residual layer.
    frames_per_s : float
        Frames of all streams together.
    p50_ms, p99_ms : float
        Time of a frame once its turn has come, from normalization to the last sink.
    frames : int
        How many were measured.
    """

    effort: Effort
    frames_per_s: float
    p50_ms: float
    p99_ms: float
    frames: int


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the machine can hold.

    Attributes
    ----------
    rungs : tuple of Rung
        From the stream's effort down to the least.
    budget_ms : float
        Deadline of a frame; 0 for none.
    margin : float
        Part of the measured rate that may be promised.
    """

    rungs: tuple[Rung, ...]
    budget_ms: float
    margin: float = MARGIN

    def streams_at(self, rate_hz: float, rung: Rung) -> int:
        """Return how many streams of `rate_hz` frames a second fit on a rung."""
        if 0 < self.budget_ms < rung.p99_ms:
            return 0
        return int(self.margin * rung.frames_per_s / rate_hz)


def measure_capacity(
    options: LiveOptions,
    shape: tuple[int, int],
    dtype: np.dtype[Any],
    *,
    workers: int = 1,
    frames: Sequence[NDArray[Any]] | None = None,
    seconds: float = 1.0,
) -> Capacity:
    """Measure how many frames a second the pipeline codes.

    Parameters
    ----------
    options : LiveOptions
        Of the streams to come.
    shape : (int, int)
        Rows and columns of their frames.
    dtype : numpy.dtype
        Of their voxels, an integer type.
    workers : int
        As for `Pipeline`.
    frames : sequence of ndarray, optional
        Frames to code, again and again; without them those of a phantom.
    seconds : float
        How long to measure, all rungs together.

    Raises
    ------
    SpecError, EngineError
        If the options cannot be, or the model cannot be loaded.
    """
    if dtype.kind not in "iu":
        raise SpecError(f"capacity is measured on integers, not {dtype}; use the coded dtype")
    if frames is None:
        frames = list(heart(BEAT, *shape, dtype))
    efforts = [options.effort]
    falls = options.max_error is not None and options.policy is not Policy.NONE
    if falls and options.effort is not Effort.FAST:
        efforts.append(Effort.FAST)
    share = seconds / len(efforts)
    rungs = tuple(_measure(replace(options, effort=e), frames, workers, share) for e in efforts)
    return Capacity(rungs, options.budget_ms)


def admit(capacity: Capacity, streams: int, rate_hz: float, policy: Policy) -> Effort:
    """Decide whether streams can be held, and with which effort they should begin.

    Parameters
    ----------
    capacity : Capacity
        What was measured.
    streams : int
        How many there will be.
    rate_hz : float
        Frames a second of each.
    policy : Policy
        Of the streams. `DROP_OLDEST` is always admitted: it leaves out what does not fit.

    Returns
    -------
    Effort
        The highest that fits.

    Raises
    ------
    StreamError
        If none fits; the message says what would.
    """
    for rung in capacity.rungs:
        if streams <= capacity.streams_at(rate_hz, rung):
            return rung.effort
    least = capacity.rungs[-1]
    if policy is Policy.DROP_OLDEST:
        return least.effort
    fitting = capacity.streams_at(rate_hz, least)
    rate = capacity.margin * least.frames_per_s / streams
    raise StreamError(
        f"{streams} streams of {rate_hz:g} frames/s do not fit: with effort "
        f"{least.effort.name.lower()} this machine codes {least.frames_per_s:.0f} frames/s, p99 "
        f"{least.p99_ms:.1f} ms for a budget of {capacity.budget_ms:g} ms; {fitting} streams of "
        f"that rate would fit, or {streams} of {rate:.1f} frames/s if the budget allows"
    )


def _measure(
    options: LiveOptions, frames: Sequence[NDArray[Any]], workers: int, seconds: float
) -> Rung:
    events: list[FrameEvent] = []
    options = replace(
        options, policy=Policy.NONE, budget_ms=0.0, queue_frames=2, n_slices=1, n_phases=0
    )
    rows, columns = frames[0].shape
    geometry = CineInfo(1, 0, rows, columns, frames[0].dtype)
    with Pipeline(workers=workers, listener=events.append) as pipeline:
        streams = [
            pipeline.open(f"capacity-{i}", options, [], geometry=geometry)
            for i in range(workers + 1)  # one more than can be coded at a time: none waits for us
        ]
        for stream in streams:  # the first frame of a stream sets it up
            stream.push(frames[0])
            stream.flush()
        events.clear()
        begun, pushed = time.monotonic(), 0
        while time.monotonic() - begun < seconds or pushed < MIN_FRAMES:
            streams[pushed % len(streams)].push(frames[pushed % len(frames)])
            pushed += 1
        for stream in streams:
            stream.flush()
        elapsed = time.monotonic() - begun
    busy = [sum(e.steps_ns.values()) - e.steps_ns["wait"] for e in events if _sent(e)]
    p50_ms, p99_ms = (float(p) / 1e6 for p in np.percentile(busy, [50, 99]))
    return Rung(options.effort, pushed / elapsed, p50_ms, p99_ms, pushed)


def _sent(event: FrameEvent) -> bool:
    return event.outcome is FrameOutcome.SENT
