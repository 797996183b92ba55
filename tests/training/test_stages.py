"""Stages train, resume to the bit, start from each other, and are measured over whole groups."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
yaml = pytest.importorskip("yaml")

import edge_codec.training  # noqa: E402
from edge_codec.errors import SourceError, SpecError, TrainingError  # noqa: E402
from edge_codec.nn.dwt_cal import DwtCal, DwtCalConfig, Rollout  # noqa: E402
from edge_codec.nn.quality import trade_off  # noqa: E402
from edge_codec.training import curves, stages  # noqa: E402
from edge_codec.training.curves import load_model, volume_point  # noqa: E402
from edge_codec.training.gradient_guard import MOST_IN_A_ROW  # noqa: E402
from edge_codec.training.pack import CineSequence, sequences_of, write_pack  # noqa: E402
from edge_codec.training.rate_distortion import GroupOffsets, group_loss  # noqa: E402
from edge_codec.training.stages import StageConfig, Trainer, read_config, train  # noqa: E402

CONFIGS = Path(edge_codec.training.__file__).parent / "configs"
TINY = DwtCalConfig(
    features=8, side=4, analysis_depth=1, prior_depth=1, synthesis_depth=1, filter_width=4
)


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(stages.SIZES, "s", TINY)


@pytest.fixture
def cine() -> list[CineSequence]:
    """Two slices of a beating disc with noise, in two cases of which one is held out."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:40, :32]
    found = []
    for case in ("patient001", "patient014"):
        radius = 8 + 2 * np.sin(np.arange(6))[:, None, None]
        disc = 800.0 * (np.hypot(y - 20, x - 16) < radius) + rng.normal(100, 10, (6, 40, 32))
        found += sequences_of(np.rint(disc)[None].astype(np.int64), case, "acdc")
    return found


def config(**changes: object) -> StageConfig:
    values = read_config(CONFIGS / "dwt_cal_rollout.yaml")
    options = dataclasses.replace(
        values.train,
        **{"steps": 4, "log_every": 2, "validate_every": 4, "warmup_steps": 1, **changes},
    )
    clips = dataclasses.replace(values.clips, size=16, batch=2, frames=(2, 3))
    return dataclasses.replace(values, clips=clips, train=options)


def test_resumed_training_is_the_uninterrupted_one(
    cine: list[CineSequence], tmp_path: Path
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    short = config(steps=3, validate_every=9)
    train(Trainer(short, whole), cine)
    halted = Trainer(short, parts)
    source = stages.ClipSource(cine[:1], halted.config.clips, halted.options.seed)
    halted.train_step(*source.batch(halted.step))
    halted.save()
    resumed = Trainer(short, parts)
    resumed.resume()
    assert resumed.step == 1
    train(resumed, cine)
    one, other = (torch.load(p / "averaged.pt", weights_only=True) for p in (whole, parts))
    assert one["step"] == other["step"] == 3
    for name, value in one["state"].items():
        assert torch.equal(value, other["state"][name]), name


def test_training_logs_validates_and_is_loaded(cine: list[CineSequence], tmp_path: Path) -> None:
    train(Trainer(config(), tmp_path), cine)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4]
    low, _, high = rows[1]["validation"]
    assert low["bpp"] < high["bpp"]
    assert low["psnr"] < high["psnr"]
    assert load_model(tmp_path / "averaged.pt").config == TINY


def test_training_lowers_the_loss(cine: list[CineSequence], tmp_path: Path) -> None:
    trainer = Trainer(config(steps=20, learning_rate=5e-3, qualities=(20.0, 20.0)), tmp_path)
    clips = dataclasses.replace(trainer.config.clips, frames=(1,), batch=2)
    frames, weights = stages.ClipSource(cine[:1], clips, 0).batch(0)
    losses = [float(trainer.train_step(frames, weights).total) for _ in range(20)]
    assert np.mean(losses[-4:]) < 0.9 * np.mean(losses[:4])


def test_key_stage_leaves_the_conditional_codec_alone(
    cine: list[CineSequence], tmp_path: Path
) -> None:
    trainer = Trainer(config(), tmp_path)
    before = {name: value.clone() for name, value in trainer.model.inter.state_dict().items()}
    trainer.train_step(torch.rand(2, 1, 16, 16), torch.ones(2, 1, 16, 16))
    for name, value in trainer.model.inter.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_step_with_an_infinite_gradient_changes_nothing(tmp_path: Path) -> None:
    trainer = Trainer(config(), tmp_path)
    before = [value.clone() for value in trainer.model.parameters()]
    trainer.train_step(torch.full((1, 2, 16, 16), torch.inf), torch.ones(1, 1, 16, 16))
    assert all(map(torch.equal, trainer.model.parameters(), before))
    assert trainer.step == 1
    assert trainer.guard.skipped == 1


def test_guard_is_logged_saved_and_stops_the_training(
    cine: list[CineSequence], tmp_path: Path
) -> None:
    short = config(steps=2, validate_every=9)
    trainer = Trainer(short, tmp_path)
    train(trainer, cine)
    row = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert row["skipped_steps"] == 0
    assert row["gradient_norm"] > 0
    resumed = Trainer(short, tmp_path)
    resumed.resume()
    assert resumed.guard.state() == trainer.guard.state()
    bad = torch.full((1, 1, 16, 16), torch.nan), torch.ones(1, 1, 16, 16)
    for _ in range(MOST_IN_A_ROW - 1):
        resumed.train_step(*bad)
    with pytest.raises(TrainingError, match="gradients in a row"):
        resumed.train_step(*bad)


