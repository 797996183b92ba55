"""`edge-codec bench rd`, run in process: what it prints, writes and returns."""

import importlib.util
import io
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from edge_codec.bench.rd import codecs
from edge_codec.bench.rd.trial import Coded
from edge_codec.cli import Console, main
from edge_codec.exit_status import ExitStatus

QUICK = "edge-codec-fast,jpeg-ls,jpeg-2000,gzip"
FILES = {
    "rd.jsonl", "table.md", "bd_rate.md", "rd_heart.svg", "rd_heart.png", "lossless_heart.svg",
    "lossless_heart.png",
}  # fmt: skip


def run(*arguments):
    """Run the benchmark and return (status, stdout, stderr)."""
    console = Console(io.StringIO(), io.StringIO())
    status = main(["bench", "rd", *map(str, arguments)], console)
    return status, console.out.getvalue(), console.err.getvalue()


def records(text):
    return [json.loads(line) for line in text.splitlines()]


def test_the_whole_of_it(heart_file, tmp_path):
    out = tmp_path / "made" / "here"
    chosen = ("--codecs", QUICK, "--anchor", "jpeg-2000")
    status, text, err = run(heart_file, *chosen, "--out", out)
    assert (status, err) == (ExitStatus.OK, "")
    assert text.startswith("heart: slices x phases 2 x 3 of 66x65 pixels, ")
    assert {path.name for path in out.iterdir()} == FILES
    rows = records((out / "rd.jsonl").read_text())
    kinds = [row["record"] for row in rows]
    assert kinds[:3] == ["run", "case", "result"]
    assert rows[0]["imagecodecs"]
    assert rows[0]["threads"] == 1
    results = [row for row in rows if row["record"] == "result"]
    assert {row["codec"] for row in results} == set(QUICK.split(","))
    assert {row["status"] for row in results} == {"ok"}
    found = {
        row["codec"]: row
        for row in rows
        if row["record"] == "difference" and row["asked_range_db"] is None
    }
    assert found["jpeg-ls"]["anchor"] == "jpeg-2000"
    assert found["jpeg-ls"]["bd_rate_percent"] > 0
    table = (out / "table.md").read_text()
    assert table.count("| jpeg-ls |") == 7
    assert f"imagecodecs {rows[0]['imagecodecs']}" in table
    assert "| jpeg-ls | +" in (out / "bd_rate.md").read_text()
    for path in (*out.glob("*.md"), out / "rd.jsonl"):
        assert str(tmp_path) not in path.read_text()
        assert str(heart_file.parent) not in path.read_text()

    before = (out / "rd_heart.svg").read_bytes()
    status, _, err = run(heart_file, *chosen, "--out", out)
    assert status == ExitStatus.INPUT
    assert "use --resume to go on with it or --force" in err
    status, _, _ = run(
        heart_file, "--codecs", "jpeg-ls", "--tier", "bounded", "--out", out, "--force"
    )
    assert status == ExitStatus.OK
    assert (out / "rd_heart.svg").read_bytes() != before
    assert "n/a: x265-low-delay has no curve" in (out / "bd_rate.md").read_text()


def test_a_run_goes_on_where_another_ended(heart_file, tmp_path):
    chosen = (heart_file, "--tier", "bounded", "--out", tmp_path, "--anchor", "jpeg-ls")
    assert run(*chosen, "--codecs", "jpeg-ls")[0] == ExitStatus.OK
    before = records((tmp_path / "rd.jsonl").read_text())
    status, text, _ = run(
        *chosen, "--codecs", "jpeg-ls,edge-codec-fast", "--resume", "--ranges", "40-50"
    )
    assert status == ExitStatus.OK
    assert "| edge-codec-fast | " in text  # compared with what was measured before
    rows = records((tmp_path / "rd.jsonl").read_text())
    assert [row["record"] for row in rows[:2]] == ["run", "run"]
    old = [row for row in before if row["record"] == "result"]
    assert [row for row in rows if row.get("run") == 0] == old
    assert {row["codec"] for row in rows if row.get("run") == 1} == {"edge-codec-fast"}
    asked = {str(row["asked_range_db"]) for row in rows if row["record"] == "difference"}
    assert asked == {"None", "[40.0, 50.0]"}
    assert "40 to 50 dB" in (tmp_path / "bd_rate.md").read_text()
    assert (tmp_path / "table.md").read_text().count("| jpeg-ls |") == 6


def test_crops_are_cases_of_their_own(heart_file, tmp_path):
    quick = ("--codecs", "gzip", "--out", tmp_path)
    assert run(heart_file, *quick)[0] == ExitStatus.OK
    status, text, _ = run(heart_file, *quick, "--crop", "heart", "--resume", "--json")
    assert status == ExitStatus.OK
    rows = records(text)
    assert [row["case"] for row in rows[1:]] == ["heart-heart"] * 2
    assert rows[1]["part"].startswith("heart crop 64x64 at row ")
    assert "## heart-heart" in (tmp_path / "table.md").read_text()


