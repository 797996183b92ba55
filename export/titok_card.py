"""Manifest and model card of the shipped `titok`."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_codec.base.titok.model import THRIFT
from edge_codec.export.titok_agreement import Agreement
from edge_codec.nn.titok import TiTokConfig
from edge_codec.spec import WINDOW_ONE, ModelId
from edge_codec.training.titok_tables import LEARNING_THRIFT

LICENSE = "CC-BY-NC-SA-4.0"
DECODING = ("token_model.npz", "codebook.npy", "decoder.onnx")
FILES = ("encoder.onnx", *DECODING)

USE: dict[str, Any] = {
    "license": LICENSE,
    "license_note": (
        "Weights learned from ACDC inherit CC BY-NC-SA 4.0: non-commercial research only. "
        "Sunnybrook Cardiac Data is CC0."
    ),
    "intended_use": "research only; not a medical device",
    "window": {
        "low": "0.1th percentile of the exam",
        "high": "99.9th percentile of the exam",
        "one": WINDOW_ONE,
    },
}
TRAINED_ON = (
    "ACDC training patients of splits.json, all phases",
    "Sunnybrook Cardiac Data SCD0000101 and SCD0000201",
)
"""What the manifests of both folders of titok say alike."""

LICENSE_TEXT = """\
The weights in this folder (*.onnx, codebook.npy, token_model.npz) are licensed
under Creative Commons Attribution-NonCommercial-ShareAlike 4.0 International (CC BY-NC-SA 4.0):
https://creativecommons.org/licenses/by-nc-sa/4.0/legalcode

They inherit it from their training data, the ACDC challenge (O. Bernard, A. Lalande, C. Zotti,
F. Cervenansky, et al., "Deep Learning Techniques for Automatic MRI Cardiac Multi-structures
Segmentation and Diagnosis: Is the Problem Solved?", IEEE Transactions on Medical Imaging 37(11),
2018). The rest of their training data, the Sunnybrook Cardiac Data (Radau et al., MIDAS Journal,
2009), is CC0.

For non-commercial research only. Not a medical device.
"""

TEMPLATE = """# {name} {version}

Cardiac cine MR frames as 32 tokens of 12 bits each, after TiTok (Yu et al., 2024). `encoder.onnx`
makes latents of a frame, `codebook.npy` names the nearest of 4,096 codes for each, `decoder.onnx`
paints a frame of them and of what it painted before; `token_model.npz` holds the integer tables by
which tokens are coded, and is all that reading tokens takes. Sizes: {sizes}.

**Research only. Not a medical device. A frame of 32 tokens is a preview: what the network has seen
elsewhere stands in for what 48 bytes cannot hold. Not for diagnosis, and not for measurements.**

## License
{license}. {license_note}
Cite Bernard et al., IEEE TMI 2018 (ACDC) and Radau et al., MIDAS Journal 2009 (Sunnybrook).

## Trained on
{data}
{note}

## Measured by the export
- Tables of the tokens, on training exams held out from them: {bytes:.1f} bytes a frame of 48, at a
  thrift of {learning} in choosing tokens, as in learning them; the codec chooses with {thrift}.
- Codes used in the training exams: {usage:.1%} of 4,096.
- Largest differences over {frames} frames of a phantom, in window codes ({one} are the window),
  each backend going on with its own frames: {float32:.3g} between the network as trained and as
  shipped (weights in half precision), {backends:.2g} between OpenVINO and ONNX Runtime.
- Latents of OpenVINO and ONNX Runtime differ by {latents:.2g} at most; {other_tokens:.2%} of the
  tokens come out otherwise.
{refiner}
## Known failures
- Decoded frames differ between machines in the last bits of floats. Tokens do not.
- A frame's fine structure comes from the frames before: the first frame of a group is the worst.
- Frames are shown on a canvas of {canvas}x{canvas} pixels; detail beyond it is not coded.
{unseen}
## Window
0 is the 0.1th percentile of the exam, 1 the 99.9th; what lies a third beyond saturates.

## Made by
```
{commands}
```
"""


def manifest_fields(
    version: str,
    config: TiTokConfig,
    note: str,
    found: Agreement,
    tokens: tuple[float, float],
    unseen: Sequence[str],
) -> dict[str, Any]:
    """Collect what the manifest says besides hashes.

    Parameters
    ----------
    version, note : str
    config : TiTokConfig
    found : Agreement
    tokens : (float, float)
        Bytes of a held-out frame's payload, and share of the codes that are used.
    unseen : sequence of str
        Facts that training never told.
    """
    return {
        "name": "titok",
        "wire_id": int(ModelId.TITOK),
        "version": version,
        "config": dataclasses.asdict(config),
        "n_codes": config.codes,
        **USE,
        "training": {
            "data": list(TRAINED_ON),
            "note": note,
            "facts_not_told": list(unseen),
            "commands": [
                "python -m edge_codec.export.titok --checkpoint CHECKPOINT "
                "--volumes TRAINING_EXAMS --out edge_codec/zoo/titok"
            ],
        },
        "measured": {
            "held_out_payload_bytes": round(tokens[0], 2),
            "codes_used": round(tokens[1], 4),
            **dataclasses.asdict(found),
        },
    }


def write_manifest(out: Path, fields: dict[str, Any]) -> None:
    """Write `manifest.json` with the hashes of the files beside it."""
    hashes = {name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in FILES}
    manifest = {**fields, "sha256": hashes, "decoding": list(DECODING)}
    text = json.dumps(manifest, indent=2, ensure_ascii=False)
    (out / "manifest.json").write_text(text + "\n", encoding="utf-8")


REFINER_TEMPLATE = """
## Refinement of whole cines
`refiner.onnx` goes over all decoded frames of a slice, trained in {steps} steps of a cine on what
the networks above make of the training exams. {note}
On {held_out_cines} cines of the held-out training patients, as shipped:

| | before | after |
|---|---|---|
| PSNR, dB | {before[psnr_db]:.2f} | {after[psnr_db]:.2f} |
| PSNR in the heart, dB | {before[heart_psnr_db]:.2f} | {after[heart_psnr_db]:.2f} |
| SSIM | {before[ssim]:.3f} | {after[ssim]:.3f} |

Means over cines on the canvas, the peak is the exam's maximum. Largest difference between the
network as trained and as shipped: {largest_difference:.2g} of the window.
"""


def model_card(fields: dict[str, Any]) -> str:
    """Fill the card in from the manifest's fields."""
    training, measured = fields["training"], fields["measured"]
    sizes = ", ".join(f"{name} {value}" for name, value in fields["config"].items())
    unseen = ", ".join(training["facts_not_told"])
    return TEMPLATE.format(
        **{k: fields[k] for k in ("name", "version", "license", "license_note")},
        **{k: measured[k] for k in ("frames", "float32", "backends", "latents", "other_tokens")},
        sizes=sizes.replace("_", " "),
        bytes=measured["held_out_payload_bytes"],
        learning=LEARNING_THRIFT,
        thrift=THRIFT,
        usage=measured["codes_used"],
        one=fields["window"]["one"],
        canvas=fields["config"]["canvas"],
        data="\n".join(f"- {line}" for line in training["data"]),
        note=training["note"],
        unseen=f"- Telling these facts changes nothing, training had none: {unseen}.\n"
        if unseen
        else "",
        refiner=_refiner_text(fields.get("refiner")),
        commands="\n".join(training["commands"]),
    )


def _refiner_text(fields: dict[str, Any] | None) -> str:
    if fields is None:
        return ""
    return REFINER_TEMPLATE.format(steps=fields["steps"], note=fields["note"], **fields["measured"])
