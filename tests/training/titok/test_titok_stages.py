"""Stages train what they should, resume to the bit, start from each other, and are measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("yaml")

from titok_training_samples import tiny_network, write_hearts, write_stage  # noqa: E402

from edge_codec.errors import SourceError, SpecError, TrainingError  # noqa: E402
from edge_codec.nn.segmentation import SegmentationConfig, SegmentationNetwork  # noqa: E402
from edge_codec.training.gradient_guard import MOST_IN_A_ROW  # noqa: E402
from edge_codec.training.titok import __main__ as command  # noqa: E402
from edge_codec.training.titok.checkpoint import load_titok  # noqa: E402
from edge_codec.training.titok.cines import Library, open_cines  # noqa: E402
from edge_codec.training.titok.config import STAGES, read_config  # noqa: E402
from edge_codec.training.titok.judge import Judge  # noqa: E402
from edge_codec.training.titok.trainer import Trainer, train  # noqa: E402

ALL_TERMS = {
    "pixel_squared": 10.0, "pixel_absolute": 1.0, "structural": 0.3, "perceptual": 0.1,
    "segmentation": 0.1, "temporal": 1.0, "periodicity": 1.0, "clinical": 0.1, "consistency": 0.1,
    "commitment": 0.25, "entropy": 0.1, "heart": 1.0, "quality": 0.5,
}  # fmt: skip


@pytest.fixture
def cines(tmp_path: Path) -> tuple[Library, Library]:
    return open_cines([write_hearts(tmp_path)], ["patient014"])


@pytest.fixture
def judge() -> Judge:
    torch.manual_seed(4)
    return Judge(SegmentationNetwork(SegmentationConfig((4, 4, 4, 4))))


def trainer(
    tmp_path: Path,
    library: Library,
    stage: str = "whole",
    judge: Judge | None = None,
    out: str = "out",
    **changes: Any,
) -> Trainer:
    config = read_config(write_stage(tmp_path / "config.yaml", stage, **changes))
    (tmp_path / out).mkdir(exist_ok=True)
    return Trainer(config, tmp_path / out, library, judge=judge)


def weights(folder: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(folder / "averaged.pt", weights_only=True)["state"]
    return state


@pytest.mark.parametrize("stage", ["pretrain", "whole"])
def test_resumed_training_is_the_uninterrupted_one(
    stage: str, tmp_path: Path, cines: tuple[Library, Library], judge: Judge
) -> None:
    changes: dict[str, Any] = {
        "loss": ALL_TERMS, "quantizer": {"noise_steps": 2, "revive_every": 1},
        "train": {"steps": 4, "log_every": 1},
    }  # fmt: skip
    whole = trainer(tmp_path, cines[0], stage, judge, "whole", **changes)
    train(whole, Library([]), show=False)
    # Stopped among the noisy steps, whose latents the codebook starts from.
    halted = trainer(tmp_path, cines[0], stage, judge, "parts", **changes)
    halted.train_step()
    halted.save()
    resumed = trainer(tmp_path, cines[0], stage, judge, "parts", **changes)
    resumed.resume()
    assert resumed.step == 1
    train(resumed, Library([]), show=False)
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_changes_what_it_trains_and_nothing_else(
    stage: str, tmp_path: Path, cines: tuple[Library, Library]
) -> None:
    found = trainer(tmp_path, cines[0], stage)
    before = {name: value.detach().clone() for name, value in found.model.named_parameters()}
    for _ in range(2):
        found.train_step()
    changed = {
        name for name, value in found.model.named_parameters()
        if not torch.equal(value, before[name])
    }  # fmt: skip
    assert changed
    assert all(name.startswith(STAGES[stage]) for name in changed)
    # The body of the encoder learns in the first stage and in the last.
    body = "encoder.blocks.0.attention.query.weight"
    assert (body in changed) == (stage in ("pretrain", "whole"))
    assert ("decoder.embed.weight" in changed) == (stage != "pretrain")


def test_rates_make_a_part_learn_slower_or_not_at_all(
    tmp_path: Path, cines: tuple[Library, Library]
) -> None:
    rates = {"encoder.": 0.1, "encoder.shortcut.": 0.0}
    found = trainer(tmp_path, cines[0], train={"rates": rates})
    before = {name: value.detach().clone() for name, value in found.model.named_parameters()}
    found.train_step()
    moved = {
        name: float((value.detach() - before[name]).abs().max())
        for name, value in found.model.named_parameters()
    }
    # Adam's first step is as long as the rate wherever there is a gradient.
    assert moved["encoder.head.weight"] == pytest.approx(
        0.1 * moved["decoder.painter.change.weight"]
    )
    shortcut = [length for name, length in moved.items() if name.startswith("encoder.shortcut.")]
    assert shortcut
    assert max(shortcut) == 0.0


@pytest.mark.parametrize("beginning", ["encoder.shortcuts.", "codebook."])
def test_rates_of_nothing_are_refused(
    beginning: str, tmp_path: Path, cines: tuple[Library, Library]
) -> None:
    with pytest.raises(SpecError, match=f"{beginning}: stage whole trains no such parameter"):
        trainer(tmp_path, cines[0], train={"rates": {beginning: 0.5}})


def test_training_does_not_go_on_with_other_rates(
    tmp_path: Path, cines: tuple[Library, Library]
) -> None:
    trainer(tmp_path, cines[0], train={"rates": {"encoder.": 0.5}}).save()
    other = trainer(tmp_path, cines[0], train={"rates": {"decoder.": 0.5}})
    with pytest.raises(SourceError, match="its rates are"):
        other.resume()


def test_noise_then_a_codebook_of_the_latents(
    tmp_path: Path, cines: tuple[Library, Library]
) -> None:
    found = trainer(tmp_path, cines[0], quantizer={"noise_steps": 2})
    random = found.model.codebook.vectors.clone()
    first = found.train_step()
    assert "commitment" not in first
    assert torch.equal(found.model.codebook.vectors, random)
    found.train_step()
    third = found.train_step()
    assert third["commitment"] > 0
    assert not torch.equal(found.model.codebook.vectors, random)
    assert float((found.model.codebook.vectors.norm(dim=1) - 1).abs().max()) < 1e-5


def test_streams_remember_the_frames_before_but_not_those_of_other_cines(
    tmp_path: Path, cines: tuple[Library, Library]
) -> None:
    found = trainer(tmp_path, cines[0], streams={"life": [3, 3], "rounds": 2})
    ages = []
    for _ in range(8):
        found.train_step()
        frame, codes, known, age = found.task.state()["past"]
        ages.append(sorted(age.tolist()))
        assert known.sum(1).tolist() == [min(one, 2) for one in age.tolist()]
        assert not frame.requires_grad
        assert not codes.requires_grad
    assert ages[::2] == [[0, 0, 1, 1], [1, 1, 2, 2], [2, 2, 3, 3], [1, 1, 3, 3]]
    assert ages[1::2] == [[1] * 4, [2] * 4, [3] * 4, [1] * 4]


def test_step_with_an_infinite_gradient_changes_nothing(
    tmp_path: Path, cines: tuple[Library, Library], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = trainer(tmp_path, cines[0])
    found.train_step()
    before = {name: value.clone() for name, value in found.model.state_dict().items()}
    past = [part.clone() for part in found.task.state()["past"]]
    good = found.streams.next

    def bad() -> Any:
        batch = good()
        batch.frame.fill_(torch.inf)
        return batch

    monkeypatch.setattr(found.streams, "next", bad)
    found.train_step()
    for name, value in found.model.state_dict().items():
        assert torch.equal(value, before[name]), name
    fresh = found.streams.next().fresh
    if not fresh.any():
        assert torch.equal(found.task.state()["past"][3], past[3])
    assert (found.step, found.guard.skipped) == (2, 1)
    for _ in range(MOST_IN_A_ROW - 2):
        found.guard.accepts(float("nan"))
    with pytest.raises(TrainingError, match="gradients in a row"):
        found.train_step()


def test_training_lowers_the_loss(tmp_path: Path, cines: tuple[Library, Library]) -> None:
    found = trainer(
        tmp_path, cines[0],
        streams={"life": [1, 1], "mirror_chance": 0.0, "change_chance": 0.0, "shift": 0.0},
        train={"steps": 30, "learning_rate": 5e-3},
    )  # fmt: skip
    errors = [found.train_step()["pixel_squared"] for _ in range(30)]
    assert sum(errors[-5:]) < 0.7 * sum(errors[:5])


def test_validation_measures_the_held_out(
    tmp_path: Path, cines: tuple[Library, Library], judge: Judge
) -> None:
    found = trainer(tmp_path, cines[0], judge=judge, loss=ALL_TERMS)
    train(found, cines[1], show=False)
    rows = [json.loads(line) for line in (tmp_path / "out/log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4, 4]
    assert {"loss", "window_psnr", "perceptual", "gradient_norm"} <= rows[0].keys()
    assert (tmp_path / "out/log.png").read_bytes().startswith(b"\x89PNG")
    measured = rows[2]["validation"]
    assert list(measured["exams"]) == ["patient014"]
    assert measured["psnr_db"] == measured["exams"]["patient014"]
    assert list(measured["ages"]) == ["0", "1"]
    assert 0 < measured["usage"] <= 1
    assert 0 < measured["entropy_bits"] <= 6
    assert 0 <= measured["dice"] <= 1
    assert measured == found.validate(cines[1])
    assert load_titok(tmp_path / "out/averaged.pt").config == tiny_network()


def test_validation_of_masking(tmp_path: Path, cines: tuple[Library, Library]) -> None:
    found = trainer(tmp_path, cines[0], "pretrain")
    measured = found.validate(cines[1])
    assert measured == found.validate(cines[1])
    assert measured["window_psnr"] > 0


def test_command_runs_the_stages_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    pack = str(write_hearts(tmp_path))
    network = SegmentationNetwork(SegmentationConfig((4, 4, 4, 4)))
    segmenter = tmp_path / "segmenter.pt"
    torch.save({"config": {"widths": (4, 4, 4, 4)}, "state": network.state_dict()}, segmenter)
    start: list[str] = []
    for stage in STAGES:
        loss = {} if stage in ("pretrain", "adapters") else {"perceptual": 0.1}
        noise = {"noise_steps": 1} if stage == "adapters" else {}
        config = write_stage(
            tmp_path / f"{stage}.yaml", stage, loss=loss, quantizer=noise,
            train={"steps": 2, "validate_every": 2},
        )  # fmt: skip
        common = ["--config", str(config), "--data", pack, "--out", str(tmp_path / stage)]
        command.main([*common, *start, "--resume", "--segmenter", str(segmenter)])
        start = ["--start", str(tmp_path / stage / "averaged.pt")]
    assert "averaged.pt at step 2" in capsys.readouterr().out
    command.main([*common, "--resume", "--steps", "3", "--segmenter", str(segmenter)])
    state = torch.load(tmp_path / "whole/checkpoint.pt", weights_only=True)
    assert state["step"] == 3
    with pytest.raises(SpecError, match="--segmenter"):
        command.main(common)


def test_wrong_starts_are_refused(tmp_path: Path, cines: tuple[Library, Library]) -> None:
    path = tmp_path / "averaged.pt"
    for content in (b"damaged", b""):
        path.write_bytes(content)
        with pytest.raises(SourceError, match=r"averaged\.pt"):
            load_titok(path)
    for state in ({"config": {}}, {"config": {"size": 1}, "state": {}}, [1]):
        torch.save(state, path)
        with pytest.raises(SourceError, match=r"averaged\.pt"):
            load_titok(path)
    found = trainer(tmp_path, cines[0])
    with pytest.raises(SourceError, match=r"cannot resume .*no file of a training"):
        found.resume()
    found.save()
    other = trainer(tmp_path, cines[0], network={"width": 32})
    with pytest.raises(SourceError, match="cannot resume"):
        other.resume()
