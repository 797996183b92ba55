"""The table of `docs/calibration.md`, from the records of `benchmarks.bench_calibration`.

`python -m benchmarks.report_calibration` prints it; a test compares it with what the page shows.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.markdown import table

RECORDS = Path(__file__).parent / "results" / "calibration.jsonl"
NAMES = {
    "shipped": "shipped: fine-tuned with quantization",
    "plain": "`mse`",
    "minmax": "`minmax`",
    "percentile": "`percentile`",
    "entropy": "`entropy`",
    "+ equalization": "`mse`, equalization",
    "+ bias correction": "`mse`, bias correction",
    "+ both": "`mse`, both",
    "as it helps": "`mse`, each where it helps",
    "int8 activations": "`mse`, int8 activations",
    "onnxruntime minmax": "ONNX Runtime, MinMax",
}

Row = dict[str, Any]


def load() -> dict[tuple[str, str], Row]:
    """Return the last record of each variant and case."""
    lines = RECORDS.read_text(encoding="utf-8").splitlines()
    rows = map(json.loads, lines)
    return {(row["variant"], row["case"]): row for row in rows}


def calibration_table() -> str:
    """Return mean and worst losses of every variant over the test cases."""
    rows = load()
    head = ("variant", "PSNR loss, dB", "worst case", "at equal bits", "SSIM loss", "bits")
    body = []
    for variant, name in NAMES.items():
        found = [row for key, row in rows.items() if key[0] == variant]
        losses = [row["psnr_loss_db"] for row in found]
        equal = [row["at_equal_bits"]["psnr_loss_db"] for row in found]
        body.append(
            [
                name,
                f"{np.mean(losses):+.3f}",
                f"{np.max(losses):+.3f}",
                f"{np.mean(equal):+.3f}",
                f"{np.mean([row['ssim_loss'] for row in found]):+.4f}",
                f"{np.mean([row['bpp_increase'] for row in found]):+.1%}",
            ]
        )
    return table(head, body)


if __name__ == "__main__":
    print(calibration_table())
