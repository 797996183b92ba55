"""Puts the tables of whole cines and exams into the zoo: manifest, model card and licence.

    python -m edge_codec.export.titok_groups --tables groups.npz --out edge_codec/zoo/titok_groups

`edge_codec.training.titok.groups` fits the tables.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

from edge_codec.base.titok.groups.tables import load_group_tables
from edge_codec.base.titok.token_prior import CODES
from edge_codec.export.titok_card import LICENSE_TEXT, TRAINED_ON, USE
from edge_codec.spec import ModelId

FILE = "groups.npz"
VERSION = "0.1.0"

TEMPLATE = """# {name} {version}

Whole cardiac cines and whole 4D exams in 32 tokens of 12 bits. `groups.npz` is all that encoding
and decoding need: for each grouping what a group looks like without any token, and the picture that
each of 4,096 codes adds around its place. Sizes: {sizes}.

**Research only. Not a medical device. 48 bytes for a whole cine are a blurred picture of where
things are; it hardly moves. Not for diagnosis, and not for measurements.**

## License
{license}. {license_note}
Cite Bernard et al., IEEE TMI 2018 (ACDC) and Radau et al., MIDAS Journal 2009 (Sunnybrook).

## Fitted to
{data}
{note}

## Known failures
- Motion is one harmonic of the heart cycle; nearly all bits go to what stands still.
- Decoded frames differ between machines in the last bits of floats. Tokens do not.
- Frames are shown on a canvas of 128x128 pixels, painted at half of that.
- The tables know frames that are cut to the heart; frames of whole chests are not measured.

## Window
0 is the 0.1th percentile of the exam, 1 the 99.9th; what lies a third beyond saturates.

## Made by
```
{commands}
```
"""


def main(argv: list[str] | None = None) -> None:
    """Parse options, write the folder."""
    parser = argparse.ArgumentParser(prog="edge_codec.export.titok_groups")
    parser.add_argument("--tables", type=Path, required=True, help="groups.npz of the training")
    parser.add_argument("--note", default="", help="a sentence for the card")
    parser.add_argument("--version", default=VERSION)
    parser.add_argument("--out", type=Path, required=True, help="folder of the zoo")
    options = parser.parse_args(argv)
    write_zoo(options.tables.read_bytes(), options.version, options.note, options.out)


def write_zoo(data: bytes, version: str, note: str, out: Path) -> None:
    """Write tables, manifest, card and licence.

    Raises
    ------
    EngineError
        If the tables are none.
    """
    fields = manifest_fields(data, version, note)
    out.mkdir(parents=True, exist_ok=True)
    (out / FILE).write_bytes(data)
    text = json.dumps(fields, indent=2, ensure_ascii=False)
    (out / "manifest.json").write_text(text + "\n", encoding="utf-8")
    (out / "MODEL_CARD.md").write_text(model_card(fields), encoding="utf-8")
    rest = LICENSE_TEXT.partition("\n")[2]  # its first line names the files of frames
    license_text = f"The weights in this folder ({FILE}) are licensed\n{rest}"
    (out / "LICENSE-WEIGHTS").write_text(license_text, encoding="utf-8")


def manifest_fields(data: bytes, version: str, note: str) -> dict[str, Any]:
    """Collect what the manifest says."""
    return {
        "name": ModelId.TITOK_GROUPS.label,
        "wire_id": int(ModelId.TITOK_GROUPS),
        "version": version,
        "config": {
            per.label: {"code_dim": tables.codes.shape[1], "side": tables.side}
            for per, tables in load_group_tables(data).items()
        },
        "n_codes": CODES,
        **USE,
        "training": {
            "data": list(TRAINED_ON),
            "note": note,
            "commands": [
                "python -m edge_codec.training.titok.groups --data SHARDS PACK --out groups.npz",
                "python -m edge_codec.export.titok_groups --tables groups.npz "
                "--out edge_codec/zoo/titok_groups",
            ],
        },
        "sha256": {FILE: hashlib.sha256(data).hexdigest()},
        "decoding": [FILE],
    }


def model_card(fields: dict[str, Any]) -> str:
    """Fill the card in from the manifest's fields."""
    training = fields["training"]
    sizes = "; ".join(
        f"{per}: codes of {sizes['code_dim']} numbers, images of {sizes['side']}x{sizes['side']}"
        for per, sizes in fields["config"].items()
    )
    return TEMPLATE.format(
        **{k: fields[k] for k in ("name", "version", "license", "license_note")},
        sizes=sizes,
        data="\n".join(f"- {line}" for line in training["data"]),
        note=training["note"],
        commands="\n".join(training["commands"]),
    )


if __name__ == "__main__":
    main()
