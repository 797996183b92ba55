"""The figures for Prometheus: an HTTP endpoint on this machine (package `prometheus-client`)."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from edge_codec.errors import EngineError, SpecError
from edge_codec.runtime.access import is_loopback
from edge_codec.runtime.telemetry.output import Snapshot
from edge_codec.runtime.telemetry.stream_figures import BOUNDS_MS

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

PREFIX = "edge_codec"
PORT = 9464
OUTCOMES = ("sent", "dropped", "refused", "failed")
COUNTERS = {
    "missed": ("deadline_misses", "Frames sent later than their deadline."),
    "key_frames": ("key_frames", "Key frames sent."),
    "fast_frames": ("fast_frames", "Frames of which parts fell back to effort fast."),
    "fast_bands": ("fast_bands", "Parts of frames that fell back to effort fast."),
    "bands": ("bands", "Parts of frames coded by the residual layer."),
    "packet_bytes": ("packet_bytes", "Bytes of the packets sent."),
    "frame_bytes": ("frame_bytes", "Bytes of the voxels of the frames sent."),
    "voxels": ("voxels", "Voxels of the frames sent."),
    "segments": ("segments", "Segments begun."),
}
READINGS = {
    "temperature_c": ("temperature_celsius", 1.0, "Temperature."),
    "power_w": ("power_watts", 1.0, "Power."),
    "clock_mhz": ("clock_hertz", 1e6, "Clock."),
}


class PrometheusEndpoint:
    """Answers `GET /metrics` with the figures of that moment.

    Parameters
    ----------
    port : int
        0 for any that is free.
    host : str
        A name or an address of this machine alone: the endpoint knows no authentication. Others
        reach it through whatever has one, a proxy or a tunnel.

    Raises
    ------
    SpecError
        If others could reach it, or it cannot listen there.
    EngineError
        If prometheus-client is not installed.
    """

    def __init__(self, port: int = PORT, host: str = "127.0.0.1") -> None:
        if not is_loopback(host):
            raise SpecError(
                f"metrics on {host} could be read by others, and the endpoint knows no "
                "authentication; use 127.0.0.1, and a proxy or a tunnel in front of it"
            )
        if importlib.util.find_spec("prometheus_client") is None:
            raise EngineError("metrics need prometheus-client: pip install 'edge-codec[telemetry]'")
        self._host = host
        self.port = port
        self._server: Any = None
        self._thread: threading.Thread | None = None

    def start(self, snapshot: Callable[..., Snapshot]) -> None:
        """Listen."""
        from prometheus_client import start_http_server

        try:
            self._server, self._thread = start_http_server(
                self.port, self._host, registry=make_registry(snapshot)
            )
        except OSError as error:
            raise SpecError(
                f"metrics cannot be served on {self._host}:{self.port} ({error.strerror}); "
                "choose another port"
            ) from error
        self.port = self._server.server_port

    def write(self, snapshot: Snapshot, *, last: bool) -> None:
        """Do nothing: every question gets figures of its own."""
        del snapshot, last

    def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        if self._thread is not None:
            self._thread.join()


def make_registry(snapshot: Callable[..., Snapshot]) -> CollectorRegistry:
    """Return a registry of these figures alone, not the client library's global one."""
    from prometheus_client import CollectorRegistry
    from prometheus_client.registry import Collector

    class Figures(Collector):
        """Makes metrics of a snapshot."""

        def collect(self) -> Iterator[Metric]:
            """Yield every metric."""
            return metrics(snapshot(bounds=True))

        def describe(self) -> Iterator[Metric]:
            """Yield nothing, so that registering takes no snapshot."""
            return iter(())

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Figures())
    return registry


def metrics(snapshot: Snapshot) -> Iterator[Metric]:
    """Yield the metrics of a snapshot that was taken with `bounds`."""
    streams = snapshot["streams"]
    yield from _counters(streams)
    yield from _histograms(streams)
    yield from _machine(snapshot)


def _counters(streams: dict[str, Any]) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    frames = CounterMetricFamily(
        f"{PREFIX}_frames", "Frames by what became of them.", labels=("stream", "outcome")
    )
    depth = GaugeMetricFamily(
        f"{PREFIX}_queue_frames", "Frames that wait to be coded.", labels=("stream",)
    )
    for name, figures in streams.items():
        for outcome in OUTCOMES:
            frames.add_metric((name, outcome), figures[outcome])
        depth.add_metric((name,), figures["depth"])
    yield frames
    yield depth
    for key, (title, text) in COUNTERS.items():
        family = CounterMetricFamily(f"{PREFIX}_{title}", text, labels=("stream",))
        for name, figures in streams.items():
            family.add_metric((name,), figures[key])
        yield family


def _histograms(streams: dict[str, Any]) -> Iterator[Metric]:
    from prometheus_client.core import HistogramMetricFamily

    latency = HistogramMetricFamily(
        f"{PREFIX}_latency_seconds", "From acquisition to the last sink.", labels=("stream",)
    )
    steps = HistogramMetricFamily(
        f"{PREFIX}_step_seconds", "Duration of each step of a frame.", labels=("stream", "step")
    )
    for name, figures in streams.items():
        bounds = figures["bounds"]
        latency.add_metric((name,), _buckets(bounds["latency"]), bounds["latency"]["sum_s"])
        for step, found in bounds["steps"].items():
            steps.add_metric((name, step), _buckets(found), found["sum_s"])
    yield latency
    yield steps


def _buckets(bounds: dict[str, Any]) -> list[tuple[str, float]]:
    named = [f"{bound / 1e3:g}" for bound in BOUNDS_MS]
    counts = zip(named, bounds["counts"], strict=True)
    return [*((name, float(count)) for name, count in counts), ("+Inf", float(bounds["n"]))]


def _machine(snapshot: Snapshot) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    for kind, (title, unit, text) in READINGS.items():
        values = snapshot["sensors"].get(kind, {})
        if values:
            family = GaugeMetricFamily(f"{PREFIX}_{title}", text, labels=("sensor",))
            for name, value in values.items():
                family.add_metric((name,), value * unit)
            yield family
    if snapshot["energy_j"]:
        energy = CounterMetricFamily(
            f"{PREFIX}_energy_joules", "Energy since the beginning.", labels=("meter",)
        )
        for name, joules in snapshot["energy_j"].items():
            energy.add_metric((name,), joules)
        yield energy
