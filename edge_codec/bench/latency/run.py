"""One run: warm up, push on schedule, wait, then decode and compare."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edge_codec.bench.latency import process
from edge_codec.bench.latency.check import Checker, CheckResult, joined, sampled
from edge_codec.bench.latency.clock import Clock, MonotonicClock, sharpen_timers
from edge_codec.bench.latency.drive import Driver, LoopFrame, Schedule
from edge_codec.bench.latency.log import FrameLog, LogBook
from edge_codec.bench.latency.plan import Plan
from edge_codec.bench.latency.realtime import describe_scheduling, no_collections, realtime
from edge_codec.bench.latency.stores import Store, Wanted, make_store
from edge_codec.bench.latency.watch import Progress, Task, Watch
from edge_codec.cine import Cine
from edge_codec.codec import Decoder
from edge_codec.io import open_source
from edge_codec.runtime.live_options import LiveOptions
from edge_codec.runtime.live_stream import LiveStream
from edge_codec.runtime.models import load_model, warm_up
from edge_codec.runtime.pipeline import Pipeline
from edge_codec.runtime.shared import band_mapper
from edge_codec.runtime.telemetry.energy import EnergyMeter
from edge_codec.runtime.telemetry.sensors import Sensors
from edge_codec.spec import CineInfo, SourceHeader, StreamSpec

LEAD_NS = 50_000_000  # from the end of the preparations to the first frame
FLUSH_S = 120.0


@dataclass(slots=True)
class Run:
    """What was measured, before it is made into figures.

    Attributes
    ----------
    plan : Plan
        What was asked for.
    info : CineInfo
        The exam.
    logs : list of FrameLog
        One for each stream.
    started_ns, opened_ns, first_sent_ns : int or None
        Instants: the process, the opening of the pipeline, the first packet.
    seconds : float
        From the end of the warm-up until the last frame was done.
    memory, memory_mib, stolen_s, scheduling, refused, energy
        See `edge_codec.bench.latency.report`.
    check : CheckResult
        What decoding showed.
    """

    plan: Plan
    info: CineInfo
    logs: list[FrameLog]
    started_ns: int | None = None
    opened_ns: int = 0
    first_sent_ns: int = 0
    seconds: float = 0.0
    memory: dict[str, Any] = field(default_factory=dict)
    memory_mib: list[float] = field(default_factory=list)
    stolen_s: list[float] = field(default_factory=list)
    scheduling: dict[str, Any] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    sharp_timers: bool = False
    sensors: dict[str, Any] = field(default_factory=dict)
    energy_j: dict[str, float] = field(default_factory=dict)
    strays: int = 0
    check: CheckResult = field(default_factory=CheckResult)


def load_loop(cine: Cine) -> list[LoopFrame]:
    """Return the frames of an exam in the order they are acquired: one slice after the other.

    Each is a copy of its own, as a scanner's would be.
    """
    return [
        LoopFrame(slice_index, phase_index, cine.voxels[slice_index, phase_index].copy())
        for slice_index in range(cine.info.n_slices)
        for phase_index in range(cine.info.n_phases)
    ]


def run(plan: Plan, progress: Progress, warn: Callable[[str], None]) -> Run:
    """Measure.

    Parameters
    ----------
    plan : Plan
        What to do.
    progress : callable
        Told now and then how many frames more are done.
    warn : callable
        Told what the system does not allow, before the measurement.

    Raises
    ------
    EdgeCodecError
        If the exam cannot be read, or a stream fails.
    """
    cine = Cine.from_source(open_source(plan.source))
    frames = load_loop(cine)
    logs = [FrameLog(plan.warmup + plan.frames, plan.warmup) for _ in range(plan.streams)]
    found = Run(plan, cine.info, logs, started_ns=process.started_ns())
    options = _options(plan, cine.info)
    wanted = sampled(plan.warmup + plan.frames, cine.info.n_slices, options.key_interval)
    if plan.verify_all or plan.decode:
        wanted = _everything
    with tempfile.TemporaryDirectory(prefix="edge-codec-latency-") as folder:
        stores = [make_store(plan.sink, Path(folder), name, wanted) for name in plan.names()]
        try:
            _measure(found, options, frames, stores, progress, warn)
            found.check = _check(found, frames, stores, wanted)
        finally:
            for store in stores:
                store.close()
    return found


def _everything(slice_index: int, phase_index: int) -> bool:
    del slice_index, phase_index
    return True


def _options(plan: Plan, info: CineInfo) -> LiveOptions:
    return LiveOptions(
        model=plan.model,
        max_error=plan.max_error,
        effort=plan.effort,
        backend=plan.backend,
        threads=plan.threads,
        policy=plan.policy,
        budget_ms=plan.budget_ms,
        n_slices=info.n_slices,
    )


def _measure(
    found: Run,
    options: LiveOptions,
    frames: list[LoopFrame],
    stores: Sequence[Store],
    progress: Progress,
    warn: Callable[[str], None],
) -> None:
    plan, clock = found.plan, MonotonicClock()
    # A scanner tells the size of its frames beforehand, but neither their range nor their number.
    geometry = replace(found.info, n_phases=0, trigger_time_ms=(), source=SourceHeader())
    book = LogBook(dict(zip(plan.names(), found.logs, strict=True)))
    watch = Watch(found.logs, progress)
    with realtime(plan.realtime) as found.refused:
        for refusal in found.refused:
            warn(refusal)
        found.sharp_timers = sharpen_timers()
        sensors = Sensors()
        found.opened_ns = clock.now_ns()
        with Pipeline(workers=plan.workers, listener=book.record) as pipeline:
            streams = [
                pipeline.open(name, options, [store.sink], geometry=geometry)
                for name, store in zip(plan.names(), stores, strict=True)
            ]
            crew = Crew(plan, streams, frames, book, clock)
            crew.push(range(plan.warmup), watch)
            with no_collections(plan.realtime):
                found.scheduling = describe_scheduling()
                energy, began_ns = EnergyMeter(sensors), clock.now_ns()
                watch.begin(energy)
                crew.push(range(plan.warmup, plan.warmup + plan.frames), watch)
                found.seconds = (clock.now_ns() - began_ns) / 1e9
                found.energy_j = energy.look()
                watch.end()
                found.memory = watch.memory()
            found.sensors = sensors.read()
    found.memory_mib = list(watch.memory_mib)
    found.stolen_s = list(watch.stolen_s)
    found.first_sent_ns, found.strays = book.first_sent_ns, book.strays


class Crew:
    """Pushes the frames of all streams, each on a thread of its own.

    Parameters
    ----------
    plan : Plan
        At which rate, or one after the other.
    streams : sequence of LiveStream
        Where to.
    frames : sequence of LoopFrame
        What.
    book : LogBook
        Where the streams' logs are.
    clock : Clock
        Time.
    """

    def __init__(
        self,
        plan: Plan,
        streams: Sequence[LiveStream],
        frames: Sequence[LoopFrame],
        book: LogBook,
        clock: Clock,
    ) -> None:
        self._plan = plan
        self._streams = streams
        self._frames = frames
        self._book = book
        self._clock = clock

    def push(self, numbers: range, watch: Watch) -> None:
        """Push some frames of every stream; return when all are done.

        Raises
        ------
        EdgeCodecError
            If a stream fails.
        """
        stop = threading.Event()
        start_ns = self._clock.now_ns() + LEAD_NS
        tasks = [
            Task(stream.name, self._work(place, stream, numbers, start_ns, stop), stop.set)
            for place, stream in enumerate(self._streams)
        ]
        for task in tasks:
            task.start()
        try:
            watch.join(tasks)
        except BaseException:
            stop.set()
            raise
        for task in tasks:
            if task.error is not None:
                raise task.error
        for stream in self._streams:
            stream.flush(FLUSH_S)
        watch.look()

    def _work(
        self,
        place: int,
        stream: LiveStream,
        numbers: range,
        start_ns: int,
        stop: threading.Event,
    ) -> Callable[[], None]:
        rate, log = self._plan.rate, self._book.logs[stream.name]
        driver = Driver(stream, self._frames, log, self._clock, stop)
        if not rate:
            return lambda: driver.closed_loop(
                numbers, lambda timeout: self._book.wait(stream.name, timeout)
            )
        # Scanners do not acquire in step: frames of several streams are spread over the interval.
        offset_ns = round(place * 1e9 / rate / len(self._streams))
        return lambda: driver.open_loop(numbers, Schedule(start_ns + offset_ns, rate))


def _check(
    found: Run, frames: list[LoopFrame], stores: Sequence[Store], wanted: Wanted
) -> CheckResult:
    """Decode what was kept, and compare it with what was pushed."""
    plan = found.plan
    model = load_model(plan.model, backend=plan.backend, threads=plan.threads, decode_only=True)
    mapper = band_mapper(plan.threads)

    def make_decoder(spec: StreamSpec) -> Decoder:
        warm_up(model, spec)
        return Decoder(spec, model, mapper=mapper)

    rate = plan.rate if plan.decode else 0.0
    results = []
    for name, log, store in zip(plan.names(), found.logs, stores, strict=True):
        checker = Checker(store, frames, make_decoder, MonotonicClock(), rate)
        results.append(checker.run(log, wanted, name))
    return joined(results)


def utc_now() -> str:
    """Return the time for a record."""
    return time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
