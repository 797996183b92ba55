"""Variants leave out one part each, from one start, and are measured alike."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("yaml")

from titok_training_samples import tiny_network, write_hearts, write_stage  # noqa: E402

from edge_codec.errors import SourceError, SpecError  # noqa: E402
from edge_codec.nn.titok import TiTok  # noqa: E402
from edge_codec.training.titok.ablation import (  # noqa: E402
    MEASURES,
    VARIANTS,
    ablate,
    variant_config,
    variant_model,
)
from edge_codec.training.titok.checkpoint import write_state  # noqa: E402
from edge_codec.training.titok.cines import Library, open_cines  # noqa: E402
from edge_codec.training.titok.config import TitokTraining, read_config  # noqa: E402

PARTS = (
    "perceptual", "segmentation", "temporal", "periodicity", "clinical", "consistency", "entropy",
    "heart", "quality",
)  # fmt: skip
ALL = dict.fromkeys(PARTS, 0.1)


def config(tmp_path: Path, **loss: float) -> TitokTraining:
    content: dict[str, Any] = {"loss": loss or ALL, "train": {"steps": 1, "validate_frames": 1}}
    return read_config(write_stage(tmp_path / "c.yaml", "whole", **content))


def test_each_variant_differs_from_all_in_one_part(tmp_path: Path) -> None:
    whole = config(tmp_path)
    assert variant_config(whole, "all") == whole
    for variant in VARIANTS[1:]:
        changed = variant_config(whole, variant)
        if variant.startswith("fusion_"):
            assert changed.network.fusion == variant.removeprefix("fusion_")
            continue
        assert changed != whole, variant
        assert changed.train == whole.train
    assert variant_config(whole, "no_clinical").loss.clinical == 0
    assert variant_config(whole, "no_heart_weight").loss.heart == 0
    assert variant_config(whole, "no_heart_bias").told.heart == 0
    assert variant_config(whole, "no_heart_bias").told.anatomy == whole.told.anatomy


def test_what_is_not_there_cannot_be_left_out(tmp_path: Path) -> None:
    bare = config(tmp_path, pixel_squared=1.0)
    with pytest.raises(SpecError, match=r"loss\.clinical is 0"):
        variant_config(bare, "no_clinical")
    with pytest.raises(SpecError, match="unknown"):
        variant_config(bare, "no_luck")


def test_forms_of_fusion_share_all_but_the_fusion(tmp_path: Path) -> None:
    whole = config(tmp_path)
    start = TiTok(tiny_network())
    for kind in ("attention", "lstm", "none"):
        variant = f"fusion_{kind}"
        model = variant_model(start, variant_config(whole, variant), variant)
        assert model.config.fusion == kind
        assert torch.equal(model.encoder.head.weight, start.encoder.head.weight)
        assert (model.encoder.fusion is None) == (kind == "none")
        if kind == "attention":
            fresh, old = model.encoder.fusion.place, start.encoder.fusion.place
            assert not torch.equal(fresh, old)
    kept = variant_model(start, whole, "all")
    assert torch.equal(kept.encoder.fusion.place, start.encoder.fusion.place)


def test_variants_are_trained_and_measured(tmp_path: Path) -> None:
    data = open_cines([write_hearts(tmp_path)], ["patient014"])
    small = config(tmp_path, pixel_squared=1.0, temporal=1.0)
    start = tmp_path / "averaged.pt"
    sizes = dataclasses.asdict(tiny_network())
    write_state(start, {"config": sizes, "state": TiTok(tiny_network()).state_dict(), "step": 0})
    chosen = ("all", "fusion_none", "no_temporal")
    rows = list(ablate(small, start, data, None, tmp_path / "out", chosen))
    assert [row["variant"] for row in rows] == list(chosen)
    assert all(row["steps"] == 1 and set(MEASURES) <= row.keys() for row in rows)
    assert all(row["psnr_db"] > 0 for row in rows)
    assert (tmp_path / "out/no_temporal/averaged.pt").exists()
    with pytest.raises(SpecError, match="patient014 to measure on"):
        next(ablate(small, start, (data[0], Library([])), None, tmp_path / "out"))
    with pytest.raises(SourceError):
        next(ablate(small, tmp_path / "absent.pt", data, None, tmp_path / "out", chosen))
