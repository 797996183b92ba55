"""README's table of live streams, from the records of `edge-codec bench latency`.

The records are `benchmarks/results/latency.jsonl`; `benchmarks.report` prints the table, and a test
compares it with what README shows.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.markdown import table

RESULTS = Path(__file__).parent / "results" / "latency.jsonl"
HEAD = (
    "stream", "load", "frames", "p50", "p99", "p99.9", "max", "misses", "lost",
    "coded as `fast`", "bits", "memory", "stolen", "misses where nothing was stolen",
)  # fmt: skip

Row = dict[str, Any]


def latency_table() -> str:
    """Return the latest record of each stream, load and number of frames as a Markdown table."""
    rows: dict[tuple[str, str, str], Row] = {}
    for line in RESULTS.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        rows[_stream(row), _load(row), f"{row['frames']:,}"] = row
    return table(HEAD, [[*names, *_figures(row)] for names, row in rows.items()])


def _stream(row: Row) -> str:
    names = [] if row["model"] == "none" else [row["model"].replace("_", "-")]
    if row["max_error"] is not None:
        bound = row["max_error"]
        names += [f"max error {bound}" if bound else "lossless", f"`{row['effort']}`"]
    return " ".join(names)


def _load(row: Row) -> str:
    return f"{row['streams']} x {row['rate']:g}/s" + (", real time" if row["realtime"] else "")


def _figures(row: Row) -> list[str]:
    times = [f"{row[name]:.1f}" for name in ("p50_ms", "p99_ms", "p99_9_ms", "max_ms")]
    fast = f"{100 * row['fast_bands'] / row['bands']:.1f} %" if row["bands"] else "-"
    growth = row["memory"].get("growth_percent")
    return [
        *times,
        str(row["misses"]),
        str(row["lost"] + row["dropped"] + row["failed"]),
        fast,
        f"{row['bits_per_voxel']:.3f}",
        "-" if growth is None else f"{growth:+.2f} %",
        *_stolen(row),
    ]


def _stolen(row: Row) -> list[str]:
    stolen = row.get("stolen")  # older records have none
    if not stolen:
        return ["-", "-"]
    clean = f"{stolen['misses_in_clean_seconds']} of {stolen['frames_in_clean_seconds']:,}"
    return [f"{stolen['percent']:.1f} %", clean]
