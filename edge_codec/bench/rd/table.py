"""Results as tables: aligned text for a terminal, Markdown for a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from edge_codec.bench.rd.measure import OK, Figures, Result

HEADINGS = (
    "codec", "setting", "bits/voxel", "ratio", "PSNR", "p99.5", "moving", "heart", "SSIM",
    "max error", "enc ms", "dec ms", "threads",
)  # fmt: skip
DISTURBED_MARK = "~"
TEXT_COLUMNS = 2  # the first so many are words, aligned to the left


def case_line(case: Mapping[str, Any]) -> str:
    """Return one line that says what a case is, from its record (`Case.describe`)."""
    slices, phases, rows, columns = case["shape_slice_phase_row_column"]
    part = "" if case["part"] == "whole exam" else f" ({case['part']})"
    return (
        f"{case['case']}: slices x phases {slices} x {phases} of {rows}x{columns} pixels{part}, "
        f"{case['bits']} bits, exam maximum {case['peak']:.0f}, "
        f"99.5th percentile {case['peak_p995']:.0f}, heart found by {case['heart_found_by']}"
    )


def text_table(results: Sequence[Result]) -> str:
    """Return results as aligned text, with reasons in place of figures, and the notes below."""
    rows = [HEADINGS, *(_cells(result) for result in results)]
    full = [row for row in rows if len(row) == len(HEADINGS)]
    widths = [max(len(row[column]) for row in full) for column in range(len(HEADINGS))]
    for column in range(TEXT_COLUMNS):
        widths[column] = max(len(row[column]) for row in rows)
    lines = ["  ".join(_aligned(row, widths)).rstrip() for row in rows]
    return "\n".join([*lines, *_notes(results)])


def markdown_table(results: Sequence[Result]) -> str:
    """Return results as a Markdown table, and the notes below."""
    lines = [_markdown_row(HEADINGS), "|---|---|" + "---:|" * (len(HEADINGS) - TEXT_COLUMNS)]
    for result in results:
        cells = _cells(result)
        padding = [""] * (len(HEADINGS) - len(cells))
        lines.append(_markdown_row([*cells, *padding]))
    return "\n".join([*lines, "", *(f"- {note}" for note in _notes(results))]).rstrip()


def _markdown_row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _cells(result: Result) -> tuple[str, ...]:
    if result.status != OK or result.figures is None:
        return result.codec, result.setting, f"{result.status}: {result.reason}"
    figures = result.figures
    return (
        result.codec,
        result.setting,
        f"{figures.bpp:.4f}",
        f"{figures.ratio_to_16_bit:.2f}",
        _decibels(figures.psnr_db, figures),
        _decibels(figures.psnr_p995_db, figures),
        _decibels(figures.psnr_roi_db, figures),
        _decibels(figures.psnr_heart_db, figures),
        "-" if figures.ssim is None else f"{figures.ssim:.4f}",
        str(figures.max_error),
        _milliseconds(figures.encode_ms, figures),
        _milliseconds(figures.decode_ms, figures),
        str(result.threads),
    )


def _decibels(value: float | None, figures: Figures) -> str:
    if value is None:
        return "exact" if figures.max_error == 0 else "-"
    return f"{value:.2f}"


def _milliseconds(value: float, figures: Figures) -> str:
    return f"{value:.2f}{DISTURBED_MARK if figures.disturbed else ''}"


def _aligned(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    if len(row) < len(widths):  # a reason takes the place of all figures
        return [
            *(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)),
            row[-1],
        ]
    words = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)][:TEXT_COLUMNS]
    numbers = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)][TEXT_COLUMNS:]
    return [*words, *numbers]


def _notes(results: Iterable[Result]) -> list[str]:
    rows = list(results)
    notes = list(
        dict.fromkeys(f"{result.codec}: {note}" for result in rows for note in result.notes)
    )
    if any(result.figures is not None and result.figures.disturbed for result in rows):
        notes.append(f"{DISTURBED_MARK} timed beside other work, so too long")
    return notes
