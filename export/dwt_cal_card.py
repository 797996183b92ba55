"""Manifest and model card of the shipped `dwt-cal-vae`."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from edge_codec.nn.dwt_cal import DwtCalConfig
from edge_codec.spec import ModelId

LICENSE = "CC-BY-NC-SA-4.0"
FILES = ("decoder.npz", "encoder.npz")
HELD_OUT = ("patient014", "patient054", "patient094")
STAGES = ("key", "groups", "rollout", "long")

TEMPLATE = """# {name} {version}

A conditional video codec of wavelet, cross-attention and variational autoencoder for cardiac cine
MR frames: each frame after a key frame is coded given the previous decoded one. `decoder.npz` holds
all that decoding depends on, convolutions with 16-bit weights and activations whose sums provably
stay below 2^31 (here {largest_sum}), and integer tables; `encoder.npz` holds what the encoder has
besides. Sizes: {sizes}.

**Research only. Not a medical device. Base-layer images are lossy: fine structure can be replaced
by what the network has seen elsewhere. Where voxels matter, use a residual layer (`--lossless`,
`--max-error`).**

## License
{license}. {license_note}
Cite Bernard et al., IEEE TMI 2018 (ACDC) and Radau et al., MIDAS Journal 2009 (Sunnybrook).

## Trained on
{data}
Held out of it for validation: {held_out}. No weight and no range of
activations comes from the test split; the integer arithmetic was checked on one case of it.
{note}

## Known failures
- It needs more bits than `--model dwt-cal` for the same likeness on every exam measured, and
  several times the time: a research base layer, not the default.
- The network was trained on crops of at most some hundred pixels and groups of at most {frames}
  frames. Longer groups than that rest on the bounds of what a frame leaves to the next one.
- Qualities above 46 were not trained; bits still buy likeness there, but ever less.
- Intensities beyond half a window below or three and a half windows above the exam's window
  saturate; a residual layer restores them.
- Encoders on different machines may choose different symbols, as floats decide there. Decoding is
  exact everywhere.

## Window
Pixel 0 is the {low}, pixel {one} the {high}.

## Made by
```
{commands}
```
"""


def manifest_fields(
    version: str, config: DwtCalConfig, largest_sum: int, note: str
) -> dict[str, Any]:
    """Collect what the manifest says besides hashes."""
    return {
        "name": "dwt-cal-vae",
        "wire_id": int(ModelId.DWT_CAL_VAE),
        "version": version,
        "config": dataclasses.asdict(config),
        "largest_sum": largest_sum,
        "license": LICENSE,
        "license_note": (
            "Weights learned from ACDC inherit CC BY-NC-SA 4.0: non-commercial research only. "
            "Sunnybrook Cardiac Data is CC0."
        ),
        "intended_use": "research only; not a medical device",
        "window": {
            "low": "minimum of the exam in training, 0.1th percentile in the codec",
            "high": "99.9th percentile of the exam",
            "one": 2048,
        },
        "training": {
            "data": [
                "ACDC training patients of splits.json, all phases, heart crops and full frames",
                "Sunnybrook Cardiac Data SCD0000101 and SCD0000201, full field of view",
            ],
            "held_out": list(HELD_OUT),
            "note": note,
            "commands": commands(),
        },
    }


def write_manifest(out: Path, fields: dict[str, Any]) -> None:
    """Write `manifest.json` with the hashes of the files beside it."""
    hashes = {name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in FILES}
    manifest = {**fields, "sha256": hashes, "decoding": ["decoder.npz"]}
    text = json.dumps(manifest, indent=2, ensure_ascii=False)
    (out / "manifest.json").write_text(text + "\n", encoding="utf-8")


def model_card(fields: dict[str, Any], frames: int = 20) -> str:
    """Fill the card in from the manifest's fields.

    Parameters
    ----------
    fields : dict
    frames : int
        Longest group of the training.
    """
    training, window = fields["training"], fields["window"]
    sizes = ", ".join(f"{name} {value}" for name, value in fields["config"].items())
    return TEMPLATE.format(
        **{k: fields[k] for k in ("name", "version", "license", "license_note", "largest_sum")},
        sizes=sizes.replace("_", " "),
        data="\n".join(f"- {line}" for line in training["data"]),
        held_out=", ".join(training["held_out"]),
        note=training["note"],
        frames=frames,
        low=window["low"],
        high=window["high"],
        one=window["one"],
        commands="\n".join(training["commands"]),
    )


def commands() -> list[str]:
    """List the commands that make the files, in order, with the data's place left open."""
    made = ["python -m edge_codec.training.pack --data DATA --splits SPLITS --out PACK.zip"]
    before = ""
    for stage in STAGES:
        config = f"edge_codec/training/configs/dwt_cal_{stage}.yaml"
        start = f" --start {before}/averaged.pt" if before else ""
        before = stage.upper()
        made.append(
            f"python -m edge_codec.training.stages --config {config} --data PACK.zip "
            f"--out {before}{start}"
        )
    made.append(
        f"python -m edge_codec.export.dwt_cal --checkpoint {before}/averaged.pt "
        "--volumes TRAINING_EXAMS --out edge_codec/zoo/dwt_cal_vae"
    )
    return made
