"""`edge-codec bench kernels` and the frame of the GPU proof, as far as they go without a GPU."""

import io
import json

import pytest

from benchmarks.gpu_proof.__main__ import SECTIONS
from benchmarks.gpu_proof.__main__ import main as prove
from benchmarks.gpu_proof.section import Setting, SkippedError, rows, text
from edge_codec.bench.kernels import catalog
from edge_codec.bench.kernels.case import KernelCase
from edge_codec.bench.kernels.timing import Ceilings
from edge_codec.cli import Console, main
from edge_codec.errors import EngineError
from edge_codec.exit_status import ExitStatus

SETTING = Setting(interpret=True, seed=0)


def run(*arguments):
    console = Console(io.StringIO(), io.StringIO())
    status = main(["bench", "kernels", *arguments], console)
    return status, console.out.getvalue(), console.err.getvalue()


def test_kernels_are_checked_without_a_gpu(tmp_path):
    records = tmp_path / "records.jsonl"
    status, out, _ = run(
        "--interpret", "--kernels", "normalize,rans", "--json", "--out", str(records)
    )
    assert status == ExitStatus.OK
    found = [json.loads(line) for line in out.splitlines()]
    assert {row["kernel"] for row in found} == {"normalize", "rans"}
    assert all(row["agreement"] for row in found)
    assert [json.loads(line) for line in records.read_text().splitlines()] == found


def test_a_table_is_printed_for_people():
    _, out, _ = run("--interpret", "--kernels", "normalize")
    head, *lines = out.splitlines()
    assert head.startswith("kernel")
    assert lines
    assert all(line.startswith("normalize\t") for line in lines)


def test_timing_without_a_gpu_is_refused():
    status, _, err = run()
    assert status == ExitStatus.ENGINE
    assert "--interpret" in err


def test_an_unknown_kernel_is_refused():
    status, _, err = run("--interpret", "--kernels", "nothing")
    assert status == ExitStatus.ENGINE
    assert "no kernel nothing" in err


def test_a_wrong_kernel_is_an_error(monkeypatch):
    def check():
        raise EngineError("3 of 5 differ")

    case = KernelCase("normalize", "1", "u8", lambda: None, check, 1, 0, "none")
    monkeypatch.setattr(catalog, "cases", lambda *_: iter([case]))
    status, _, err = run("--interpret")
    assert status == ExitStatus.ENGINE
    assert "3 of 5 differ" in err


def test_the_floor_is_the_larger_of_bytes_and_operations():
    ceilings = Ceilings(1e12, {"f16": 1e14})
    assert ceilings.floor_ms(10**9, 10**10, "f16") == pytest.approx(1.0)
    assert ceilings.floor_ms(10**9, 10**12, "f16") == pytest.approx(10.0)
    assert ceilings.floor_ms(10**9, 10**12, "none") == pytest.approx(1.0)


def test_a_failing_section_says_how_and_where():
    def section(setting):
        yield {"seed": setting.seed}
        raise EngineError("it broke")

    good, bad = rows("made", section, SETTING)
    assert good == {"section": "made", "status": "ok", "seed": 0}
    assert bad["status"] == "FAILED"
    assert bad["why"] == "EngineError: it broke"
    assert "test_kernels_command.py" in bad["calls"]
    assert "/" not in bad["calls"]


def test_a_skipped_section_is_no_failure():
    def section(setting):
        raise SkippedError("no TensorRT")
        yield setting

    (row,) = rows("made", section, SETTING)
    assert row == {"section": "made", "status": "skipped", "why": "no TensorRT"}


def test_rows_are_one_line():
    row = {"kernel": "rans", "warm_ms": {"p20": 1.0, "p50": 2.0, "p80": 3.0}, "of": {"a": 0.5}}
    assert text(row) == "kernel=rans  warm_ms=2  of={a 0.5}"


@pytest.mark.slow
def test_the_proof_runs_without_a_gpu(tmp_path, capsys):
    out = tmp_path / "proof.jsonl"
    assert prove(["--interpret", "--json", "--out", str(out), "--seed", "1"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["section"] for row in found} == set(SECTIONS)
    assert not out.exists()