def test_json_lines_of_a_part(heart_file):
    status, text, err = run(
        heart_file, "--json", "--codecs", "gzip, edge-codec", "--tier", "lossless", "--phases", 2,
        "--slices", 2,
    )  # fmt: skip
    rows = records(text)
    assert (status, err) == (ExitStatus.OK, "")
    assert [row["record"] for row in rows] == ["run", "case", "result", "result"]
    assert rows[1]["part"] == "2 of 3 phases, 1 of 2 slices"
    assert rows[1]["shape_slice_phase_row_column"] == [1, 2, 66, 65]
    assert [row["codec"] for row in rows[2:]] == ["edge-codec", "gzip"]


def test_cases_of_one_name_are_told_apart(heart_file, tmp_path):
    copy = tmp_path / "other" / heart_file.name
    copy.parent.mkdir()
    shutil.copy(heart_file, copy)
    status, text, _ = run(heart_file, copy, "--json", "--codecs", "gzip")
    assert status == ExitStatus.OK
    assert [row["case"] for row in records(text) if row["record"] == "case"] == [
        "heart-1",
        "heart-2",
    ]


@pytest.fixture
def lying_gzip(monkeypatch):
    """Let the codec named gzip decode one voxel wrongly."""
    honest = codecs.all_codecs()["gzip"]

    def lie(trial):
        def code(case):
            coded: Coded = trial.code(case)
            voxels = coded.voxels.copy()
            voxels[-1, -1, -1, -1] += 1
            return replace(coded, voxels=voxels)

        return replace(trial, code=code)

    lying = replace(honest, trials=lambda threads: [lie(t) for t in honest.trials(threads)])
    known = {**codecs.all_codecs(), "gzip": lying}
    monkeypatch.setattr(codecs, "all_codecs", lambda: known)


@pytest.mark.usefixtures("lying_gzip")
def test_a_lying_codec_ends_the_run_with_a_status_of_its_own(heart_file, tmp_path):
    status, text, _ = run(heart_file, "--codecs", "gzip,edge-codec", "--tier", "lossless")
    assert status == ExitStatus.UNVERIFIED
    assert "failed: a voxel is off by 1, every voxel must come back exactly" in text
    assert "exact" in text  # the others are still measured
    assert run(heart_file, "--codecs", "gzip", "--out", tmp_path)[0] == ExitStatus.UNVERIFIED
    assert "failed: a voxel is off by 1" in (tmp_path / "table.md").read_text()


def test_list_names_every_codec():
    status, text, _ = run("--list")
    assert status == ExitStatus.OK
    assert [line.split()[0] for line in text.splitlines()] == list(codecs.all_codecs())
    assert [row["codec"] for row in records(run("--list", "--json")[1])] == list(
        codecs.all_codecs()
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--codecs", "vvc"], "codec 'vvc' is unknown"),
        (["--codecs", "gzip", "--anchor", "x265-low-delay"], "is not among the codecs"),
        (["--codecs", "gzip", "--phases", "0"], None),
        (["--codecs", "gzip", "--ranges", "50-40"], None),
        (["--codecs", "gzip", "--ranges", "40"], None),
        (["--codecs", "gzip", "--resume"], "name it with --out"),
    ],
)
def test_wrong_options(heart_file, arguments, message, capfd):
    status, text, err = run(heart_file, *arguments)
    assert text == ""
    assert (status, capfd.readouterr().err != "") in (
        (ExitStatus.INPUT, False),
        (ExitStatus.USAGE, True),
    )
    assert message is None or (message in err and err.count("\n") == 1)


def test_no_volume_and_a_wrong_one(tmp_path, heart_file):
    assert "no volume is given" in run()[2]
    status, text, err = run(heart_file, tmp_path / "none.nii", "--codecs", "gzip")
    assert (status, text) == (ExitStatus.INPUT, "")
    assert "does not exist" in err


def test_a_missing_library_is_said_before_anything_is_measured(heart_file, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in ("av", "scipy") else find(name)
    )
    status, text, err = run(heart_file)
    assert (status, text) == (ExitStatus.ENGINE, "")
    assert "bench rd needs av: pip install 'edge-codec[bench]'" in err
    status, _, err = run(heart_file, "--codecs", "gzip", "--out", tmp_path / "new")
    assert "bench rd --out needs scipy" in err
    assert not (tmp_path / "new").exists()
    assert "missing, pip install" in run("--list")[1]


def test_verbose_may_stand_behind_the_benchmark(heart_file):
    assert run(heart_file, "--codecs", "gzip", "--verbose")[0] == ExitStatus.OK


def test_an_exam_without_motion_or_noise(tmp_path):
    np.save(tmp_path / "flat.npy", np.full((2, 8, 8), 7, np.int16))
    status, text, err = run(tmp_path / "flat.npy", "--codecs", "edge-codec,jpeg-ls,gzip")
    assert (status, err) == (ExitStatus.OK, "")
    assert text.count("exact") >= 3
