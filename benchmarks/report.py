"""README's tables, from the records of `bench_codec`, `bench rd` and `bench latency`.

    python -m benchmarks.report

A test compares what this prints with what README shows.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks import report_lossy
from benchmarks.markdown import table
from benchmarks.report_latency import latency_table
from benchmarks.report_peers import bounded_table, lossless_table

RESULTS = Path(__file__).parent / "results" / "bench_codec.jsonl"
TIMED_CASE = "SCD0000301"
BOUNDED = ("lossless fast", "lossless", "lossless best", "max error 1", "max error 2",
           "max error 4")  # fmt: skip

Row = dict[str, Any]
Key = tuple[str, str, str, int]


def load() -> dict[Key, Row]:
    """Return the latest record of each case, profile, backend and number of threads."""
    rows: dict[Key, Row] = {}
    for line in RESULTS.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        rows[row["case"], row["profile"], row["backend"], row["threads"]] = row
    return rows


def rate_table(rows: dict[Key, Row]) -> str:
    """Return rate and fidelity of every case as a Markdown table."""
    head = ("case", "frame", "vqvae PSNR", "SSIM", "bits", *(f"{name}" for name in BOUNDED))
    body = []
    for case in dict.fromkeys(key[0] for key in rows):
        base = _any(rows, case, "vqvae")
        shape = base["shape_slice_phase_row_column"]
        bounded = [f"{_any(rows, case, profile)['bpp']:.3f}" for profile in BOUNDED]
        body.append(
            [
                case,
                f"{shape[2]}x{shape[3]}",
                f"{base['psnr_db']:.2f} dB",
                f"{base['ssim']:.3f}",
                f"{base['bpp']:.3f}",
                *bounded,
            ]
        )
    return table(head, body)


def time_table(rows: dict[Key, Row]) -> str:
    """Return milliseconds per frame of the timed case as a Markdown table."""
    head = ("profile", "backend", "threads", "encode p50", "p99", "decode p50", "p99")
    body = []
    for (case, profile, backend, threads), row in rows.items():
        if case == TIMED_CASE:
            times = [
                f"{row[name]:.1f}"
                for name in ("encode_ms_p50", "encode_ms_p99", "decode_ms_p50", "decode_ms_p99")
            ]
            body.append([profile, "-" if backend == "none" else backend, str(threads), *times])
    return table(head, body)


def _any(rows: dict[Key, Row], case: str, profile: str) -> Row:
    return next(row for key, row in rows.items() if key[:2] == (case, profile))


def main() -> None:
    """Print all tables."""
    rows = load()
    tables = (
        rate_table(rows), time_table(rows), latency_table(), lossless_table(), bounded_table(),
        *report_lossy.tables(),
    )  # fmt: skip
    print(*tables, sep="\n\n")


if __name__ == "__main__":
    main()
