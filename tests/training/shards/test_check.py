from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from acdc_samples import write_patients

from edge_codec.training.shards.check import check_folder
from edge_codec.training.shards.convert import Conversion, convert, find_patients
from edge_codec.training.shards.index import FILE_NAME, Plan
from edge_codec.training.shards.patient import hash_file

SHARD = "acdc-000001.tar"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source, out = tmp_path_factory.mktemp("acdc"), tmp_path_factory.mktemp("shards")
    write_patients(source, 4)
    plan = Plan("acdc", find_patients(source), 2, False, None, "for tests")
    convert(plan, Conversion(source, out), lambda items, total, what: items)
    return out


@pytest.fixture
def shards(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "copy"))


def problems(folder: Path) -> list[str]:
    return check_folder(folder, lambda items, total, what: items)[1]


def change_shard(folder: Path, **changes: Any) -> None:
    path = folder / FILE_NAME
    content = json.loads(path.read_text())
    content["shards"][1].update(changes)
    path.write_text(json.dumps(content))


def test_all_is_well(shards: Path) -> None:
    assert problems(shards) == []


def test_missing_and_foreign_shards(shards: Path) -> None:
    (shards / SHARD).rename(shards / "acdc-000007.tar")
    found = problems(shards)
    assert found == [
        "acdc-000007.tar is not in the index; it is of another conversion",
        f"{SHARD} is missing",
    ]


def test_size(shards: Path) -> None:
    with (shards / SHARD).open("ab") as file:
        file.write(b"x")
    [problem] = problems(shards)
    assert problem.startswith(f"{SHARD} has ")


def test_every_byte_counts(shards: Path) -> None:
    path = shards / SHARD
    data = bytearray(path.read_bytes())
    data[-1] ^= 1  # after the last sample
    path.write_bytes(data)
    assert problems(shards) == [
        f"{SHARD} has another SHA-256 than the index says: its bytes changed"
    ]


def test_a_damaged_sample_is_named(shards: Path) -> None:
    path = shards / SHARD
    data = bytearray(path.read_bytes())
    data[data.index(b"\x93NUMPY")] ^= 1
    path.write_bytes(data)
    change_shard(shards, sha256=hash_file(path))
    [problem] = problems(shards)
    assert problem.startswith(f"{SHARD}: sample patient003-s00 is damaged")


def test_index_of_other_samples(shards: Path) -> None:
    content = json.loads((shards / FILE_NAME).read_text())["shards"][1]
    change_shard(shards, samples=content["samples"][:-1])
    assert problems(shards) == [
        f"{SHARD} has other samples in the index than its patients have slices"
    ]
    patients = [{**patient, "shape": [2, 6, 12, 11]} for patient in content["patients"]]
    change_shard(shards, samples=content["samples"], patients=patients)
    found = problems(shards)
    assert len(found) == 4
    assert "the index says (6, 12, 11)" in found[0]


def test_incomplete(shards: Path) -> None:
    path = shards / FILE_NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), "complete": False}))
    assert problems(shards) == ["the conversion did not come to its end; go on with --resume"]


def test_patients_of_more_slices_than_there_are_samples(shards: Path) -> None:
    path = shards / FILE_NAME
    content = json.loads(path.read_text())
    content["shards"][1]["patients"][0]["shape"][0] = 1 << 40
    path.write_text(json.dumps(content))
    [problem] = problems(shards)
    assert problem == f"{SHARD} has other samples in the index than its patients have slices"
