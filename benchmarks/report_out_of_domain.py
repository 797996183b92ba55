"""The tables of docs/out_of_domain.md, from the records of `benchmarks.out_of_domain`.

    python -m benchmarks.report_out_of_domain

A later record of the same case, model and quality takes the place of an earlier one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.markdown import table

RESULTS = Path(__file__).parent / "results" / "out_of_domain.jsonl"
ALONE, LOSSLESS = "base layer alone", "lossless"
MODELS = ("vqvae", "dwt-cal", "video")
EXACT = "exact"

Row = Mapping[str, Any]


def load(path: Path = RESULTS) -> list[Row]:
    """Return the latest record of each measurement, cases in the order of their first."""
    found: dict[tuple[Any, ...], Row] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        key = (row["case"], row["kind"], row["model"], row["quality"], row.get("base_cost"))
        found[key] = row
    order = list(dict.fromkeys(key[0] for key in found))
    return sorted(found.values(), key=lambda row: order.index(row["case"]))


def case_table(rows: Iterable[Row]) -> str:
    """Return what each case is and where it comes from."""
    body = {}
    for row in rows:
        slices, phases, *frame = row["shape"]
        size = f"{slices} x {phases} x {frame[0]}x{frame[1]}"
        body[row["case"]] = (
            row["case"], row["what"], size, str(row["peak"]), row["source"], row["license"]
        )  # fmt: skip
    head = ("case", "what", "slices x phases x frame", "maximum", "from", "license")
    return table(head, body.values())


def model_table(rows: Iterable[Row], model: str) -> str:
    """Return what a model does alone, and JPEG 2000 in as many bits."""
    head = ["case", "quality", "bits per voxel", "ratio to 16 bit", "PSNR", "SSIM",
            "JPEG 2000: PSNR", "SSIM", "gain"]  # fmt: skip
    body = []
    for row in rows:
        if row["kind"] != ALONE or row["model"] != model:
            continue
        peer = row["jpeg_2000"]
        cells = [row["case"], "-" if row["quality"] is None else str(row["quality"])]
        cells += [f"{row['bits_per_voxel']:.3f}", f"{row['ratio_to_16_bit']:.1f}"]
        cells += [*_fidelity(row), *(("-", "-") if peer is None else _fidelity(peer))]
        body.append([*cells, _gain(row, peer)])
    return table(head, body)


def lossless_table(rows: Iterable[Row]) -> str:
    """Return the bits of lossless streams, and what base layers add to them."""
    found: dict[str, dict[tuple[str, bool], float]] = {}
    for row in rows:
        if row["kind"] == LOSSLESS:
            key = row["model"], row["base_cost"] is not None
            found.setdefault(row["case"], {})[key] = row["bits_per_voxel"]
    columns = {
        "vqvae": ("vqvae", False), "dwt-cal at any price": ("dwt-cal", False),
        "dwt-cal": ("dwt-cal", True), "video": ("video", False),
    }  # fmt: skip
    body = []
    for case, bits in found.items():
        none = bits["none", False]
        more = (f"{100 * (bits[key] / none - 1):+.1f} %" for key in columns.values())
        body.append([case, f"{none:.3f}", *more])
    return table(["case", "bits without model", *columns], body)


def tables(rows: list[Row] | None = None) -> tuple[str, ...]:
    """Return all tables of the page."""
    found = load() if rows is None else rows
    models = (model_table(found, model) for model in MODELS)
    return (case_table(found), *models, lossless_table(found))


def _fidelity(row: Row) -> tuple[str, str]:
    decibels = row["psnr_db"]
    return EXACT if decibels is None else f"{decibels:.2f} dB", f"{row['ssim']:.4f}"


def _gain(ours: Row, peer: Row | None) -> str:
    if peer is None or ours["psnr_db"] is None or peer["psnr_db"] is None:
        return "-"
    return f"{ours['psnr_db'] - peer['psnr_db']:+.1f} dB"


def main() -> None:
    """Print the tables."""
    print(*tables(), sep="\n\n")


if __name__ == "__main__":
    main()
