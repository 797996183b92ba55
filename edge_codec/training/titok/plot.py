"""A picture of a training's log: loss, error, and quality by the age of a frame."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CURVES = (("loss", "loss"), ("window_psnr", "PSNR of the window, dB"))


def plot_log(log: Path, out: Path) -> bool:
    """Draw `log.jsonl` into a PNG file.

    Returns
    -------
    bool
        False where matplotlib is not installed or the log has no row of training.
    """
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    try:
        from matplotlib.figure import Figure  # of the extra `plot`
    except ImportError:
        return False
    trained = [row for row in rows if "loss" in row]
    if not trained:
        return False
    figure = Figure(figsize=(12, 3.5), layout="constrained")
    axes = figure.subplots(1, len(CURVES) + 1)
    for axis, (name, label) in zip(axes, CURVES, strict=False):
        axis.plot([row["step"] for row in trained], [row[name] for row in trained])
        axis.set(xlabel="step", ylabel=label)
    validated = [row for row in rows if "ages" in row.get("validation", {})]
    _draw_ages(axes[-1], validated)
    figure.savefig(out, dpi=100)
    return True


def _draw_ages(axis: Any, validated: list[dict[str, Any]]) -> None:
    """Draw one curve for each validation, the later the darker."""
    for index, row in enumerate(validated):
        ages = row["validation"]["ages"]
        shade = 0.2 + 0.8 * (index + 1) / len(validated)
        axis.plot([int(age) for age in ages], list(ages.values()), color="C0", alpha=shade)
    axis.set(xlabel="frames since the first, held out", ylabel="PSNR, dB")
