from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from acdc_samples import write_patients

from edge_codec.cli import Console, main
from edge_codec.exit_status import ExitStatus


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write_patients(tmp_path / "acdc", 3)
    return tmp_path / "acdc"


def data(*arguments: object) -> tuple[int, str, str]:
    console = Console(io.StringIO(), io.StringIO())
    status = main(["data", *map(str, arguments)], console)
    return status, console.out.getvalue(), console.err.getvalue()


def converted(*arguments: object) -> dict[str, Any]:
    status, out, err = data("convert", *arguments, "--workers", 1, "--json")
    assert status == ExitStatus.OK, err
    fields: dict[str, Any] = json.loads(out)
    return fields


def test_convert_check_and_list(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "shards"
    fields = converted(source, out, "--patients-per-shard", 2)
    assert fields["patients"] == 3
    assert fields["groups"] == "DCM 3"
    assert (fields["samples"], fields["labeled_samples"], fields["frames"]) == (6, 6, 36)
    assert fields["bytes"] == sum(path.stat().st_size for path in out.glob("*.tar"))
    assert fields["license"].startswith("CC BY-NC-SA 4.0")
    assert data("check", out)[:2] == (0, "2 shards, 6 samples: all as the index says\n")
    status, text, _ = data("list", out)
    assert status == ExitStatus.OK
    assert text.splitlines()[1].split() == (
        ["patient001", "DCM", "2", "6", "12", "10", "2", "acdc-000000.tar"]
    )
    rows = json.loads(data("list", out, "--json")[1])["rows"]
    assert [row["patient"] for row in rows] == ["patient001", "patient002", "patient003"]


def test_the_same_cine_under_two_names_is_said(source: Path, tmp_path: Path) -> None:
    twin = source / "patient009"
    twin.mkdir()
    for path in (source / "patient001").iterdir():
        shutil.copyfile(path, twin / path.name.replace("patient001", "patient009"))
    split = tmp_path / "split.json"
    split.write_text('{"train": ["patient001", "patient002"], "test": ["patient009"]}')
    out = tmp_path / "shards"
    status, text, err = data("convert", source, out, "--split", f"{split}:train", "--json")
    assert status == ExitStatus.OK
    assert "patient001 and patient009 are the same cine; keep them in one split" in err
    assert json.loads(text)["same_cines"] == ["patient001 and patient009"]


def test_resume_and_force(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "shards"
    converted(source, out)
    status, _, err = data("convert", source, out)
    assert status == ExitStatus.INPUT
    assert "use --resume to go on or --force" in err
    assert converted(source, out, "--resume")["kept_shards"] == 1
    assert converted(source, out, "--force")["kept_shards"] == 0


def test_split(source: Path, tmp_path: Path) -> None:
    splits = tmp_path / "splits.json"
    splits.write_text('{"train": ["patient003", "patient001", "SCD01"], "none": ["SCD01"]}')
    fields = converted(source, tmp_path / "a", "--split", f"{splits}:train")
    assert (fields["split"], fields["patients"], fields["not_in_source"]) == ("train", 2, 1)
    status, _, err = data("convert", source, tmp_path / "b", "--split", f"{splits}:none")
    assert status == ExitStatus.INPUT
    assert "has no patient of --split" in err


def test_chosen_patients(source: Path, tmp_path: Path) -> None:
    chosen = "patient003, patient001,"
    assert converted(source, tmp_path / "a", "--patients", chosen)["patients"] == 2
    status, _, err = data("convert", source, tmp_path / "b", "--patients", "patient009")
    assert status == ExitStatus.INPUT
    assert "has no patient patient009" in err


def test_broken_patients(source: Path, tmp_path: Path) -> None:
    (source / "patient002" / "Info.cfg").unlink()
    out = tmp_path / "shards"
    status, _, err = data("convert", source, out, "--workers", 1)
    assert status == ExitStatus.INPUT
    assert "1 of 3 patients cannot be converted: patient002: Info.cfg is missing" in err
    status, text, err = data("convert", source, out, "--workers", 1, "--skip-broken", "--json")
    assert status == ExitStatus.OK
    assert json.loads(text)["left_out"] == 1
    assert "left out patient002: Info.cfg is missing" in err
    fields = converted(
        source, tmp_path / "p", "--partial", "--dataset", "mine", "--license", "ours"
    )
    assert (fields["left_out"], fields["license"]) == (0, "ours")


def test_check_of_damage(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "shards"
    converted(source, out)
    (out / "acdc-000000.tar").unlink()
    status, text, _ = data("check", out)
    assert status == ExitStatus.DAMAGED
    assert text.splitlines() == ["acdc-000000.tar is missing", "1 shards, 6 samples: 1 problems"]
    assert json.loads(data("check", out, "--json")[1])["problems"] == ["acdc-000000.tar is missing"]
    assert data("check", tmp_path)[0] == ExitStatus.INPUT


def test_usage() -> None:
    assert data("convert")[0] == ExitStatus.USAGE
    assert data("convert", "a", "b", "--workers", "0")[0] == ExitStatus.USAGE
    assert data("convert", "a", "b", "--resume", "--force")[0] == ExitStatus.USAGE
