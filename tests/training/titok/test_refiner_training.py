"""Pairs of original and decoded cines, and the training and export of the refinement on them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from titok_training_samples import stage_content, write_hearts

from edge_codec.errors import SourceError
from edge_codec.export import titok_refiner
from edge_codec.manifest import ZOO
from edge_codec.nn import cine_refiner
from edge_codec.training.titok import refiner, refiner_pairs
from edge_codec.training.titok.refiner_pairs import read_pair


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Path:
    """Two rounds of three beating hearts through the shipped networks; the third is held out."""
    folder = tmp_path_factory.mktemp("pairs")
    config = folder / "titok.yaml"
    config.write_text(yaml.safe_dump(stage_content("whole")), encoding="utf-8")
    arguments = ["--config", str(config), "--data", str(write_hearts(folder)), "--rounds", "2",
                 "--workers", "1", "--out", str(folder / "out")]  # fmt: skip
    refiner_pairs.main(arguments)
    before = {path: path.stat().st_mtime_ns for path in (folder / "out").rglob("*.npz")}
    missing = min(before)
    missing.unlink()
    refiner_pairs.main(arguments)  # goes on with what is missing
    after = {path: path.stat().st_mtime_ns for path in (folder / "out").rglob("*.npz")}
    assert {path for path in before if before[path] != after[path]} == {missing}
    return folder / "out"


def test_pairs_are_a_cine_and_what_is_left_of_it(pairs):
    train, held_out = (sorted((pairs / name).glob("*.npz")) for name in refiner_pairs.NAMES)
    assert (len(train), len(held_out)) == (4, 1)
    pair = read_pair(held_out[0])
    assert pair.original.shape == pair.decoded.shape == pair.heart.shape == (6, 128, 128)
    assert pair.inside.shape == (128, 128)
    assert pair.heart.any()
    assert not pair.heart.all()
    error = (pair.original.astype(float) - pair.decoded)[:, pair.inside]
    assert 1 < np.sqrt(np.square(error).mean()) < 40  # window codes: lossy, and no other frame
    late, first = np.square(error[-1]).mean(), np.square(error[0]).mean()
    assert late < first
    changed = read_pair(train[-1])
    assert not np.array_equal(changed.original[0], read_pair(train[1]).original[0])


def test_what_is_no_pair_is_named(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(SourceError, match=r"a\.npz holds no pair"):
        read_pair(tmp_path / "a.npz")
    with pytest.raises(SourceError, match="no pairs to train on"):
        refiner.main(["--pairs", str(tmp_path / "none"), "--out", str(tmp_path / "out")])


@pytest.fixture
def small(monkeypatch) -> None:
    """Networks of eight channels."""
    config = cine_refiner.RefinerConfig(fine=8, middle=8)
    monkeypatch.setattr(refiner, "RefinerConfig", lambda: config)


def options(pairs: Path, out: Path, steps: int) -> list[str]:
    return ["--pairs", str(pairs), "--out", str(out), "--steps", str(steps), "--threads", "1",
            "--validate-every", "50"]  # fmt: skip


@pytest.mark.usefixtures("small")
def test_training_goes_on_where_it_was_stopped(pairs, tmp_path):
    torch.manual_seed(0)
    found = sorted((pairs / "train").glob("*.npz"))
    schedule = refiner.RefinerOptions(steps=4, learning_rate=1e-3, validate_every=4, seed=0)
    whole = refiner.RefinerTrainer(schedule, found, tmp_path)
    for _ in range(2):
        whole.train_step()
    whole.save()
    rest = [whole.train_step() for _ in range(2)]
    resumed = refiner.RefinerTrainer(schedule, found, tmp_path)
    resumed.resume()
    assert [resumed.train_step() for _ in range(2)] == rest
    for one, other in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other)
    (tmp_path / "checkpoint.pt").unlink()
    torch.save({"step": 1}, tmp_path / "checkpoint.pt")
    with pytest.raises(SourceError, match="cannot resume"):
        resumed.resume()


@pytest.mark.usefixtures("small")
def test_training_learns_and_the_export_says_what(pairs, tmp_path):
    out, zoo = tmp_path / "out", tmp_path / "titok"
    refiner.main(options(pairs, out, 250))
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    validated = [row["validation"] for row in rows if "validation" in row]
    assert validated[-1]["after"]["psnr"] > validated[-1]["before"]["psnr"] + 0.2
    shutil.copytree(ZOO / "titok", zoo)
    titok_refiner.main(
        ["--checkpoint", str(out / "averaged.pt"), "--pairs", str(pairs), "--zoo", str(zoo)]
    )
    manifest = json.loads((zoo / "manifest.json").read_text())
    measured = manifest["refiner"]["measured"]
    assert manifest["refiner"]["steps"] == 250
    assert measured["held_out_cines"] == 1
    assert measured["after"]["psnr_db"] > measured["before"]["psnr_db"] + 0.2
    assert measured["largest_difference"] < 0.01
    assert "Refinement of whole cines" in (zoo / "MODEL_CARD.md").read_text(encoding="utf-8")


def test_only_refinements_are_exported(tmp_path):
    torch.save({"config": {}, "state": {}, "step": 0}, tmp_path / "averaged.pt")
    with pytest.raises(SourceError, match="no refinement"):
        titok_refiner.load_refiner(tmp_path / "averaged.pt")


def test_squares_are_cut_the_same_from_all_frames(pairs):
    pair = read_pair(sorted((pairs / "train").glob("*.npz"))[0])
    numbered = np.arange(128 * 128).reshape(128, 128) % 251
    every = np.broadcast_to(numbered.astype(np.uint8), pair.original.shape)
    batch = refiner.tensors(replace(pair, original=every.copy(), decoded=every.copy()))
    cut = refiner._changed(batch, np.random.default_rng(3))
    assert cut.original.shape == (len(every), 1, 64, 64)
    assert torch.equal(cut.original, cut.decoded)
    assert torch.equal(cut.original[0], cut.original[-1])
