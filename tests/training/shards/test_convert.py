from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from acdc_samples import write_patients

from edge_codec.errors import SourceError
from edge_codec.training.shards import twins
from edge_codec.training.shards.convert import (
    Conversion,
    Converted,
    convert,
    find_patients,
    read_split,
)
from edge_codec.training.shards.index import Plan, read_index
from edge_codec.training.shards.twins import find_twins

COUNT = 5  # patients, in three shards


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("acdc")
    write_patients(folder, COUNT)
    return folder


@pytest.fixture(scope="module")
def whole(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("whole")
    run(source, out)
    return contents(out)


def plan_of(source: Path, **changes: Any) -> Plan:
    return replace(Plan("acdc", find_patients(source), 2, False, None, "for tests"), **changes)


def quietly(items: Iterable[Any], total: int | None, what: str) -> Iterable[Any]:
    return items


def run(source: Path, out: Path, plan: Plan | None = None, **options: Any) -> Converted:
    progress = options.pop("progress", quietly)
    return convert(plan or plan_of(source), Conversion(source, out, **options), progress)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_names_and_index(whole: dict[str, bytes]) -> None:
    assert sorted(whole) == [*(f"acdc-{number:06d}.tar" for number in range(3)), "index.json"]
    index = json.loads(whole["index.json"])
    assert [shard["n_samples"] for shard in index["shards"]] == [4, 4, 2]
    assert index["n_samples"] == 2 * COUNT
    assert index["complete"]


def test_the_number_of_workers_changes_no_byte(
    source: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    run(source, tmp_path, workers=2)
    assert contents(tmp_path) == whole


def test_times_of_files_change_no_byte(
    source: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(source, copy, copy_function=shutil.copyfile)
    run(copy, tmp_path / "out")
    assert contents(tmp_path / "out") == whole


def test_stop_and_resume(source: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    def stop(items: Iterable[Any], total: int | None, what: str) -> Iterator[Any]:
        for number, item in enumerate(items):
            yield item
            if number == 1:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(source, tmp_path, progress=stop)
    assert not read_index(tmp_path).complete
    assert run(source, tmp_path, resume=True).reused == 2
    assert contents(tmp_path) == whole
    assert run(source, tmp_path, resume=True).reused == 3
    assert contents(tmp_path) == whole


KILLED = """
import os, signal, sys
from pathlib import Path
from edge_codec.training.shards import build
from edge_codec.training.shards.convert import Conversion, convert, find_patients
from edge_codec.training.shards.index import Plan

def killed(archive, patient, plan, append=build._append_patient):
    if patient.name == "patient004":  # with half a shard written
        os.kill(os.getpid(), signal.SIGKILL)
    return append(archive, patient, plan)

build._append_patient = killed
source, out = map(Path, sys.argv[1:])
plan = Plan("acdc", find_patients(source), 2, False, None, "for tests")
convert(plan, Conversion(source, out), lambda items, total, what: items)
"""


def test_kill_and_resume(source: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-c", KILLED, str(source), str(tmp_path)]
    ended = subprocess.run(command, env=environment, timeout=120, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert any(path.suffix == ".part" for path in tmp_path.iterdir())
    assert not read_index(tmp_path).complete
    assert run(source, tmp_path, resume=True).reused == 1
    assert contents(tmp_path) == whole


def test_resume_makes_damaged_shards_again(
    source: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    run(source, tmp_path)
    shard = tmp_path / "acdc-000001.tar"
    data = bytearray(shard.read_bytes())
    data[2000] ^= 1
    shard.write_bytes(data)
    (tmp_path / "acdc-000002.tar").unlink()
    assert run(source, tmp_path, resume=True).reused == 1
    assert contents(tmp_path) == whole


@pytest.mark.parametrize("change", ["content", "new file", "lost file"])
def test_resume_sees_changed_sources(source: Path, tmp_path: Path, change: str) -> None:
    copy, out = tmp_path / "copy", tmp_path / "out"
    shutil.copytree(source, copy)
    labels = [copy / f"patient003/patient003_frame{number}_gt.nii.gz" for number in ("01", "04")]
    kept = [path.read_bytes() for path in labels]
    if change == "new file":
        for path in labels:
            path.unlink()
    run(copy, out)
    if change == "content":
        info = copy / "patient003/Info.cfg"
        info.write_text(info.read_text().replace("95.0", "96.0"))
    for path, data in zip(labels, kept, strict=True):
        if change == "new file":
            path.write_bytes(data)
        if change == "lost file":
            path.unlink()
    assert run(copy, out, resume=True).reused == 2
    again = tmp_path / "again"
    run(copy, again)
    assert contents(out) == contents(again)


def test_resume_of_another_plan(source: Path, tmp_path: Path) -> None:
    run(source, tmp_path)
    before = contents(tmp_path)
    other = plan_of(source, patients_per_shard=3, split="train")
    with pytest.raises(SourceError, match="with other patients per shard, split; give the same"):
        run(source, tmp_path, other, resume=True)
    assert contents(tmp_path) == before


def test_a_stop_during_resume_forgets_nothing(source: Path, tmp_path: Path) -> None:
    def stop(items: Iterable[Any], total: int | None, what: str) -> Iterator[Any]:
        yield next(iter(items))
        raise KeyboardInterrupt

    run(source, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run(source, tmp_path, resume=True, progress=stop)
    assert run(source, tmp_path, resume=True).reused == 3


def test_what_is_there_is_not_touched(source: Path, tmp_path: Path) -> None:
    run(source, tmp_path)
    before = contents(tmp_path)
    with pytest.raises(SourceError, match="use --resume to go on or --force"):
        run(source, tmp_path)
    assert contents(tmp_path) == before
    assert run(source, tmp_path, force=True).reused == 0
    assert contents(tmp_path) == before
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(SourceError, match=r"holds .thesis\.tex., which is no shard"):
        run(source, tmp_path, force=True)
    assert contents(tmp_path) == {**before, "thesis.tex": b"x"}


def broken(source: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "broken"
    shutil.copytree(source, copy)
    (copy / "patient002" / "Info.cfg").unlink()
    (copy / "patient003" / "patient003_frame04.nii.gz").write_bytes(b"\x1f\x8b")
    return copy


@pytest.mark.parametrize("workers", [1, 2])
def test_broken_patients_are_refused_by_name(source: Path, tmp_path: Path, workers: int) -> None:
    copy, out = broken(source, tmp_path), tmp_path / "out"
    message = "2 of 5 patients .*patient002: Info.cfg is missing.*patient003: .*--resume"
    with pytest.raises(SourceError, match=message):
        run(copy, out, workers=workers)
    index = read_index(out)
    assert not index.complete
    assert [shard.name for shard in index.shards] == ["acdc-000002.tar"]
    shutil.copyfile(source / "patient002/Info.cfg", copy / "patient002/Info.cfg")
    converted = run(copy, out, resume=True, skip_broken=True)
    assert converted.reused == 1
    assert [skipped.patient for skipped in converted.index.skipped] == ["patient003"]
    shutil.rmtree(copy / "patient003")
    shutil.copytree(source / "patient003", copy / "patient003")
    assert run(copy, out, resume=True).reused == 2


def test_skip_broken(source: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    copy = broken(source, tmp_path)
    index = run(copy, tmp_path / "out", skip_broken=True).index
    assert index.complete
    assert [patient.name for patient in index.patients] == [
        "patient001",
        "patient004",
        "patient005",
    ]
    assert [skipped.patient for skipped in index.skipped] == ["patient002", "patient003"]
    assert contents(tmp_path / "out")["acdc-000002.tar"] == whole["acdc-000002.tar"]


def test_a_shard_of_broken_patients_only(source: Path, tmp_path: Path) -> None:
    copy = broken(source, tmp_path)
    plan = plan_of(copy, patients_per_shard=1)
    names = [shard.name for shard in run(copy, tmp_path / "o", plan, skip_broken=True).index.shards]
    assert names == ["acdc-000000.tar", "acdc-000003.tar", "acdc-000004.tar"]
    only = plan_of(copy, patients=("patient002", "patient003"))
    for _ in range(2):  # nothing is left that would be in the way
        with pytest.raises(SourceError, match="2 of 2 patients cannot be converted"):
            run(copy, tmp_path / "none", only, skip_broken=True)


def test_a_shard_that_broke_later_is_gone(source: Path, tmp_path: Path) -> None:
    copy, out = tmp_path / "copy", tmp_path / "out"
    shutil.copytree(source, copy)
    run(copy, out)
    (copy / "patient005" / "Info.cfg").unlink()
    with pytest.raises(SourceError, match="1 of 5 patients"):
        run(copy, out, resume=True)
    assert sorted(contents(out)) == ["acdc-000000.tar", "acdc-000001.tar", "index.json"]


def test_more_broken_patients_than_are_named(tmp_path: Path) -> None:
    for number in range(12):
        (tmp_path / "s" / f"p{number:02d}").mkdir(parents=True)
    plan = Plan("acdc", tuple(f"p{number:02d}" for number in range(12)), 8, False, None, "none")
    with pytest.raises(SourceError, match=r"12 of 12 .*and 2 more"):
        run(tmp_path / "s", tmp_path / "out", plan)


def test_find_patients(source: Path, tmp_path: Path) -> None:
    assert find_patients(source) == tuple(f"patient{number:03d}" for number in range(1, 6))
    with pytest.raises(SourceError, match="is it an ACDC folder"):
        find_patients(tmp_path)
    (tmp_path / "training").symlink_to(source)
    with pytest.raises(SourceError, match=f"did you mean {tmp_path}/training"):
        find_patients(tmp_path)
    with pytest.raises(SourceError, match="is no folder"):
        find_patients(tmp_path / "none")


def test_an_empty_folder_among_patients_is_not_overlooked(source: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(source, copy)
    (copy / "patient006").mkdir()
    with pytest.raises(SourceError, match=r"1 of 6 .*patient006: Info.cfg is missing"):
        run(copy, tmp_path / "out")


@pytest.mark.parametrize("dataset", ["", "../x", "A", "a-b"])
def test_names_of_data_sets(source: Path, tmp_path: Path, dataset: str) -> None:
    with pytest.raises(SourceError, match="cannot begin file names"):
        run(source, tmp_path, plan_of(source, dataset=dataset))


def test_no_patient(source: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no patient is chosen"):
        run(source, tmp_path, plan_of(source, patients=()))


def test_read_split(tmp_path: Path) -> None:
    path = tmp_path / "splits.json"
    path.write_text('{"train": ["b", "a", "a"], "odd": [1], "empty": []}')
    assert read_split(f"{path}:train") == ("train", ("a", "b"))
    for argument in (f"{path}:test", f"{path}:odd", f"{path}:empty", f"{tmp_path / 'none'}:train"):
        with pytest.raises(SourceError, match="expected a JSON file such as"):
            read_split(argument)
    with pytest.raises(SourceError, match=r"expected FILE.json:NAME"):
        read_split("train")


def test_archives_of_others_are_not_deleted(source: Path, tmp_path: Path) -> None:
    (tmp_path / "backup-202401.tar").write_text("x")
    with pytest.raises(
        SourceError, match=r"has no index\.json, so that what it holds is of no conv"
    ):
        run(source, tmp_path, force=True)
    assert contents(tmp_path) == {"backup-202401.tar": b"x"}


def test_a_file_in_the_place_of_the_folder(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    with pytest.raises(SourceError, match="is no folder"):
        run(source, tmp_path / "out", force=True)


def test_patients_with_the_same_cine_are_found_in_and_out_of_the_split(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "acdc"
    shutil.copytree(source, copy)
    names = find_patients(copy)
    index = run(copy, tmp_path / "a").index
    assert find_twins(index, copy, names) == []
    for first, second in ((0, 3), (2, 4)):
        shutil.rmtree(copy / names[second])
        (copy / names[second]).mkdir()
        for path in (copy / names[first]).iterdir():
            name = path.name.replace(names[first], names[second])
            shutil.copyfile(path, copy / names[second] / name)
    index = run(copy, tmp_path / "b").index
    assert find_twins(index, copy, names) == [(names[0], names[3]), (names[2], names[4])]
    part = plan_of(copy, patients=names[3:4], split="train")
    index = run(copy, tmp_path / "c", part).index
    assert find_twins(index, copy, names) == [(names[0], names[3])]

    def refuse(path: Path) -> str:
        raise PermissionError(path)

    monkeypatch.setattr(twins, "hash_file", refuse)
    assert find_twins(index, copy, names) == []
