"""The log is drawn where there is something to draw."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

from edge_codec.training.titok.plot import plot_log


def test_rows_of_training_and_validation_are_drawn(tmp_path: Path) -> None:
    log, out = tmp_path / "log.jsonl", tmp_path / "log.png"
    rows = [
        {"step": 2, "loss": 1.0, "window_psnr": 20.0},
        {"step": 2, "validation": {"ages": {"0": 20.0, "4": 25.0}}},
        {"step": 4, "loss": 0.5, "window_psnr": 22.0},
        {"step": 4, "validation": {"window_psnr": 21.0}},
    ]
    log.write_text("\n".join(map(json.dumps, rows)) + "\n")
    assert plot_log(log, out)
    assert out.read_bytes().startswith(b"\x89PNG")


def test_a_log_without_training_is_not_drawn(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text("")
    assert not plot_log(log, tmp_path / "log.png")
    assert not (tmp_path / "log.png").exists()
