"""The zoo's files of search and disease head: weights, manifest, model card, licence."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.io.atomic import atomic_file
from edge_codec.retrieval.disease_head import GROUPS
from edge_codec.retrieval.weights import FILE, MODEL

LARGE = 1024
"""Arrays of more numbers are kept in half precision."""

LICENSE = "CC-BY-NC-SA-4.0"
LICENSE_TEXT = f"""\
The weights in this folder ({FILE}) are licensed under
Creative Commons Attribution-NonCommercial-ShareAlike 4.0 International (CC BY-NC-SA 4.0):
https://creativecommons.org/licenses/by-nc-sa/4.0/legalcode

They inherit it from their training data, the ACDC challenge (O. Bernard, A. Lalande, C. Zotti,
F. Cervenansky, et al., "Deep Learning Techniques for Automatic MRI Cardiac Multi-structures
Segmentation and Diagnosis: Is the Problem Solved?", IEEE Transactions on Medical Imaging 37(11),
2018).

For non-commercial research only. Not a medical device.
"""
COMMAND = (
    "python -m edge_codec.training.disease_head --data ACDC --splits SPLITS --cache CACHE "
    "--out edge_codec/zoo/disease_head"
)


def write_zoo(
    out: Path,
    arrays: Mapping[str, NDArray[Any]],
    measured: Mapping[str, Any],
    tokenizer: str,
    version: str,
) -> None:
    """Write all files of the folder.

    Parameters
    ----------
    out : Path
        Folder; made where there is none.
    arrays : mapping of str to ndarray
        As `edge_codec.retrieval.weights.make_search_model` takes them.
    measured : mapping
        What the folds measured.
    tokenizer : str
        SHA-256 of the codebook that the tokens belong to, hexadecimal.
    version : str
        Of the weights.

    Raises
    ------
    SourceError
        If a file cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    weights = pack_weights(arrays, tokenizer)
    manifest = {
        "name": MODEL.replace("_", "-"),
        "version": version,
        "license": LICENSE,
        "license_note": "Weights learned from ACDC inherit CC BY-NC-SA 4.0: non-commercial research"
        " only.",
        "intended_use": "research only; not a medical device; names no diagnosis",
        "groups": list(GROUPS),
        "tokenizer": tokenizer,
        "training": {
            "data": ["ACDC training patients of splits.json, all phases"],
            "facts_told": [],
            "commands": [COMMAND],
        },
        "measured": dict(measured),
        "sha256": {FILE: hashlib.sha256(weights).hexdigest()},
        "decoding": [],
    }
    files = {
        FILE: weights,
        "LICENSE-WEIGHTS": LICENSE_TEXT.encode(),
        "MODEL_CARD.md": model_card(measured, version, len(weights)).encode(),
        "manifest.json": (json.dumps(manifest, indent=2) + "\n").encode(),
    }
    for name, data in files.items():
        with atomic_file(out / name, force=True) as file:
            file.write(data)


def pack_weights(arrays: Mapping[str, NDArray[Any]], tokenizer: str) -> bytes:
    """Return the bytes of the weights' file."""
    kept: dict[str, Any] = {
        name: array.astype(np.float16 if array.size > LARGE else np.float32)
        for name, array in arrays.items()
    }
    memory = io.BytesIO()
    np.savez_compressed(memory, tokenizer=np.frombuffer(bytes.fromhex(tokenizer), np.uint8), **kept)
    return memory.getvalue()


def model_card(measured: Mapping[str, Any], version: str, size: int) -> str:
    """Return the text of the model card."""
    low, high = (100 * end for end in measured["accuracy_95_percent"])
    table = "\n".join(
        f"| {group} | " + " | ".join(map(str, row)) + " |"
        for group, row in zip(GROUPS, measured["confusion"], strict=True)
    )
    return f"""\
# disease-head {version}

What `edge-codec search` has learned of the tokens of `titok` streams ({size:,} bytes): axes of the
descriptors of frames and slices, a small network that reads from a frame's tokens how large RV,
myocardium and LV are, and a regression from those sizes over the heart cycle to one of ACDC's five
groups. It sees tokens only: no pixels, no spacing, nothing of the patient. NumPy runs it.

**Research only. Not a medical device. A group that it names is no diagnosis.**

## License
{LICENSE}. Weights learned from ACDC inherit it: non-commercial research only.
Cite Bernard et al., IEEE TMI 2018 (ACDC).

## Measured while learning
{measured["right"]} of {measured["patients"]} training patients were given their group by networks
and a regression of the other {measured["folds"] - 1} of {measured["folds"]} folds:
{100 * measured["accuracy"]:.0f} % (95 % confidence interval {low:.0f} to {high:.0f} %, Wilson);
chance is {100 / len(GROUPS):.0f} %. The tokenizer itself had seen most of these patients, and the
listener all of them, both without their groups; the regression's penalty was chosen on the same
folds. So expect less elsewhere.
docs/search.md has the test patients.

| true \\ named | {" | ".join(GROUPS)} |
|{"---|" * (len(GROUPS) + 1)}
{table}

## Known limits
- Sizes are shares of the picture: an exam with another field of view than ACDC's heart crops looks
  like a smaller heart. Such an exam is called unusual and gets no name, but not every one is found.
- Groups overlap: a healed infarction and a dilated heart may look the same at this resolution.
- It belongs to one tokenizer; streams of other weights of `titok` are refused.

## Made by
```
{COMMAND}
```
"""
