"""Manifest and model card of the shipped segmentation network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_codec.nn.segmentation import CLASSES
from edge_codec.runtime.ort_backend import OrtEngine
from edge_codec.runtime.segmenter import MODEL, NETWORK, Segmenter
from edge_codec.spec import WINDOW_ONE

LICENSE = "CC-BY-NC-SA-4.0"

TEMPLATE = """# {name} {version}

A light residual U-Net that names each pixel of a short-axis cardiac cine MR frame: background, RV
cavity (1), myocardium (2), LV cavity (3). `segmentation.onnx` maps uint8 window codes of any frame
size (sides extended to multiples of 16) to logits, in exact integer arithmetic (power-of-two
scales, 7-bit weights, sums below 2^24, here {largest_sum}); bilinear interpolation and residual
sums are float operators on exact values.

**Research only. Not a medical device. It was trained on {cases} patients of one data set and errs
on others: look at what it marks before you believe a volume.**

## License
{license}. {license_note}
Cite Bernard et al., IEEE TMI 2018 (ACDC).

## Trained on
{data}
Held out of it for validation: {held_out}. No case of the test split was read.
{note}

## Measured on held-out cases
Dice of each end-diastolic or end-systolic volume as one object, mean over volumes, the network's
labels as they are. Scales come from {frames} training frames, rule `{observer}`.

| network | data set | RV | myocardium | LV | mean |
|---|---|---|---|---|---|
{rows}

Figures on the test split, with clean-up and times, are in docs/segmentation.md.

## Known failures
- Beyond base and apex it sometimes marks a heart where experts mark none, and the other way round.
- The RV near the base is the least certain of all.
- Pieces outside the heart are marked in full fields of view; `edge_codec.runtime.segmenter` removes
  what does not hang together with the heart.
- Long-axis frames, other contrasts (late enhancement, mapping) and children were never seen.

## Window
Code 0 is the {low}, code {one} the {high}; codes saturate
at 0 and 255.

## Made by
```
{commands}
```
"""


def manifest_fields(version: str, cases: int, held_out: Sequence[str], note: str) -> dict[str, Any]:
    """Collect what the manifest says besides hashes, calibration and metrics.

    Parameters
    ----------
    version : str
    cases : int
        Trained on.
    held_out : sequence of str
    note : str
        How the weights were trained.
    """
    return {
        "name": MODEL,
        "version": version,
        "classes": list(CLASSES),
        "license": LICENSE,
        "license_note": (
            "Weights learned from ACDC inherit CC BY-NC-SA 4.0: non-commercial research only."
        ),
        "intended_use": "research only; not a medical device",
        "window": {
            "low": "0.1th percentile of the exam",
            "high": "99.9th percentile of the exam",
            "one": WINDOW_ONE,
            "codes": "clip(floor((x - low) * 192 / (high - low) + 1/2), 0, 255), uint8",
        },
        "training": {
            "cases": cases,
            "data": [
                "ACDC training patients of splits.json, heart crops: end-diastolic and "
                "end-systolic frames with expert labels",
                "first frames of the same patients with full field of view and expert labels",
            ],
            "held_out": list(held_out),
            "note": note,
            "commands": commands(),
        },
    }


def write_manifest(out: Path, fields: dict[str, Any]) -> None:
    """Write `manifest.json` with the hash of the network beside it."""
    network = (out / NETWORK).read_bytes()
    manifest = {
        **fields,
        "sha256": {NETWORK: hashlib.sha256(network).hexdigest()},
        "decoding": [],
        "check": Segmenter(OrtEngine(network, threads=1, optimize=False)).probe(),
    }
    text = json.dumps(manifest, indent=2, ensure_ascii=False)
    (out / "manifest.json").write_text(text + "\n", encoding="utf-8")


def model_card(fields: dict[str, Any]) -> str:
    """Fill the card in from the manifest's fields."""
    training, window, calibration = fields["training"], fields["window"], fields["calibration"]
    rows = [
        f"| {network} | {group} | "
        + " | ".join(f"{score:.4f}" for score in (*scores, sum(scores) / len(scores)))
        + " |"
        for network, groups in fields["metrics"]["dice_held_out"].items()
        for group, scores in groups.items()
    ]
    return TEMPLATE.format(
        **{key: fields[key] for key in ("name", "version", "license", "license_note")},
        largest_sum=f"{calibration['largest_sum']:,}",
        frames=calibration["frames"],
        observer=calibration["observer"],
        cases=training["cases"],
        data="\n".join(f"- {line}" for line in training["data"]),
        held_out=", ".join(training["held_out"]),
        note=training["note"],
        rows="\n".join(rows),
        low=window["low"],
        high=window["high"],
        one=window["one"],
        commands="\n".join(training["commands"]),
    )


def commands() -> list[str]:
    """List the commands that make the files, in order, with the data's place left open."""
    data = "--config edge_codec/training/configs/segmentation.yaml --data DATA --splits SPLITS"
    return [
        f"python -m edge_codec.training.segmentation {data} --out RUN",
        f"python -m edge_codec.export.segmentation --checkpoint RUN/averaged.pt {data} "
        "--out edge_codec/zoo/segmentation",
    ]
