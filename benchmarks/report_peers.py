"""README's tables of peers, from the records of `edge-codec bench rd`.

The records are `benchmarks/results/rd_lossless.jsonl` and `rd_bounded.jsonl`; `benchmarks.report`
prints the tables, and a test compares them with what README shows.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.markdown import table

RESULTS = Path(__file__).parent / "results"
LOSSLESS = {
    "JPEG-LS": ("jpeg-ls", "lossless"),
    "HTJ2K, difference": ("htj2k-difference", "lossless"),
    "JPEG XL e7": ("jpeg-xl", "effort 7 lossless"),
    "JPEG XL e7, difference": ("jpeg-xl-difference", "effort 7 lossless"),
    "x265": ("x265-random-access", "lossless"),
    "Tomoz, time": ("tomoz-time", "lossless"),
    "`fast`": ("edge-codec-fast", "lossless"),
    "`default`": ("edge-codec", "lossless"),
    "`best`": ("edge-codec-best", "lossless"),
}
BOUNDED = {
    "JPEG-LS NEAR": ("jpeg-ls", "near {}"),
    "`fast`": ("edge-codec-fast", "max error {}"),
    "`default`": ("edge-codec", "max error {}"),
    "`best`": ("edge-codec-best", "max error {}"),
}
BOUNDS = (1, 2, 4)

Row = dict[str, Any]


def load(name: str) -> list[Row]:
    """Return the results of a run."""
    lines = (RESULTS / name).read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if row["record"] == "result"]


def lossless_table() -> str:
    """Return bits per voxel, and milliseconds per frame to encode and decode."""
    rows = load("rd_lossless.jsonl")
    body = []
    for case in dict.fromkeys(row["case"] for row in rows):
        found = [_find(rows, case, *key) for key in LOSSLESS.values()]
        body.append([case.removesuffix("_4d"), *(f"{row['bpp']:.3f}" for row in found)])
        times = (f"{row['encode_ms']:.1f} / {row['decode_ms']:.1f}" for row in found)
        body.append(["ms, encode / decode", *times])
    return table(["case", *LOSSLESS], body)


def bounded_table() -> str:
    """Return bits per voxel for each bound."""
    rows = load("rd_bounded.jsonl")
    body = []
    for case in dict.fromkeys(row["case"] for row in rows):
        for bound in BOUNDS:
            found = [_find(rows, case, codec, name.format(bound)) for codec, name in
                     BOUNDED.values()]  # fmt: skip
            bits = (f"{row['bpp']:.3f}" for row in found)
            body.append([case.removesuffix("_4d"), str(bound), *bits])
    return table(["case", "max error", *BOUNDED], body)


def _find(rows: list[Row], case: str, codec: str, setting: str) -> Row:
    key = (case, codec, setting)
    return next(row for row in rows if (row["case"], row["codec"], row["setting"]) == key)
