"""`edge-codec bench latency` as it is typed."""

import io
import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_codec.bench.latency import plan as plan_module
from edge_codec.bench.latency import run as run_module
from edge_codec.bench.latency.plan import Plan
from edge_codec.cli import Console, main
from edge_codec.errors import SpecError, StreamError
from edge_codec.exit_status import ExitStatus

SAMPLE = Path(__file__).parents[2] / "examples" / "sunnybrook_scd0000301_slice.nii.gz"
PROMISED = ("frames", "p50_ms", "p90_ms", "p99_ms", "p99_9_ms", "max_ms", "misses", "dropped")
STEPS = {"wait", "normalize", "code", "pack", "hand_over", "send"}


def run(*arguments):
    out, err = io.StringIO(), io.StringIO()
    status = main(["bench", "latency", *map(str, arguments)], Console(out, err))
    return status, out.getvalue(), err.getvalue()


def measured(*arguments, status=ExitStatus.OK):
    found, out, err = run(*arguments, "--json", "-")
    assert found == status, err
    assert out.count("\n") == 1
    return json.loads(out)


def test_the_promised_command_line():
    command = [sys.executable, "-m", "edge_codec", "bench", "latency", str(SAMPLE)]
    command += ["--lossless", "--rate", "200", "--frames", "40", "--warmup", "4", "--json", "-"]
    folder = Path(__file__).parents[2]
    found = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=True, cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
    )  # fmt: skip
    record = json.loads(found.stdout.splitlines()[-1])
    assert [name for name in PROMISED if not isinstance(record[name], (int, float))] == []
    assert (record["frames"], record["dropped"], record["lost"]) == (40, 0, 0)
    assert 0 < record["p50_ms"] <= record["p90_ms"] <= record["p99_ms"] <= record["max_ms"]
    assert set(record["steps_ms"]) == STEPS
    for name in ("device", "python", "edge_codec", "numpy", "commit", "definitions", "utc"):
        assert name in record
    assert record["scheduling"]["policy"]
    assert record["cold_start_ms"]["process_to_first_packet"] > 0
    assert record["verified"]["failures"] == 0
    assert record["verified"]["largest_error"] == 0
    assert str(folder) not in json.dumps(record)


def test_everything_at_once(heart_file, tmp_path):
    out, lines, single = tmp_path / "out", tmp_path / "all.jsonl", tmp_path / "one.json"
    arguments = [heart_file, "--max-error", "2", "--streams", "2", "--rate", "250", "--frames",
                 "300", "--warmup", "6", "--decode", "--plots", "--out", out, "--results", lines,
                 "--policy", "none", "--budget-ms", "0", "--json", single, "--effort",
                 "fast"]  # fmt: skip
    status, text, _ = run(*arguments)
    assert status == ExitStatus.OK
    assert "verified    612 of 612 packets, 0 failures" in text
    report = json.loads((out / "report.json").read_text())
    assert report["frames"] == 600
    assert report["decode"]["frames"] == 600
    assert 0 < report["verified"]["largest_error"] <= 2
    assert sum(row["frames"] for row in report["timeline"]) == 600
    assert report["timeline"][0]["memory_mib"] > 0
    for name in ("latency.svg", "timeline.svg", "steps.svg"):
        picture = ET.parse(out / name).getroot()
        assert len(list(picture.iter("{http://www.w3.org/2000/svg}path"))) > 20
    del report["timeline"]
    assert json.loads(single.read_text()) == report
    assert json.loads(lines.read_text()) == {"benchmark": "latency", **report}
    status, _, err = run(*arguments)
    assert (status, "use --force" in err) == (ExitStatus.INPUT, True)


@pytest.mark.parametrize("sink", ["memory", "null"])
def test_a_closed_loop_into_other_sinks(heart_file, sink):
    record = measured(heart_file, "--closed-loop", "--frames", "70", "--sink", sink)
    assert (record["loop"], record["rate"], record["frames"]) == ("closed", None, 70)
    assert record["pacing_error"] == {}
    assert record["verified"]["frames"] > 30
    assert record["verified"]["of"] == 130


def test_the_model_alone(heart_file):
    record = measured(heart_file, "--model", "vqvae", "--rate", "100", "--frames", "6")
    assert (record["model"], record["max_error"]) == ("vqvae", None)
    assert "infer" in record["steps_ms"]
    assert set(record["engines"]) == {"encoder", "decoder"}
    assert all(len(digest) == 64 for digest in record["model_hashes"].values())
    assert record["verified"]["largest_error"] is None


def test_realtime_is_stated_whether_it_is_allowed_or_not(heart_file, monkeypatch):
    def refuse(*arguments):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    status, out, err = run(
        heart_file, "--realtime", "--frames", "5", "--rate", "100", "--json", "--sink", "null"
    )
    record = json.loads(out)
    assert status == ExitStatus.OK
    assert "SCHED_FIFO is not allowed; run as root" in err
    assert any("SCHED_FIFO" in text for text in record["not_allowed"])
    assert record["scheduling"]["gc"] is False
    assert record["scheduling"]["gc_frozen"] > 0