@pytest.mark.parametrize("name", ["key", "groups", "rollout", "long"])
def test_shipped_configurations_are_read(name: str) -> None:
    found = read_config(CONFIGS / f"dwt_cal_{name}.yaml")
    assert found.size in stages.SIZES
    assert (max(found.clips.frames) == 1) == (name == "key")


def test_wrong_configurations_are_refused(tmp_path: Path) -> None:
    content = yaml.safe_load((CONFIGS / "dwt_cal_key.yaml").read_text())
    path = tmp_path / "config.yaml"
    path.write_text("size: [")
    with pytest.raises(SpecError, match=r"config\.yaml"):
        read_config(path)
    with pytest.raises(SpecError, match=r"missing\.yaml"):
        read_config(tmp_path / "missing.yaml")
    for change in ({"size": "xl"}, {"train": {"steps": 3}}, {"clips": {"sizes": 3}}):
        path.write_text(yaml.safe_dump({**content, **change}))
        with pytest.raises(SpecError, match=r"config\.yaml"):
            read_config(path)


def test_nothing_to_resume_is_said(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot resume"):
        Trainer(config(), tmp_path).resume()
    (tmp_path / "averaged.pt").write_bytes(b"damaged")
    with pytest.raises(SourceError, match=r"averaged\.pt"):
        load_model(tmp_path / "averaged.pt")


def test_command_runs_a_stage_and_the_next(
    cine: list[CineSequence], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "read_config", lambda path: config(steps=1))
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    write_pack(cine, tmp_path / "pack.zip")
    common = ["--config", "unused", "--data", str(tmp_path / "pack.zip"), "--out"]
    stages.main([*common, str(tmp_path / "one"), "--resume"])
    start = str(tmp_path / "one" / "averaged.pt")
    stages.main([*common, str(tmp_path / "two"), "--start", start])
    stages.main([*common, str(tmp_path / "two"), "--resume", "--steps", "2"])
    state = torch.load(tmp_path / "two" / "checkpoint.pt", weights_only=True)
    assert state["step"] == 2


def test_offsets_repeat_and_stay_in_range() -> None:
    offsets = GroupOffsets(key=8.0, cycle=(-4.0, 2.0))
    quality = offsets.quality(torch.tensor([1.0, 60.0]), 5)
    assert quality.tolist() == [[9.0, 0.0, 3.0, 0.0, 3.0], [63.0, 56.0, 62.0, 56.0, 62.0]]


def test_loss_is_rate_plus_price_times_weighted_error() -> None:
    frames = torch.zeros(1, 2, 8, 8)
    rollout = Rollout(
        frames + 0.1, frames + 0.5, torch.tensor([[64.0, 32.0]]), torch.tensor([[0.0, 16.0]])
    )
    base, quality = torch.tensor([24.0]), torch.tensor([[24.0, 12.0]])
    loss = group_loss(rollout, frames, torch.full((1, 1, 8, 8), 1.5), base, quality, 0.1, 0.2)
    price = trade_off(quality)[0]
    expected = [1.0 + price[0] * 0.015, 0.3 + price[1] * 0.015 + 0.1 * price[1] * 1.5 * 0.25]
    assert float(loss.total) == pytest.approx(float(sum(expected)) / 2, rel=1e-5)
    assert loss.rate.tolist() == [[1.0, 0.5]]


def test_point_counts_every_bit_and_voxel(cine: list[CineSequence]) -> None:
    torch.manual_seed(0)
    model = DwtCal(TINY).eval()
    point = volume_point(model, cine[:1], 40.0, GroupOffsets())
    assert point.bpp == pytest.approx(float(np.mean(point.frame_bpp)), abs=1e-3)
    assert point.key_bpp == pytest.approx(point.frame_bpp[0], abs=1e-4)
    coded = curves.code_sequence(model, cine[0], 40.0, GroupOffsets())
    error = np.mean((coded.voxels - cine[0].voxels) ** 2)
    assert point.psnr_db == pytest.approx(10 * np.log10(cine[0].peak ** 2 / error))
    other = np.zeros((1, 6, 8, 8), np.int64)
    with pytest.raises(SourceError, match="one exam"):
        volume_point(model, [cine[0], *sequences_of(other, "c", "acdc")], 40.0, GroupOffsets())


def test_curve_command_compares_with_an_anchor(
    cine: list[CineSequence],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("scipy")
    Trainer(config(), tmp_path).save()
    monkeypatch.setattr(curves, "read_volume", lambda path: cine[0].voxels[None].astype(np.int64))
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    arguments = ["--checkpoint", str(tmp_path / "averaged.pt"), "--volume", "cine.nii.gz"]
    arguments += ["--qualities", "10", "30", "50", "--slices", "0"]
    curves.main(arguments)
    points = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [point["quality"] for point in points] == [10.0, 30.0, 50.0]
    anchor = [(2 * point["bpp"], point["psnr_db"]) for point in points]
    (tmp_path / "anchor.json").write_text(json.dumps(anchor))
    curves.main([*arguments, "--anchor", str(tmp_path / "anchor.json")])
    compared = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert compared["rate_percent"] == pytest.approx(-50.0, abs=0.5)
