"""How far each codec's curve lies from an anchor's, case by case.

Over everything that both curves cover, and over ranges of quality: a codec that wins at high rates
may lose at low ones. By the PSNR of all voxels, and by that of the heart's region.

Cases are not averaged: a crop around the heart and a full field of view have different curves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from edge_codec.bench.rd.measure import OK, Result
from edge_codec.metrics.rate import EVERYWHERE, Bjontegaard, bjontegaard

Curve = list[tuple[float, float]]
Range = tuple[float, float]

PSNR, HEART = "psnr_db", "psnr_heart_db"
RANGES: tuple[Range, ...] = ((34.0, 42.0), (42.0, 50.0))


@dataclass(frozen=True, slots=True)
class Difference:
    """How a codec's curve differs from the anchor's.

    Attributes
    ----------
    codec : str
        Whose curve.
    measure : str
        Which figure is its quality: 'psnr_db' or 'psnr_heart_db'.
    asked_db : (float, float) or None
        Range of quality that was asked for; None for all that both curves cover.
    found : Bjontegaard
        The difference, with the range that it was found over.
    """

    codec: str
    measure: str
    asked_db: Range | None
    found: Bjontegaard

    def record(self, case: str, anchor: str) -> dict[str, Any]:
        """Return the difference as a flat JSON object."""
        return {
            "case": case,
            "codec": self.codec,
            "anchor": anchor,
            "measure": self.measure,
            "asked_range_db": self.asked_db,
            "bd_rate_percent": self.found.rate_percent,
            "quality_range_db": self.found.quality_range_db,
            "bd_psnr_db": self.found.psnr_db,
            "rate_range_bpp": self.found.rate_range_bpp,
        }


def curves(results: Iterable[Result], measure: str = PSNR) -> dict[str, Curve]:
    """Return the (bits per voxel, quality in dB) points with loss of each codec of one case."""
    found: dict[str, Curve] = {}
    for result in results:
        figures = result.figures
        quality = None if figures is None else getattr(figures, measure)
        if result.status == OK and figures is not None and quality is not None:
            found.setdefault(result.codec, []).append((figures.bpp, quality))
    return found


def differences(
    results: Iterable[Result], anchor: str, ranges: Sequence[Range] = RANGES
) -> list[Difference]:
    """Return each codec's differences from the anchor; none where the anchor has no curve.

    Parameters
    ----------
    results : iterable of Result
        Of one case.
    anchor : str
        Name of a codec.
    ranges : sequence of (float, float)
        Ranges of quality in dB, besides all that both curves cover.
    """
    rows = list(results)
    found = []
    for measure in (PSNR, HEART):
        by_codec = curves(rows, measure)
        for name, curve in by_codec.items():
            if anchor not in by_codec or name == anchor:
                continue
            for asked in (None, *ranges):
                difference = bjontegaard(by_codec[anchor], curve, asked or EVERYWHERE)
                found.append(Difference(name, measure, asked, difference))
    return found


def overall(found: Iterable[Difference]) -> dict[str, float]:
    """Return each codec's BD-rate by PSNR over all that it shares with the anchor, in percent."""
    return {
        item.codec: item.found.rate_percent
        for item in found
        if item.measure == PSNR and item.asked_db is None and item.found.rate_percent is not None
    }


def markdown(found: Sequence[Difference], anchor: str) -> str:
    """Return the differences of one case as a Markdown table."""
    if not found:
        return f"n/a: {anchor} has no curve, or no other codec has one."
    by_key = {(item.codec, item.measure, item.asked_db): item.found for item in found}
    ranges = list(dict.fromkeys(item.asked_db for item in found if item.asked_db is not None))
    head = ["codec", "BD-rate", "over dB", *(f"{_interval(asked, 0)} dB" for asked in ranges),
            "BD-PSNR", "over bits/voxel", "heart BD-rate", "over dB",
            *(f"heart {_interval(asked, 0)} dB" for asked in ranges)]  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    nothing = Bjontegaard(None, None, None, None)
    for codec in dict.fromkeys(item.codec for item in found):
        cells = [codec]
        for measure in (PSNR, HEART):
            whole = by_key.get((codec, measure, None), nothing)
            parts = [_part(by_key.get((codec, measure, asked), nothing), asked)
                     for asked in ranges]  # fmt: skip
            cells += [_percent(whole.rate_percent), _interval(whole.quality_range_db, 1), *parts]
            if measure == PSNR:
                gain = "n/a" if whole.psnr_db is None else f"{whole.psnr_db:+.2f} dB"
                cells += [gain, _interval(whole.rate_range_bpp, 3)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _part(found: Bjontegaard, asked: Range) -> str:
    """Return a BD-rate over a range, with what was covered of it where that is not all."""
    covered = found.quality_range_db
    if covered is None or covered == asked:
        return _percent(found.rate_percent)
    return f"{_percent(found.rate_percent)} ({_interval(covered, 1)})"


def _percent(value: float | None) -> str:
    return "n/a" if value is None else f"{value:+.1f} %"


def _interval(bounds: Range | None, digits: int) -> str:
    return "" if bounds is None else f"{bounds[0]:.{digits}f} to {bounds[1]:.{digits}f}"
