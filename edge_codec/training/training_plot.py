"""A picture of a training's log: loss, rate and quality over the steps."""

from __future__ import annotations

import json
from pathlib import Path

CURVES = (("loss", "loss"), ("bpp", "bits per pixel"), ("window_psnr", "PSNR of the window, dB"))


def plot_log(log: Path, out: Path) -> bool:
    """Draw `log.jsonl` into a PNG file.

    Returns
    -------
    bool
        False where matplotlib is not installed or the log is empty: training needs neither.
    """
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    try:
        from matplotlib.figure import Figure  # of the extra `plot`
    except ImportError:
        return False
    if not rows:
        return False
    figure = Figure(figsize=(12, 3.5), layout="constrained")
    axes = figure.subplots(1, len(CURVES) + 1)
    for axis, (name, label) in zip(axes, CURVES, strict=False):
        axis.plot([row["step"] for row in rows], [row[name] for row in rows])
        axis.set(xlabel="step", ylabel=label)
    validated = [row for row in rows if row.get("validation")]
    for index, row in enumerate(validated):
        points = row["validation"]
        shade = 0.2 + 0.8 * (index + 1) / len(validated)
        axes[-1].semilogx(
            [point["bpp"] for point in points],
            [point["psnr"] for point in points],
            marker="o",
            color="C0",
            alpha=shade,
        )
    axes[-1].set(xlabel="bits per voxel, held out", ylabel="PSNR, dB")
    figure.savefig(out, dpi=100)
    return True
