"""Checkpoints of titok's stages are measured one after the other, and each record says which."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("yaml")

from titok_training_samples import tiny_network, write_hearts, write_stage  # noqa: E402

from benchmarks import titok_stages  # noqa: E402
from edge_codec.nn.segmentation import SegmentationConfig, SegmentationNetwork  # noqa: E402
from edge_codec.nn.titok import TiTok  # noqa: E402
from edge_codec.training.checkpoints import write_state  # noqa: E402


def test_each_checkpoint_is_measured_told_and_not_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(2)
    shapes = SegmentationConfig((4, 4, 4, 4))
    judge = SegmentationNetwork(shapes).state_dict()
    segmenter, records = tmp_path / "segmenter.pt", tmp_path / "records.jsonl"
    write_state(segmenter, {"config": dataclasses.asdict(shapes), "state": judge, "step": 0})
    sizes = dataclasses.asdict(tiny_network())
    checkpoints = [tmp_path / name / "averaged.pt" for name in ("first", "second")]
    for path in checkpoints:
        path.parent.mkdir()
        state = TiTok(tiny_network()).state_dict()
        write_state(path, {"config": sizes, "state": state, "step": 0})
    config = write_stage(tmp_path / "c.yaml", "whole")
    titok_stages.main([
        *map(str, checkpoints), "--config", str(config), "--data", str(write_hearts(tmp_path)),
        "--segmenter", str(segmenter), "--frames", "2", "--threads", "1", "--json", str(records),
    ])  # fmt: skip
    rows = [json.loads(line) for line in records.read_text().splitlines()]
    found = [(row["stage"], row["told"], row["frames"]) for row in rows]
    expected = [(name, told, 2) for name in ("first", "second") for told in ("nothing", "all")]
    assert found == expected
    assert rows[0]["psnr_db"] != rows[2]["psnr_db"]
    assert capsys.readouterr().out.count("| first |") == 2
