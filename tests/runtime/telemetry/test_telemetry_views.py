"""The Prometheus endpoint, and the terminal."""

import io
import socket
import urllib.request

import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from edge_codec.errors import SpecError
from edge_codec.runtime.frame_event import FrameEvent, FrameOutcome
from edge_codec.runtime.telemetry.prometheus import PrometheusEndpoint
from edge_codec.runtime.telemetry.sensors import Sensors
from edge_codec.runtime.telemetry.telemetry import Telemetry
from edge_codec.runtime.telemetry.terminal import TerminalView, can_redraw, plain_line

MS = 1_000_000


class OneCounter:
    """A source of readings of a made-up machine."""

    def read(self):
        return {"temperature_c": {"soc": 51.5}, "clock_mhz": {"cpu0": 1500.0}}

    def energy_j(self):
        return {"package": 12.5}


@pytest.fixture
def sensors(tmp_path):
    return Sensors(tmp_path, sources=[OneCounter()])


def fill(telemetry):
    for latency_ms in (2, 6, 6, 20):
        telemetry.record(
            FrameEvent(
                "heart",
                finished_ns=latency_ms * MS,
                steps_ns={"code": MS},
                packet_bytes=100,
                frame_bytes=400,
                voxels=200,
                deadline_ns=10 * MS,
            )
        )
    telemetry.record(FrameEvent('a"b', FrameOutcome.DROPPED))
    telemetry.watch_depths(lambda: {"heart": 3})


def scrape(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_what_prometheus_reads(sensors):
    endpoint = PrometheusEndpoint(port=0)
    with Telemetry(interval_s=0, outputs=[endpoint], sensors=sensors) as telemetry:
        fill(telemetry)
        found = scrape(endpoint.port)
        heart = ("stream", "heart")
        assert found["edge_codec_frames_total", ("outcome", "sent"), heart] == 4
        assert found["edge_codec_frames_total", ("outcome", "dropped"), ("stream", 'a"b')] == 1
        assert found["edge_codec_deadline_misses_total", heart] == 1
        assert found["edge_codec_packet_bytes_total", heart] == 400
        assert found["edge_codec_queue_frames", heart] == 3
        bucket = "edge_codec_latency_seconds_bucket"
        bounds = {"0.001": 0, "0.003": 1, "0.01": 3, "0.0333": 4, "+Inf": 4}
        assert {le: found[bucket, ("le", le), heart] for le in bounds} == bounds
        assert found["edge_codec_latency_seconds_sum", heart] == pytest.approx(0.034)
        assert found["edge_codec_step_seconds_count", ("step", "code"), heart] == 4
        assert found["edge_codec_temperature_celsius", ("sensor", "soc")] == 51.5
        assert found["edge_codec_clock_hertz", ("sensor", "cpu0")] == 1.5e9
        assert found["edge_codec_energy_joules_total", ("meter", "package")] == 0
        fill(telemetry)
        assert scrape(endpoint.port)["edge_codec_deadline_misses_total", heart] == 2
    with pytest.raises(OSError, match="refused"):
        scrape(endpoint.port)
    assert not [family for family in REGISTRY.collect() if "edge_codec" in family.name]


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7", ""])
def test_others_cannot_read_it(host):
    with pytest.raises(SpecError, match="no authentication"):
        PrometheusEndpoint(0, host)


def test_a_port_that_is_taken(sensors):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        endpoint = PrometheusEndpoint(taken.getsockname()[1])
        with pytest.raises(SpecError, match="choose another port"):
            Telemetry(interval_s=0, outputs=[endpoint], sensors=sensors)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def show(file, sensors):
    with Telemetry(interval_s=0, outputs=[TerminalView(file)], sensors=sensors) as telemetry:
        fill(telemetry)
    return file.getvalue()


def test_a_table_on_a_terminal(sensors, monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "140")
    text = show(Terminal(), sensors)
    assert "heart" in text
    assert "p99 ms" in text
    assert "52 C" in text


@pytest.mark.parametrize("file", [Terminal(), io.StringIO()])
def test_a_line_where_nothing_can_be_drawn_anew(file, sensors, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    assert not can_redraw(file)
    text = show(file, sensors)
    assert text.count("\n") == 1
    assert text.startswith("stream all  frames 4  ")
    assert "misses 1  dropped 1  " in text
    assert "\x1b" not in text


def test_a_line_before_the_first_frame(sensors):
    snapshot = Telemetry(interval_s=0, sensors=sensors).snapshot()
    assert plain_line(snapshot).startswith("stream all  frames 0  fps 0.0  p50 ms 0.00")
