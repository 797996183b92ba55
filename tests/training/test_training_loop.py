"""The training's window is the codec's, test cases are not read, and a short training resumes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
nibabel = pytest.importorskip("nibabel")
yaml = pytest.importorskip("yaml")

import edge_codec.training  # noqa: E402
from edge_codec.spec import CineInfo, StreamSpec  # noqa: E402
from edge_codec.training.data import CropOptions, crops, read_split, window_codes  # noqa: E402
from edge_codec.training.loop import Trainer, evaluate, load_averaged, train  # noqa: E402
from edge_codec.window import Window  # noqa: E402


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two training cases and one test case of noise, in the layout of the data set."""
    rng = np.random.default_rng(0)
    for case in ("patient001", "patient002", "patient015"):
        folder = tmp_path / "acdc" / case
        folder.mkdir(parents=True)
        voxels = rng.integers(0, 300, (30, 25, 2, 3)).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), folder / f"{case}_4d.nii.gz")
    split = {"train": ["patient001", "patient002"], "test": ["patient015"]}
    (tmp_path / "splits.json").write_text(json.dumps(split))
    return tmp_path


def config() -> dict[str, dict[str, object]]:
    path = Path(edge_codec.training.__file__).parent / "configs" / "vqvae.yaml"
    values: dict[str, dict[str, object]] = yaml.safe_load(path.read_text())
    values["model"] |= {"codes": 16, "code_dim": 4, "fine": 8, "coarse": 8, "embed": 8}
    values["data"] |= {"size": 24, "batch": 4, "held_out": ["patient002"]}
    values["train"] |= {"steps": 6, "warmup_steps": 2, "validate_every": 3}
    return values


def test_window_is_the_codecs() -> None:
    voxels = np.random.default_rng(1).integers(-50, 900, (4, 5, 6)).astype(np.int16)
    low, high = -40, 700
    info = CineInfo(1, 1, rows=5, columns=6, dtype=np.dtype(np.int16))
    spec = StreamSpec(info, low=-50, high=900, window_low=low, window_high=high)
    expected = Window(spec).normalize((voxels.astype(np.int64) + 50).astype(np.uint32))
    codes, peak = window_codes(voxels, low, high)
    assert np.array_equal(codes, expected)
    assert peak == pytest.approx((int(voxels.max()) + 40) * 192 / 740)


def test_only_training_cases_are_read(data: Path) -> None:
    exams, validation = read_split(data, data / "splits.json", frozenset({"patient002"}))
    assert [exam.case for exam in exams] == ["patient001"]
    assert [exam.case for exam in validation] == ["patient002"]
    assert exams[0].codes.shape == (2, 3, 25, 30)


def test_crops_are_codes_of_the_size_asked_for(data: Path) -> None:
    exams, _ = read_split(data, data / "splits.json", frozenset())
    options = CropOptions(size=32, batch=3, zoom_chance=1.0, gain_chance=1.0, noise_chance=1.0)
    batch, groups = next(crops(exams, options, np.random.default_rng(0)))
    assert batch.shape == (3, 1, 32, 32)
    assert groups == ["acdc"] * 3
    assert torch.equal(batch, batch.round().clamp(0, 255))


def test_short_training_saves_resumes_and_evaluates(data: Path, tmp_path: Path) -> None:
    values, out = config(), tmp_path / "run"
    out.mkdir()
    train(Trainer(values, out, None), values, data, data / "splits.json")
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [3, 6]
    again = Trainer(values, out, None)
    again.resume()
    assert again.step == 6
    model = load_averaged(out / "averaged.pt")
    _, validation = read_split(data, data / "splits.json", frozenset({"patient002"}))
    assert np.isfinite(evaluate(model, validation)["acdc"])


def test_frozen_encoder_keeps_its_weights(data: Path, tmp_path: Path) -> None:
    values = config()
    values["train"] |= {"warmup_steps": -1, "freeze_encoder_at": 0.0}
    trainer = Trainer(values, tmp_path, None)
    before = trainer.model.analysis.layers[0].conv.weight.detach().clone()
    codes = trainer.model.codebook.vectors.clone()
    decoder = trainer.model.synthesis.fine[0].conv.weight.detach().clone()
    train(trainer, values, data, data / "splits.json")
    assert torch.equal(before, trainer.model.analysis.layers[0].conv.weight)
    assert torch.equal(codes, trainer.model.codebook.vectors)
    assert not torch.equal(decoder, trainer.model.synthesis.fine[0].conv.weight)