def test_a_wrong_voxel_is_found(heart_file, monkeypatch):
    honest = run_module.Decoder

    class Lying(honest):
        def push(self, packet):
            frame = super().push(packet).copy()
            frame[3, 4] += 1
            return frame

    monkeypatch.setattr(run_module, "Decoder", Lying)
    arguments = [heart_file, "--frames", "40", "--rate", "200"]
    record = measured(*arguments, status=ExitStatus.UNVERIFIED)
    assert record["verified"]["failures"] == record["verified"]["frames"] > 0
    assert "a voxel is off by 1, 0 is promised" in record["verified"]["first_failures"][0]


def test_a_packet_that_went_missing_is_found(heart_file, monkeypatch):
    from edge_codec.bench.latency.stores import MemoryStore

    def forget(self, packet, data):
        if packet.phase_index != 2:
            MemoryStore._honest_send(self, packet, data)

    monkeypatch.setattr(MemoryStore, "_honest_send", MemoryStore.send, raising=False)
    monkeypatch.setattr(MemoryStore, "send", forget)
    arguments = [heart_file, "--frames", "40", "--rate", "200", "--sink", "memory", "--verify"]
    record = measured(*arguments, status=ExitStatus.UNVERIFIED)
    assert "no packet of segment 0" in record["verified"]["first_failures"][0]


def test_a_report_of_a_frame_that_nobody_pushed_is_found(heart_file, monkeypatch):
    honest = run_module.LogBook

    class Haunted(honest):
        def record(self, event):
            if not self.first_sent_ns:
                super().record(replace(event, acquired_ns=-5))
            super().record(event)

    monkeypatch.setattr(run_module, "LogBook", Haunted)
    status, out, err = run(heart_file, "--frames", "40", "--rate", "200", "--json", "-")
    record = json.loads(out)
    assert status == ExitStatus.UNVERIFIED
    assert (record["strays"], record["lost"], record["verified"]["failures"]) == (1, 0, 0)
    assert "1 reports of frames that were never pushed" in err


def test_a_sink_that_fails_ends_the_run(heart_file, monkeypatch):
    from edge_codec.bench.latency.stores import MemoryStore
    from edge_codec.errors import SinkError

    def fail(self, packet, data):
        raise SinkError("the disk is full")

    monkeypatch.setattr(MemoryStore, "send", fail)
    status, out, err = run(heart_file, "--frames", "20", "--rate", "200", "--sink", "memory")
    assert (status, out) == (ExitStatus.INPUT, "")
    assert "the disk is full" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rate", "-1"], "rate is -1"),
        (["--rate", "0.001"], "use 0.01 or more"),
        (["--streams", "65"], "streams is 65"),
        (["--warmup", "-1"], "warmup is -1"),
        (["--sink", "tape"], "sink 'tape' is unknown"),
        (["--policy", "hope"], "policy 'hope' is unknown"),
        (["--policy", "strict-lossless", "--max-error", "1"], "strict-lossless"),
        (["--backend", "abacus", "--model", "vqvae", "--frames", "2"], "abacus"),
    ],
)
def test_wrong_options(heart_file, arguments, message):
    status, out, err = run(heart_file, *arguments)
    assert status in (ExitStatus.INPUT, ExitStatus.ENGINE)
    assert out == ""
    assert message in err


def test_an_exam_of_floats(tmp_path):
    path = tmp_path / "floats.npy"
    np.save(path, np.random.default_rng(5).normal(size=(4, 16, 17)).astype(np.float32))
    record = measured(path, "--frames", "12", "--rate", "200", "--verify")
    assert (record["dtype"], record["verified"]["failures"]) == ("float32", 0)


def test_frames_dropped_for_a_live_view_are_told_and_the_others_checked(heart_file, monkeypatch):
    from edge_codec.bench.latency.stores import MemoryStore

    def slow(self, packet, data):
        import time

        time.sleep(0.02)
        MemoryStore._honest_send(self, packet, data)

    monkeypatch.setattr(MemoryStore, "_honest_send", MemoryStore.send, raising=False)
    monkeypatch.setattr(MemoryStore, "send", slow)
    record = measured(
        heart_file, "--policy", "drop-oldest", "--frames", "150", "--rate", "400", "--sink",
        "memory", "--warmup", "0", "--verify",
    )  # fmt: skip
    assert record["dropped"] > 0
    assert record["sent"] + record["dropped"] == 150
    assert record["verified"]["frames"] == record["sent"]
    assert record["verified"]["failures"] == 0


def test_plans_are_checked():
    with pytest.raises(SpecError, match="sink 'x' is unknown"):
        Plan(Path("heart.npy"), sink="x")
    assert plan_module.SINKS[0] == Plan(Path("heart.npy")).sink
    assert issubclass(StreamError, Exception)
