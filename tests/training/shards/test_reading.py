from __future__ import annotations

import gc
import json
import pickle
import shutil
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from acdc_samples import COLUMNS, PHASES, ROWS, write_patients

from edge_codec.errors import SourceError
from edge_codec.training.shards.convert import Conversion, convert, find_patients
from edge_codec.training.shards.index import FILE_NAME, Plan
from edge_codec.training.shards.patient import read_patient
from edge_codec.training.shards.reading import ShardFolder, read_shards

SAMPLES = 10


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("acdc")
    write_patients(folder, 5)
    return folder


@pytest.fixture(scope="module")
def shards(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shards(source, tmp_path_factory.mktemp("shards"))


def make_shards(source: Path, out: Path) -> Path:
    plan = Plan("acdc", find_patients(source), 2, False, "train", "for tests")
    convert(plan, Conversion(source, out), lambda items, total, what: items)
    return out


def keys(*args: object, **options: object) -> list[str]:
    return [cine.key for cine in read_shards(*args, **options)]  # type: ignore[arg-type]


def test_voxels_are_those_of_the_source(source: Path, shards: Path) -> None:
    found = list(read_shards(shards))
    assert [cine.key for cine in found] == [
        f"patient{patient:03d}-s{number:02d}" for patient in range(1, 6) for number in range(2)
    ]
    for cine in found:
        patient = read_patient(source / cine.patient, partial=False)
        np.testing.assert_array_equal(cine.voxels, patient.voxels[cine.slice_index])
        assert cine.labels is not None
        for phase, labels in zip(cine.label_phases, cine.labels, strict=True):
            np.testing.assert_array_equal(labels, patient.labels[phase][cine.slice_index])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the library leaves files open
def test_the_public_library_reads_them(shards: Path) -> None:
    webdataset = pytest.importorskip("webdataset", reason="extra dev")
    pattern = str(shards / "acdc-{000000..000002}.tar")
    public = list(webdataset.WebDataset(pattern, shardshuffle=False).decode())
    gc.collect()  # while the filter of this test holds
    ours = list(read_shards(shards))
    assert len(public) == len(ours) == SAMPLES
    for sample, cine in zip(public, ours, strict=True):
        assert sample["__key__"] == cine.key
        np.testing.assert_array_equal(sample["npy"], cine.voxels)
        np.testing.assert_array_equal(sample["labels.npy"], cine.labels)
        assert sample["json"]["group"] == cine.group == "DCM"


def test_seeds_and_epochs(shards: Path) -> None:
    plain = keys(shards)
    first = keys(shards, seed=1)
    assert sorted(first) == plain
    assert first != plain
    assert keys(shards, seed=1) == first
    assert keys(shards, seed=2) != first
    three = [cine.key for cine in islice(read_shards(shards, seed=1, repeat=True), 3 * SAMPLES)]
    epochs = [three[start : start + SAMPLES] for start in range(0, 3 * SAMPLES, SAMPLES)]
    assert epochs[0] == first
    assert all(sorted(epoch) == plain for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


@pytest.mark.parametrize("part", [(0, 1), (1, 3)])
@pytest.mark.parametrize("seed", [None, 7])
@pytest.mark.parametrize("start", [0, 1, 3, 4, 9, 10, 25])
def test_a_position_is_a_number(
    shards: Path, seed: int | None, start: int, part: tuple[int, int]
) -> None:
    folder = ShardFolder(shards)
    options = {"seed": seed, "repeat": True, "part": part}
    whole = [cine.key for cine in islice(read_shards(folder, **options), start + 12)]
    rest = [cine.key for cine in islice(read_shards(folder, start=start, **options), 12)]
    assert rest == whole[start:]


def test_without_repeat_a_position_behind_the_end_gives_nothing(shards: Path) -> None:
    assert keys(shards, start=SAMPLES - 1) == keys(shards)[-1:]
    assert keys(shards, start=SAMPLES) == []
    assert keys(shards, start=3 * SAMPLES) == []


@pytest.mark.parametrize("count", [1, 2, 3, SAMPLES])
def test_workers_deal_every_epoch_out(shards: Path, count: int) -> None:
    parts = [keys(shards, seed=3, part=(number, count)) for number in range(count)]
    assert Counter(key for part in parts for key in part) == Counter(keys(shards))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("part", [(0, 0), (1, 1), (-1, 2)])
def test_impossible_parts(shards: Path, part: tuple[int, int]) -> None:
    with pytest.raises(SourceError, match=r"no worker .* count from 0"):
        read_shards(shards, part=part)


def test_too_many_workers(shards: Path) -> None:
    with pytest.raises(SourceError, match="10 samples are too few for worker 10 of 11"):
        read_shards(shards, repeat=True, part=(10, 11))


def test_negative_position(shards: Path) -> None:
    with pytest.raises(SourceError, match="position -1"):
        read_shards(shards, start=-1)


def test_chosen_patients(shards: Path) -> None:
    folder = ShardFolder(shards, ["patient004", "patient002"])
    assert len(folder) == 4
    assert {cine.patient for cine in read_shards(folder, seed=1)} == {"patient002", "patient004"}
    with pytest.raises(SourceError, match="has no patient patient009"):
        ShardFolder(shards, ["patient001", "patient009"])


def test_as_a_data_set_of_pytorch(shards: Path) -> None:
    torch = pytest.importorskip("torch")
    folder = pickle.loads(pickle.dumps(ShardFolder(shards)))  # as sent to worker processes
    loader = torch.utils.data.DataLoader(folder, batch_size=2, collate_fn=list, shuffle=True)
    batches = list(loader)
    assert sorted(cine.key for batch in batches for cine in batch) == keys(shards)
    assert batches[0][0].voxels.shape == (PHASES, ROWS, COLUMNS)
    with pytest.raises(IndexError):
        folder[SAMPLES]


def test_split_is_told(shards: Path) -> None:
    assert ShardFolder(shards).index.plan.split == "train"


@pytest.mark.parametrize("damage", ["missing", "cut", "changed"])
def test_damaged_shards(source: Path, tmp_path: Path, damage: str) -> None:
    shard = make_shards(source, tmp_path) / "acdc-000001.tar"
    data = bytearray(shard.read_bytes())
    if damage == "changed":
        data[0] ^= 1
    shard.write_bytes(data[: len(data) // 3] if damage == "cut" else data)
    if damage == "missing":
        shard.unlink()
    with pytest.raises(SourceError, match=r"acdc-000001.tar cannot be read: .*data check"):
        keys(tmp_path)


def test_incomplete_folder(source: Path, tmp_path: Path) -> None:
    make_shards(source, tmp_path)
    change_index(tmp_path, complete=False)
    with pytest.raises(SourceError, match=r"is incomplete; go on with: .*--resume"):
        ShardFolder(tmp_path)


def change_index(folder: Path, **changes: object) -> None:
    path = folder / FILE_NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "version 2, expected .* version 1; convert again"),
        ({"format": "other"}, "is 'other' version 1"),
        ({"plan": {}}, "is damaged"),
        ({"shards": [{}]}, "is damaged"),
        ({"shards": 3}, "is damaged"),
    ],
)
def test_index_that_is_not_ours(
    source: Path, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    make_shards(source, tmp_path)
    change_index(tmp_path, **changes)
    with pytest.raises(SourceError, match=message):
        ShardFolder(tmp_path)


@pytest.mark.parametrize(
    "shard",
    [
        {"name": "../acdc-000000.tar"},
        {"samples": [{"key": "a-s00", "offset": -512, "size": 1024}]},
        {"samples": [{"key": "a-s00", "offset": 0, "size": 1 << 40}]},
        {"samples": [{"key": "a-s00", "offset": 0, "size": 0}]},
    ],
)
def test_index_that_points_elsewhere(
    source: Path, tmp_path: Path, shard: dict[str, object]
) -> None:
    make_shards(source, tmp_path)
    first = json.loads((tmp_path / FILE_NAME).read_text())["shards"][0]
    change_index(tmp_path, shards=[{**first, **shard}])
    with pytest.raises(SourceError, match="is damaged"):
        ShardFolder(tmp_path)


def test_no_index(tmp_path: Path) -> None:
    with pytest.raises(
        SourceError, match=f"make shards with: edge-codec data convert SRC {tmp_path}"
    ):
        ShardFolder(tmp_path)
    (tmp_path / FILE_NAME).write_text("[")
    with pytest.raises(SourceError, match="is damaged"):
        ShardFolder(tmp_path)


def change_record(folder: Path, place: str, number: int, **changes: object) -> None:
    path = folder / FILE_NAME
    content = json.loads(path.read_text())
    content["shards"][0][place][number].update(changes)
    content["shards"][0]["size"] = 1 << 50
    path.write_text(json.dumps(content))


def test_sizes_are_compared_before_memory_is_asked_for(shards: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(shards, tmp_path / "copy"))
    change_record(copy, "samples", 0, size=1 << 45)
    with pytest.raises(SourceError, match=r"ends within sample patient001-s00"):
        ShardFolder(copy)[0]


@pytest.mark.parametrize(
    ("place", "changes"),
    [
        ("samples", {"offset": 0.0}),
        ("samples", {"size": "512"}),
        ("patients", {"shape": []}),
        ("patients", {"shape": [2, 6, 0, 10]}),
        ("patients", {"label_phases": [float("inf")]}),
    ],
)
def test_index_that_states_the_impossible(
    shards: Path, tmp_path: Path, place: str, changes: dict[str, object]
) -> None:
    copy = Path(shutil.copytree(shards, tmp_path / "copy"))
    change_record(copy, place, 0, **changes)
    with pytest.raises(SourceError, match="is damaged"):
        ShardFolder(copy)


def test_index_that_is_too_deep(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("[" * 100_000)
    with pytest.raises(SourceError, match="is damaged"):
        ShardFolder(tmp_path)
