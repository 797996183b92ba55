"""The figures of one live stream, added up as its frames' records come in."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import Any

from edge_codec.runtime.frame_event import FrameEvent, FrameOutcome
from edge_codec.runtime.telemetry.histogram import Histogram

COUNTS = (
    "sent", "dropped", "refused", "failed", "missed", "key_frames", "fast_frames",
    "packet_bytes", "frame_bytes", "voxels", "fast_bands", "bands",
)  # fmt: skip
# Of Prometheus' histograms, in ms; deadlines of 30 to 120 frames per second are among them.
BOUNDS_MS = (0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 7.5, 10.0, 16.7, 33.3, 66.7, 133.0, 1000.0)


class StreamFigures:
    """Counts and histograms of one stream.

    Attributes
    ----------
    counts : dict of str to int
        `COUNTS`, since the beginning; sizes, misses and bands of frames that were sent.
    latency, steps : Histogram, dict of str to Histogram
        Of frames that were sent.
    segments : int
        Number of segments.
    last_ns : int
        Instant of the last record.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.counts = dict.fromkeys(COUNTS, 0)
        self.latency = Histogram()
        self.steps: dict[str, Histogram] = {}
        self.segments = 0
        self.last_ns = 0
        self._recent, self._spare = Histogram(), Histogram()
        self._before = dict(self.counts)
        self.rates: dict[str, float] = {}
        self.recent_ms: dict[str, float] = self._recent.summary_ms()

    def record(self, event: FrameEvent) -> None:
        """Add one frame."""
        with self._lock:
            counts = self.counts
            counts[event.outcome.value] += 1
            self.last_ns = event.finished_ns
            self.segments = max(self.segments, event.segment + 1)
            if event.outcome is not FrameOutcome.SENT:
                return
            counts["missed"] += event.missed
            counts["key_frames"] += event.key
            counts["packet_bytes"] += event.packet_bytes
            counts["frame_bytes"] += event.frame_bytes
            counts["voxels"] += event.voxels
            counts["bands"] += event.bands
            counts["fast_bands"] += event.fast_bands
            counts["fast_frames"] += event.fast_bands > 0
            latency_ns = event.latency_ns
            self.latency.record(latency_ns)
            self._recent.record(latency_ns)
            for step, duration_ns in event.steps_ns.items():
                histogram = self.steps.get(step)
                if histogram is None:
                    histogram = self.steps[step] = Histogram()
                histogram.record(duration_ns)

    def end_interval(self, seconds: float) -> None:
        """Begin a new interval; `rates` and `recent_ms` are those of the one that ended."""
        with self._lock:
            self._recent, self._spare = self._spare, self._recent
            counts = dict(self.counts)
        self.rates = {
            f"{name}_per_s": (counts[name] - self._before[name]) / seconds
            for name in ("sent", "missed", "packet_bytes", "frame_bytes")
        }
        self._before = counts
        self.recent_ms = self._spare.summary_ms()
        self._spare.clear()

    def add(self, other: StreamFigures) -> None:
        """Add another stream's figures."""
        for name, count in other.counts.items():
            self.counts[name] += count
        self.segments += other.segments
        self.latency.merge(other.latency)
        for step, histogram in list(other.steps.items()):
            self.steps.setdefault(step, Histogram()).merge(histogram)
            time.sleep(0)
        for name, rate in other.rates.items():
            self.rates[name] = self.rates.get(name, 0.0) + rate

    def describe(self, *, bounds: bool) -> dict[str, Any]:
        """Return the figures for a snapshot.

        Parameters
        ----------
        bounds : bool
            Also how many frames were within each of `BOUNDS_MS`, and the sum, as Prometheus wants
            them.
        """
        counts = dict(self.counts)
        voxels, packet_bytes = counts["voxels"], counts["packet_bytes"]
        found: dict[str, Any] = {
            **counts,
            "segments": self.segments,
            "bits_per_voxel": 8 * packet_bytes / voxels if voxels else None,
            "ratio": counts["frame_bytes"] / packet_bytes if packet_bytes else None,
            "latency_ms": _summary(self.latency),
            "steps_ms": {name: _summary(step) for name, step in list(self.steps.items())},
            "recent_ms": self.recent_ms,
            "rates": self.rates,
        }
        if bounds:
            found["bounds"] = {
                "latency": _bounds(self.latency),
                "steps": {name: _bounds(step) for name, step in list(self.steps.items())},
            }
        return found


def total_of(parts: Iterable[StreamFigures]) -> StreamFigures:
    """Return the figures of several streams together; `recent_ms` is left to each of them."""
    whole = StreamFigures()
    for part in parts:
        whole.add(part)
    return whole


def _summary(histogram: Histogram) -> dict[str, float]:
    # Threads that code frames must not wait for this one until Python makes it let go: it does so
    # itself after every histogram.
    time.sleep(0)
    return histogram.summary_ms()


def _bounds(histogram: Histogram) -> dict[str, Any]:
    bounds_ns = [round(bound * 1e6) for bound in BOUNDS_MS]
    return {
        "counts": histogram.counts_below(bounds_ns),
        "n": histogram.n,
        "sum_s": histogram.total / 1e9,
    }
