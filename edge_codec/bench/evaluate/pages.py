"""The report: one HTML file that needs nothing else, pictures within.

Nothing is fetched from anywhere: no script, no style sheet, no font, no link.
"""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Mapping, Sequence
from typing import Any

from edge_codec.bench.evaluate.table import (
    agreement_table,
    case_table,
    exam_line,
    function_table,
    mean_table,
)
from edge_codec.bench.rd.table import case_line

Row = Mapping[str, Any]

NOTICE = (
    "For research use only. This is no medical device; nothing in this report is a diagnosis or "
    "validated for one."
)
STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem;
  color: #1c1c1c; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
.notice { border-left: 4px solid #c1121f; background: #fbeeee; padding: .6rem 1rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 12px;
  margin: .8rem 0; }
th, td { padding: .22rem .55rem; border-bottom: 1px solid #ddd; white-space: nowrap; }
th { text-align: left; background: #f4f4f4; } td.number { text-align: right; }
img { max-width: 100%; height: auto; }
.small { color: #555; font-size: 12px; }
"""
KINDS = {".svg": "image/svg+xml", ".png": "image/png"}


def report(
    runs: Sequence[Row],
    cases: Sequence[Row],
    results: Sequence[Row],
    pictures: Mapping[str, bytes],
) -> str:
    """Return the report of everything.

    Parameters
    ----------
    runs, cases, results : sequence of mapping
        Records, at least one run.
    pictures : mapping of str to bytes
        Contents by file name: those that begin with an exam's name and follow 'curves_' or
        'errors_' stand with that exam (`curves_<case>.svg`), all others at the top.
    """
    own = {case["case"]: _of_case(case["case"], pictures) for case in cases}
    placed = {name for names in own.values() for name in names}
    parts = [
        f'<p class="notice">{html.escape(NOTICE)}</p>',
        f'<p class="small">{html.escape(runs[-1]["definitions"])}</p>',
        *(f'<p class="small">{html.escape(line)}</p>' for line in _conditions(runs)),
        "<h2>All exams</h2>",
        _scrolled(mean_table(results).html()),
        _scrolled(agreement_table(cases, results).html()),
        *(_image(name, data) for name, data in pictures.items() if name not in placed),
    ]
    for case in cases:
        rows = [row for row in results if row["case"] == case["case"]]
        parts += [
            f"<h2>{html.escape(case['case'])}</h2>",
            f"<p>{html.escape(case_line(case))}; {html.escape(exam_line(case))}.</p>",
            _scrolled(case_table(rows).html()),
            _scrolled(function_table(case, rows).html()),
            *(_image(name, pictures[name]) for name in own[case["case"]]),
        ]
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>Clinical evaluation of decoded cine MRI</title><style>{STYLE}</style></head>"
        f"<body><h1>Clinical evaluation of decoded cine MRI</h1>\n{body}\n</body></html>\n"
    )


def conditions(run: Row) -> str:
    """Return one line on machine, versions and network of a run."""
    words = [f"{run['device']}, {run['cpus']} cores, Python {run['python']}"]
    words += [f"{name} {run[name]}" for name in ("edge_codec", "numpy", "onnxruntime", "openvino")
              if run.get(name)]  # fmt: skip
    network = f"segmentation network {run['network']}, SHA-256 {run['network_sha256'][:16]}"
    return f"{', '.join(words)}; {network}."


def errors_name(row: Mapping[str, Any]) -> str:
    """Return the name of the picture of a result's frame."""
    return f"errors_{plain(row['case'])}__{plain(row['codec'])}__{plain(row['selection'])}.png"


def plain(name: str) -> str:
    """Return a name without what file systems object to."""
    return re.sub(r"[^\w.-]+", "-", name)


def _conditions(runs: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(conditions(run) for run in runs))


def _of_case(name: str, pictures: Mapping[str, bytes]) -> list[str]:
    starts = (f"curves_{plain(name)}.", f"errors_{plain(name)}__")
    return [picture for picture in pictures if picture.startswith(starts)]


def _scrolled(table: str) -> str:
    return f'<div class="scroll">{table}</div>'


def _image(name: str, data: bytes) -> str:
    stem, dot, suffix = name.rpartition(".")
    coded = base64.b64encode(data).decode("ascii")
    label = html.escape(stem.replace("_", " ").strip())
    return f'<p><img alt="{label}" src="data:{KINDS[dot + suffix]};base64,{coded}"></p>'
