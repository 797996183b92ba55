"""Adds up what pipelines report, and hands it out: the listener of a pipeline."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone

from edge_codec.runtime.frame_event import FrameEvent
from edge_codec.runtime.telemetry.energy import EnergyMeter
from edge_codec.runtime.telemetry.output import Output, Snapshot
from edge_codec.runtime.telemetry.sensors import Sensors
from edge_codec.runtime.telemetry.stream_figures import StreamFigures, total_of

# A server meets new streams for ever; the figures of one take a megabyte.
MAX_STREAMS = 16

_log = logging.getLogger(__name__)


class Telemetry:
    """What live streams do, in numbers.

    Parameters
    ----------
    interval_s : float
        How often outputs get a snapshot, and how long the intervals of rates are; 0 for never:
        then `end_interval` is for the caller.
    outputs : sequence of Output
        Who gets snapshots, on a thread of the telemetry's own. One that fails is left out from then
        on: telemetry does no harm to a stream.
    sensors : Sensors, optional
        The machine's; made if not given.
    now_ns : callable
        A monotonic clock.

    Notes
    -----
    Figures are kept for each of the last `MAX_STREAMS` streams by name; older ones remain part of
    the total.
    """

    def __init__(
        self,
        *,
        interval_s: float = 1.0,
        outputs: Sequence[Output] = (),
        sensors: Sensors | None = None,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._now_ns = now_ns
        self._sensors = sensors or Sensors()
        self._energy = EnergyMeter(self._sensors, now_ns)
        self._streams: dict[str, StreamFigures] = {}
        self._past = StreamFigures()
        self._depths: Callable[[], dict[str, int]] = dict
        self._lock = threading.Lock()
        self._began_ns = self._interval_ns = now_ns()
        self._interval_s = interval_s
        self._outputs = list(outputs)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        try:
            for output in self._outputs:
                output.start(self.snapshot)
        except BaseException:  # a port that is taken: the others are given back
            for output in self._outputs:
                output.close()
            raise
        if interval_s > 0:
            self._thread = threading.Thread(
                target=self._work, name="edge-codec-telemetry", daemon=True
            )
            self._thread.start()

    def record(self, event: FrameEvent) -> None:
        """Add one frame's record; quick, and safe from any thread."""
        figures = self._streams.get(event.stream)
        if figures is None:
            figures = self._begin(event.stream)
        figures.record(event)

    def watch_depths(self, depths: Callable[[], dict[str, int]]) -> None:
        """Set where snapshots get the number of waiting frames from: `Pipeline.depths`."""
        self._depths = depths

    def _begin(self, stream: str) -> StreamFigures:
        with self._lock:
            if stream not in self._streams:
                if len(self._streams) >= MAX_STREAMS:
                    oldest = min(self._streams, key=lambda name: self._streams[name].last_ns)
                    # A new one, as a snapshot may be looking at that one.
                    self._past = total_of([self._past, self._streams.pop(oldest)])
                    self._past.rates = {}
                self._streams[stream] = StreamFigures()
            return self._streams[stream]

    def snapshot(self, *, bounds: bool = False) -> Snapshot:
        """Return all figures as they are now.

        Parameters
        ----------
        bounds : bool
            See `StreamFigures.describe`.

        Returns
        -------
        dict
            Of plain JSON types; `docs/telemetry.md` names every field.
        """
        with self._lock:
            streams, past = dict(self._streams), self._past
        depths = self._depths()
        described = {}
        for name, figures in streams.items():
            described[name] = {**figures.describe(bounds=bounds), "depth": depths.get(name, 0)}
        total = total_of([past, *streams.values()]).describe(bounds=False)
        del total["recent_ms"]
        energy = self._energy.look()
        sent = total["sent"]
        return {
            "utc": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
            "uptime_s": (self._now_ns() - self._began_ns) / 1e9,
            "total": {**total, "depth": sum(depths.values())},
            "streams": described,
            "energy_j": energy,
            "energy_j_per_frame": {name: joules / sent for name, joules in energy.items() if sent},
            "sensors": self._sensors.read(),
        }

    def end_interval(self) -> None:
        """Begin a new interval of rates."""
        now_ns = self._now_ns()
        seconds = max(now_ns - self._interval_ns, 1) / 1e9
        self._interval_ns = now_ns
        with self._lock:
            streams = list(self._streams.values())
        for figures in streams:
            figures.end_interval(seconds)

    def close(self) -> None:
        """Give the outputs a last snapshot and close them; a second call does nothing."""
        if self._stop.is_set():
            return
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self.end_interval()
        self._write(last=True)
        for output in self._outputs:
            output.close()
        self._outputs.clear()

    def __enter__(self) -> Telemetry:
        return self

    def __exit__(self, *cause: object) -> None:
        self.close()

    def _work(self) -> None:
        due_ns = self._began_ns
        while True:
            due_ns += round(self._interval_s * 1e9)
            if self._stop.wait(max(0.0, (due_ns - self._now_ns()) / 1e9)):
                return
            self.end_interval()
            self._write(last=False)

    def _write(self, *, last: bool) -> None:
        if not self._outputs:
            return
        snapshot = self.snapshot()
        self._outputs = [output for output in self._outputs if _wrote(output, snapshot, last)]


def _wrote(output: Output, snapshot: Snapshot, last: bool) -> bool:
    """Give an output a snapshot; say whether it may have the next."""
    try:
        output.write(snapshot, last=last)
    except Exception as error:  # a full disk, a closed terminal, a defect: no harm to the others
        kind = type(output).__name__
        _log.warning("telemetry: %s failed (%r); no more is written there", kind, error)
        output.close()
        return False
    return True
