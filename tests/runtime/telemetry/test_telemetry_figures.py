"""Counts, rates, outputs."""

import io
import json
import logging
import threading

import pytest

from edge_codec.errors import SourceError, SpecError
from edge_codec.runtime.frame_event import FrameEvent, FrameOutcome
from edge_codec.runtime.telemetry import telemetry as module
from edge_codec.runtime.telemetry.output import JsonLines
from edge_codec.runtime.telemetry.sensors import Sensors
from edge_codec.runtime.telemetry.telemetry import Telemetry

MS = 1_000_000
STEPS = {"wait": MS, "normalize": MS // 10, "code": 5 * MS, "send": MS // 5}


class SetClock:
    def __init__(self):
        self.now = 0

    def __call__(self):
        return self.now


@pytest.fixture
def bare(tmp_path):
    """Sensors of a machine that tells nothing."""
    return Sensors(tmp_path, sources=[])


@pytest.fixture
def clock():
    return SetClock()


@pytest.fixture
def telemetry(bare, clock):
    return Telemetry(interval_s=0, sensors=bare, now_ns=clock)


def sent(stream="heart", latency_ms=8, **fields):
    known = {
        "steps_ns": STEPS, "frame_bytes": 2000, "voxels": 1000, "packet_bytes": 500,
        "bands": 2, "deadline_ns": 10 * MS,
    }  # fmt: skip
    return FrameEvent(stream, finished_ns=latency_ms * MS, **{**known, **fields})


def test_every_frame_is_counted_as_what_became_of_it(telemetry):
    for latency_ms in (1, 2, 3, 40):
        telemetry.record(sent(latency_ms=latency_ms, key=latency_ms == 1, fast_bands=1))
    telemetry.record(sent(segment=1))
    for outcome in (FrameOutcome.DROPPED, FrameOutcome.REFUSED, FrameOutcome.FAILED):
        telemetry.record(sent(outcome=outcome, latency_ms=900))
    found = telemetry.snapshot()["streams"]["heart"]
    assert (found["sent"], found["dropped"], found["refused"], found["failed"]) == (5, 1, 1, 1)
    assert (found["missed"], found["key_frames"], found["segments"]) == (1, 1, 2)
    assert (found["bands"], found["fast_bands"], found["fast_frames"]) == (10, 4, 4)
    assert (found["packet_bytes"], found["bits_per_voxel"], found["ratio"]) == (2500, 4.0, 4.0)
    # What was not sent has no latency.
    assert found["latency_ms"]["n"] == 5
    assert found["latency_ms"]["max"] == 40
    assert found["latency_ms"]["p50"] == pytest.approx(3, rel=1e-3)
    assert list(found["steps_ms"]) == list(STEPS)
    assert found["steps_ms"]["code"]["p99"] == pytest.approx(5, rel=1e-3)


def test_the_total_is_of_all_streams(telemetry):
    telemetry.record(sent("a", latency_ms=1))
    telemetry.record(sent("b", latency_ms=99))
    telemetry.watch_depths(lambda: {"a": 2, "b": 3})
    found = telemetry.snapshot()
    assert (found["total"]["sent"], found["total"]["latency_ms"]["max"]) == (2, 99)
    assert found["total"]["steps_ms"]["code"]["n"] == 2
    assert [found["streams"][name]["depth"] for name in "ab"] == [2, 3]
    assert found["total"]["depth"] == 5


def test_rates_are_those_of_the_last_interval(telemetry, clock):
    for _ in range(30):
        telemetry.record(sent(latency_ms=5))
    clock.now = 10**9
    telemetry.end_interval()
    for _ in range(10):
        telemetry.record(sent(latency_ms=50))
    clock.now = 3 * 10**9
    telemetry.end_interval()
    found = telemetry.snapshot()
    rates = found["streams"]["heart"]["rates"]
    assert rates == {
        "sent_per_s": 5.0, "missed_per_s": 5.0, "packet_bytes_per_s": 2500.0,
        "frame_bytes_per_s": 10000.0,
    }  # fmt: skip
    assert found["total"]["rates"] == rates
    recent = found["streams"]["heart"]["recent_ms"]
    assert (recent["n"], recent["p50"]) == (10, pytest.approx(50, rel=1e-3))
    assert found["streams"]["heart"]["latency_ms"]["n"] == 40
    assert found["uptime_s"] == 3
    telemetry.record(sent(latency_ms=7))
    telemetry.end_interval()
    recent = telemetry.snapshot()["streams"]["heart"]["recent_ms"]
    assert (recent["n"], recent["max"]) == (1, 7)


def test_many_threads_lose_nothing(telemetry):
    def work(name):
        for _ in range(400):
            telemetry.record(sent(name))

    threads = [threading.Thread(target=work, args=(f"s{n % 2}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total = telemetry.snapshot()["total"]
    assert (total["sent"], total["latency_ms"]["n"], total["packet_bytes"]) == (2400, 2400, 1200000)


def test_old_streams_stay_in_the_total_only(telemetry, monkeypatch):
    monkeypatch.setattr(module, "MAX_STREAMS", 3)
    for number in range(7):
        telemetry.record(sent(f"s{number}", latency_ms=number + 1))
    found = telemetry.snapshot()
    assert list(found["streams"]) == ["s4", "s5", "s6"]
    assert (found["total"]["sent"], found["total"]["latency_ms"]["n"]) == (7, 7)


def test_lines_of_json(bare):
    file = io.StringIO()
    with Telemetry(interval_s=0.02, outputs=[JsonLines(file)], sensors=bare) as telemetry:
        telemetry.record(sent())
        assert wait_for(lambda: file.getvalue().count("\n") >= 2)
    lines = [json.loads(line) for line in file.getvalue().splitlines()]
    assert {line["record"] for line in lines[:-1]} == {"interval"}
    assert lines[-1]["record"] == "last"
    assert lines[-1]["streams"]["heart"]["sent"] == 1
    assert not file.closed  # it is the caller's


def wait_for(condition):
    return any(condition() or threading.Event().wait(0.01) for _ in range(500))


def test_the_last_line_comes_once_and_into_a_file_that_was_there(bare, tmp_path):
    path = tmp_path / "telemetry.jsonl"
    path.write_text('{"record": "before"}\n')
    telemetry = Telemetry(interval_s=60, outputs=[JsonLines(path)], sensors=bare)
    telemetry.close()
    telemetry.close()
    kinds = [json.loads(line)["record"] for line in path.read_text().splitlines()]
    assert kinds == ["before", "last"]


def test_a_folder_is_no_file_for_telemetry(tmp_path):
    with pytest.raises(SourceError, match="cannot be opened for telemetry"):
        JsonLines(tmp_path)


class FullDisk:
    def __init__(self, error=None):
        self.asked = self.closed = 0
        self.error = error or OSError(28, "No space left on device")

    def start(self, snapshot):
        pass

    def write(self, snapshot, *, last):
        self.asked += 1
        raise self.error

    def close(self):
        self.closed += 1


@pytest.mark.parametrize("error", [None, TypeError("No space left for a defect")])
def test_an_output_that_fails_is_left_out_and_the_others_go_on(bare, caplog, error):
    bad, file = FullDisk(error), io.StringIO()
    with (
        caplog.at_level(logging.WARNING),
        Telemetry(interval_s=0.02, outputs=[bad, JsonLines(file)], sensors=bare) as telemetry,
    ):
        telemetry.record(sent())
        assert wait_for(lambda: file.getvalue().count("\n") >= 3)
    assert (bad.asked, bad.closed) == (1, 1)
    assert "FullDisk failed" in caplog.text
    assert "No space left" in caplog.text


def test_an_output_that_cannot_start_leaves_none_open(bare):
    class Taken(FullDisk):
        def start(self, snapshot):
            raise SpecError("the port is taken")

    outputs = [FullDisk(), Taken()]
    with pytest.raises(SpecError, match="port"):
        Telemetry(interval_s=60, outputs=outputs, sensors=bare)
    assert [output.closed for output in outputs] == [1, 1]


def test_a_snapshot_counts_a_stream_once_that_becomes_an_old_one(telemetry, monkeypatch):
    monkeypatch.setattr(module, "MAX_STREAMS", 1)
    telemetry.record(sent("first"))

    original = module.total_of

    def total_of(parts):
        monkeypatch.setattr(module, "total_of", original)
        telemetry.record(sent("second"))  # "first" becomes an old one meanwhile
        return original(parts)

    monkeypatch.setattr(module, "total_of", total_of)
    assert telemetry.snapshot()["total"]["sent"] == 1
