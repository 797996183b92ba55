"""How far each codec's curve lies from an anchor's, case by case.

Cases are not averaged: a crop around the heart and a full field of view have different curves.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from edge_codec.bench.rd.measure import OK, Result
from edge_codec.metrics.rate import Bjontegaard, bjontegaard

HEADINGS = ("codec", "BD-rate", "over dB", "BD-PSNR", "over bits/voxel")

Curve = list[tuple[float, float]]


def curves(results: Iterable[Result]) -> dict[str, Curve]:
    """Return the (bits per voxel, PSNR in dB) points with loss of each codec of one case."""
    found: dict[str, Curve] = {}
    for result in results:
        figures = result.figures
        if result.status == OK and figures is not None and figures.psnr_db is not None:
            found.setdefault(result.codec, []).append((figures.bpp, figures.psnr_db))
    return found


def differences(results: Iterable[Result], anchor: str) -> dict[str, Bjontegaard]:
    """Return each codec's difference from the anchor; empty where the anchor has no curve."""
    found = curves(results)
    if anchor not in found:
        return {}
    return {
        name: bjontegaard(found[anchor], curve) for name, curve in found.items() if name != anchor
    }


def record(case: str, codec: str, anchor: str, found: Bjontegaard) -> dict[str, Any]:
    """Return one difference as a flat JSON object."""
    return {
        "case": case,
        "codec": codec,
        "anchor": anchor,
        "bd_rate_percent": found.rate_percent,
        "quality_range_db": found.quality_range_db,
        "bd_psnr_db": found.psnr_db,
        "rate_range_bpp": found.rate_range_bpp,
    }


def markdown(found: dict[str, Bjontegaard], anchor: str) -> str:
    """Return the differences of one case as a Markdown table."""
    if not found:
        return f"n/a: {anchor} has no curve, or no other codec has one."
    lines = ["| " + " | ".join(HEADINGS) + " |", "|---|---:|---:|---:|---:|"]
    for codec, item in found.items():
        cells = (
            codec,
            "n/a" if item.rate_percent is None else f"{item.rate_percent:+.1f} %",
            _interval(item.quality_range_db, 1),
            "n/a" if item.psnr_db is None else f"{item.psnr_db:+.2f} dB",
            _interval(item.rate_range_bpp, 3),
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _interval(bounds: tuple[float, float] | None, digits: int) -> str:
    return "" if bounds is None else f"{bounds[0]:.{digits}f} to {bounds[1]:.{digits}f}"
