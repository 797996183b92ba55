"""What calibration did, as tables for people, records for JSON, and a plot."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from typing import Any

from edge_codec.calibration.gate import Verdict
from edge_codec.calibration.pipeline import Result
from edge_codec.calibration.sampler import Sample
from edge_codec.calibration.sensitivity import Sensitivity
from edge_codec.calibration.table import Precision

SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "edge-codec",
    "font.size": 10.0,
    "axes.spines.right": False,
    "axes.spines.top": False,
}
COLORS = {Precision.INT8: "#c1121f", Precision.FP16: "#5f7f9e", Precision.FP32: "#8a8378"}


def layer_rows(result: Result) -> list[dict[str, Any]]:
    """One row per layer: its scales, what they clip, its proof and its sensitivity."""
    sensitivities = {item.name: item for item in result.sensitivities}
    rows: list[dict[str, Any]] = []
    for name, layer in result.table.layers.items():
        scale = result.table.tensors[layer.source]
        proof = result.proof.layers[name]
        rows.append(
            {
                "layer": name,
                "precision": layer.precision.value,
                "input": layer.source,
                "observer": scale.observer,
                "exponent": scale.exponent,
                "dtype": scale.dtype,
                "clip_share": scale.clip_share,
                "weight_exponents": [
                    min(layer.weight_exponents, default=0),
                    max(layer.weight_exponents, default=0),
                ],
                "bound": proof.bound,
                **_sensitivity(sensitivities.get(name)),
            }
        )
    for name, precision in result.table.attention.items():
        plain: dict[str, Any] = {"layer": name, "precision": precision.value}
        rows.append(plain | _sensitivity(sensitivities.get(name)))
    return rows


def layer_table(result: Result) -> str:
    """Return the rows as text."""
    head = ["layer", "precision", "step", "input", "clipped", "weight steps", "bound", "SQNR dB"]
    head += ["PSNR loss dB"]
    body = []
    for row in layer_rows(result):
        steps = row.get("weight_exponents")
        body.append(
            [
                row["layer"],
                row["precision"],
                f"2^{row['exponent']}" if "exponent" in row else "-",
                row.get("dtype", "-"),
                f"{row['clip_share']:.2%}" if "clip_share" in row else "-",
                f"2^{steps[0]}..2^{steps[1]}" if steps else "-",
                _text(row.get("bound"), "d"),
                _text(row.get("sqnr_db"), ".1f"),
                _text(row.get("psnr_loss_db"), ".3f"),
            ]
        )
    return text_table(head, body)


def step_table(result: Result) -> str:
    """Return the measured effect of every step as text."""
    body = [
        [step.name, f"{step.sqnr_db:.2f}", "kept" if step.kept else "left out: it does not help"]
        for step in result.steps
    ]
    return text_table(["step", "SQNR dB", ""], body)


def gate_table(verdict: Verdict) -> str:
    """Return float against calibrated as text, exam by exam."""
    head = ["exam", "PSNR float", "calibrated", "SSIM float", "calibrated", "bpp float"]
    head += ["calibrated"]
    body = [
        [
            name,
            _text(a.psnr_db, ".2f"),
            _text(b.psnr_db, ".2f"),
            _text(a.ssim, ".4f"),
            _text(b.ssim, ".4f"),
            _text(a.bpp, ".4f"),
            _text(b.bpp, ".4f"),
        ]
        for name, a, b in zip(verdict.exams, verdict.reference, verdict.calibrated, strict=True)
    ]
    return text_table(head, body)


def record(result: Result, sample: Sample, verdict: Verdict | None) -> dict[str, Any]:
    """Return everything for JSON."""
    return {
        "model_sha256": result.table.model_sha256,
        "sample_sha256": result.table.sample_sha256,
        "frames": len(sample.frames),
        "strata": {", ".join(stratum): count for stratum, count in sample.strata().items()},
        "skipped": sample.skipped,
        "exact": result.proof.exact,
        "exact_reason": result.proof.reason or None,
        "steps": [
            {"step": step.name, "sqnr_db": _finite(step.sqnr_db), "kept": step.kept}
            for step in result.steps
        ],
        "layers": layer_rows(result),
        "gate": None if verdict is None else verdict.record(),
    }


def exactness(result: Result) -> str:
    """Say whether the network is exact, or what is not."""
    proof = result.proof
    if proof.exact:
        largest = max((item.bound or 0 for item in proof.layers.values()), default=0)
        return f"exact on every backend: no sum exceeds {largest}, and float32 holds 2^24"
    return f"not exact on every backend: {proof.reason}"


def draw_sensitivity(sensitivities: Sequence[Sensitivity]) -> bytes:
    """Draw the noise that each layer alone brings to the output, as an SVG file."""
    # An optional library, which a report can do without.
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    names = [item.name for item in sensitivities]
    with rc_context(SETTINGS):
        figure = Figure(figsize=(7.0, 1.2 + 0.28 * len(names)), layout="constrained")
        axes = figure.add_subplot()
        levels = [item.sqnr_db if math.isfinite(item.sqnr_db) else 0.0 for item in sensitivities]
        axes.barh(names, levels, color=[COLORS[item.precision] for item in sensitivities])
        axes.invert_yaxis()
        axes.set_xlabel("signal over quantization noise at the output, dB (shorter is worse)")
        axes.set_title("One layer quantized at a time", loc="left")
        for index, item in enumerate(sensitivities):
            label = f" {item.precision.value}"
            if item.psnr_loss_db is not None:
                label += f", {item.psnr_loss_db:+.3f} dB PSNR loss"
            axes.annotate(label, (levels[index], index), va="center", fontsize=8)
        axes.margins(x=0.35)
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def text_table(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """Align columns, the first to the left and the others to the right."""
    rows = [list(head), *map(list, body)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = []
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]))
    return "\n".join(line.rstrip() for line in lines)


def _sensitivity(item: Sensitivity | None) -> dict[str, float | None]:
    if item is None:
        return {}
    return {"sqnr_db": _finite(item.sqnr_db), "psnr_loss_db": item.psnr_loss_db}


def _finite(value: float) -> float | None:
    """JSON has no infinity."""
    return value if math.isfinite(value) else None


def _text(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
