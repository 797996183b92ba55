"""Patients together: bias and limits of agreement of each codec at each setting.

What is gathered was asked for by one name (`selection`): at 'ratio 100' each exam has a quality of
its own. Clinical figures of crops and of full fields of view are those of the same hearts, but
ratios are not; what is gathered should be of one kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from edge_codec.bench.rd.measure import OK
from edge_codec.metrics.clinical import bland_altman, mean_of

Row = Mapping[str, Any]

ORIGINAL = "original"
"""Stands for a codec where the network's labels of original frames are measured."""
NETWORK, EXPERT = "network", "expert"
MEASURES = {
    "lv_ef_percent": "LV EF (%)",
    "lv_edv_ml": "LV EDV (ml)",
    "lv_esv_ml": "LV ESV (ml)",
    "rv_ef_percent": "RV EF (%)",
    "rv_edv_ml": "RV EDV (ml)",
    "rv_esv_ml": "RV ESV (ml)",
    "mass_g": "mass (g)",
}
MEANS = {
    "dice_drop_points": ("lv", "myocardium", "rv", "mean"),
    "dice_network_all": ("lv", "myocardium", "rv", "mean"),
    "temporal_ratio": ("all", "heart"),
    "psnr_db": ("all", "heart"),
    "ratio_to_16_bit": ("",),
    "lv_volume_preservation": ("",),
}


def pairs(
    cases: Sequence[Row], results: Sequence[Row], measure: str, reference: str
) -> list[tuple[str, float, float]]:
    """Return what was measured on decoded frames beside its reference, patient by patient.

    Parameters
    ----------
    cases : sequence of mapping
        Records of the exams.
    results : sequence of mapping
        Results of one codec at one selection; for `ORIGINAL` the records of the exams again.
    measure : str
        One of `MEASURES`.
    reference : str
        'network': its labels of the original frames. 'expert': the expert's labels.

    Returns
    -------
    list of (str, float, float)
        Case, measured, reference; only where both exist.
    """
    known = {case["case"]: case["function"][reference] for case in cases}
    found = []
    for row in results:
        function = row["function"]
        measured = function.get(NETWORK, function)[measure]
        expected = (known[row["case"]] or {}).get(measure)
        if measured is not None and expected is not None:
            found.append((row["case"], measured, expected))
    return found


def groups(results: Iterable[Row]) -> dict[tuple[str, str], list[Row]]:
    """Return the results that were verified, by codec and selection."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in results:
        if row["status"] == OK:
            found.setdefault((row["codec"], row["selection"]), []).append(row)
    return found


def agreements(cases: Sequence[Row], results: Iterable[Row]) -> list[dict[str, Any]]:
    """Return Bland and Altman's figures as records, one for each codec, measure and reference."""
    rows = []
    sources: list[tuple[str, str, list[Row], tuple[str, ...]]]
    sources = [(ORIGINAL, "", list(cases), (EXPERT,))]
    sources += [(codec, selection, found, (NETWORK, EXPERT))
                for (codec, selection), found in groups(results).items()]  # fmt: skip
    for codec, selection, found, references in sources:
        for reference in references:
            for measure in MEASURES:
                matched = pairs(cases, found, measure, reference)
                if not matched:
                    continue
                _, measured, expected = zip(*matched, strict=True)
                rows.append(
                    {
                        "codec": codec,
                        "selection": selection,
                        "measure": measure,
                        "measured_on": "network, original frames"
                        if codec == ORIGINAL
                        else "network, decoded frames",
                        "reference": "expert"
                        if reference == EXPERT
                        else "network, original frames",
                        **bland_altman(measured, expected).fields(),
                    }
                )
    return rows


def means(results: Iterable[Row]) -> list[dict[str, Any]]:
    """Return means over patients with their intervals as records, one per codec and figure."""
    rows = []
    for (codec, selection), found in groups(results).items():
        for figure, parts in MEANS.items():
            for part in parts:
                values = [
                    value for row in found if (value := figure_of(row, figure, part)) is not None
                ]
                if values:
                    rows.append(
                        {
                            "codec": codec,
                            "selection": selection,
                            "figure": figure,
                            "part": part,
                            **mean_of(values).fields(),
                        }
                    )
    return rows


def figure_of(row: Row, figure: str, part: str) -> float | None:
    """Return a figure of `MEANS` from a result; None where it does not exist."""
    value: float | None
    if figure == "dice_drop_points":
        value = (row[figure] or {}).get(part)
    elif figure == "dice_network_all":
        value = row["against_network"]["all"]["dice"][part]
    else:
        name = figure if part in ("", "all") else {
            "temporal_ratio": "temporal_ratio_heart", "psnr_db": "psnr_heart_db",
        }[figure]  # fmt: skip
        value = row[name]
    return value
