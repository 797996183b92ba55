"""A log becomes a picture."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

from edge_codec.training.training_plot import plot_log


def test_log_becomes_a_picture(tmp_path: Path) -> None:
    row = {"loss": 1.0, "bpp": 0.1, "window_psnr": 30.0}
    validation = [{"quality": 0.0, "bpp": 0.1, "psnr": 30.0}]
    rows = [row | {"step": 1}, row | {"step": 2, "validation": validation}]
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps(one) + "\n" for one in rows))
    assert plot_log(log, tmp_path / "log.png")
    assert (tmp_path / "log.png").read_bytes().startswith(b"\x89PNG")


def test_empty_log_has_no_picture(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text("")
    assert not plot_log(tmp_path / "log.jsonl", tmp_path / "log.png")
    assert not (tmp_path / "log.png").exists()
