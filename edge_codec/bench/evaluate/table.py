"""Results as tables: aligned text for a terminal, Markdown and HTML for files, CSV for programs."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edge_codec.bench.evaluate.summary import MEASURES, NETWORK, ORIGINAL, agreements, groups, means
from edge_codec.bench.rd.measure import OK
from edge_codec.metrics.clinical import STRUCTURES

Row = Mapping[str, Any]
SHORT = {"lv": "LV", "myocardium": "Myo", "rv": "RV"}
NOTHING = "-"


@dataclass(frozen=True, slots=True)
class Table:
    """A heading, columns, and cells; the first `words` columns are aligned to the left."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    words: int = 2

    def text(self) -> str:
        """Return the table as aligned text; a short row's last cell runs on."""
        every = [self.columns, *self.rows]
        full = [row for row in every if len(row) == len(self.columns)]
        widths = [max(len(row[place]) for row in full) for place in range(len(self.columns))]
        for place in range(self.words):
            widths[place] = max(len(row[place]) for row in every)
        lines = [self.title, ""] if self.title else []
        for row in every:
            last = len(row) - 1 if len(row) < len(self.columns) else len(row)
            cells = [
                cell.ljust(widths[place]) if place < self.words else cell.rjust(widths[place])
                for place, cell in enumerate(row[:last])
            ]
            lines.append("  ".join([*cells, *row[last:]]).rstrip())
        return "\n".join(lines)

    def markdown(self) -> str:
        """Return the table as Markdown."""
        rule = "|" + "---|" * self.words + "---:|" * (len(self.columns) - self.words)
        lines = [f"### {self.title}", ""] if self.title else []
        for row in (self.columns, *self.rows):
            padded = [*row, *[""] * (len(self.columns) - len(row))]
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in padded) + " |")
        lines.insert(len(lines) - len(self.rows), rule)
        return "\n".join(lines)

    def html(self) -> str:
        """Return the table as HTML, everything in it escaped."""
        head = "".join(f"<th>{html.escape(name)}</th>" for name in self.columns)
        body = []
        for row in self.rows:
            cells = [
                f'<td class="{"word" if place < self.words else "number"}"'
                + (f' colspan="{len(self.columns) - place}"' if _runs_on(row, place, self) else "")
                + f">{html.escape(cell)}</td>"
                for place, cell in enumerate(row)
            ]
            body.append(f"<tr>{''.join(cells)}</tr>")
        title = f"<h3>{html.escape(self.title)}</h3>" if self.title else ""
        return f"{title}<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _runs_on(row: tuple[str, ...], place: int, table: Table) -> bool:
    return len(row) < len(table.columns) and place == len(row) - 1


def case_table(results: Sequence[Row]) -> Table:
    """Return the results of one exam."""
    columns = (
        "codec", "asked", "setting", "ratio", "PSNR", "heart", "SSIM",
        *(f"Dice {name}" for name in SHORT.values()), "HD95 LV",
        *(f"drop {name}" for name in SHORT.values()),
        "EF diff", "EDV diff", "LV kept", "motion", "in heart",
    )  # fmt: skip
    return Table("", columns, [_result_cells(row) for row in results], 3)


def _result_cells(row: Row) -> tuple[str, ...]:
    words = (row["codec"], row["selection"], row["setting"])
    if row["status"] != OK:
        return (*words, f"{row['status']}: {row['reason']}")
    network, drop = row["against_network"], row["dice_drop_points"] or {}
    edges = [network[phase]["hd95_mm"]["lv"] for phase in ("ed", "es")]
    hd95 = None if None in edges else sum(edges) / 2
    differences = row["difference"]
    return (
        *words,
        figure(row["ratio_to_16_bit"], 1),
        "exact" if row["max_error"] == 0 else figure(row["psnr_db"], 2),
        "exact" if row["max_error"] == 0 else figure(row["psnr_heart_db"], 2),
        figure(row["ssim"], 4),
        *(figure(network["all"]["dice"][name], 4) for name in SHORT),
        figure(hd95, 2),
        *(figure(drop.get(name), 2, signed=True) for name in SHORT),
        figure(differences["lv_ef_percent"], 2, signed=True),
        figure(differences["lv_edv_ml"], 2, signed=True),
        figure(row["lv_volume_preservation"], 4),
        figure(row["temporal_ratio"], 3),
        figure(row["temporal_ratio_heart"], 3),
    )


def function_table(case: Row, results: Sequence[Row]) -> Table:
    """Return volumes and function of one exam by each source of labels."""
    columns = ("labels by", "on", *MEASURES.values())
    sources = [
        (source, "original frames", case["function"][source]) for source in ("expert", "network")
    ]
    sources += [("network", f"{row['codec']}, {row['selection']}", row["function"])
                for row in results if row["status"] == OK]  # fmt: skip
    rows = [
        (source, frames, *(figure(function[name], 1) for name in MEASURES))
        for source, frames, function in sources
        if function is not None
    ]
    return Table("", columns, rows)


def agreement_table(cases: Sequence[Row], results: Sequence[Row]) -> Table:
    """Return bias and limits of agreement over all exams."""
    columns = ("codec", "asked", "measure", "against", "n", "bias", "95 % CI", "SD", "limits",
               "CI of lower", "CI of upper")  # fmt: skip
    rows: list[tuple[str, ...]] = [
        (
            "network, original frames" if row["codec"] == ORIGINAL else row["codec"],
            row["selection"],
            MEASURES[row["measure"]],
            row["reference"],
            str(row["n"]),
            figure(row["bias"], 3, signed=True),
            interval(row["bias_interval"]),
            figure(row["sd"], 3),
            interval(row["limits"]),
            interval(row["lower_interval"]),
            interval(row["upper_interval"]),
        )
        for row in agreements(cases, results)
    ]
    return Table("Agreement over exams (Bland and Altman)", columns, rows, 4)


def mean_table(results: Sequence[Row]) -> Table:
    """Return means over all exams, a row for each codec and selection."""
    counts = {key: len(rows) for key, rows in groups(results).items()}
    figures: dict[tuple[str, str], dict[tuple[str, str], Row]] = {}
    for row in means(results):
        found = figures.setdefault((row["codec"], row["selection"]), {})
        found[row["figure"], row["part"]] = row
    columns = ("codec", "asked", "n", "ratio", "PSNR", "heart",
               *(f"Dice {name}" for name in (*SHORT.values(), "mean")),
               *(f"drop {name}" for name in (*SHORT.values(), "mean")), "95 % CI of drop",
               "LV kept", "motion", "in heart")  # fmt: skip
    rows = []
    for (codec, selection), found in figures.items():

        def cell(
            name: str, part: str, digits: int, signed: bool = False, found: Any = found
        ) -> str:
            return figure(found.get((name, part), {}).get("mean"), digits, signed=signed)

        drop = found.get(("dice_drop_points", "mean"), {})
        structures = (*STRUCTURES, "mean")
        rows.append(
            (
                codec,
                selection,
                str(counts[codec, selection]),
                cell("ratio_to_16_bit", "", 1),
                cell("psnr_db", "all", 2),
                cell("psnr_db", "heart", 2),
                *(cell("dice_network_all", name, 4) for name in structures),
                *(cell("dice_drop_points", name, 3, True) for name in structures),
                interval(drop.get("interval")),
                cell("lv_volume_preservation", "", 4),
                cell("temporal_ratio", "all", 3),
                cell("temporal_ratio", "heart", 3),
            )
        )
    return Table("Means over exams", columns, rows)


def measures_csv(cases: Iterable[Row], results: Iterable[Row]) -> str:
    """Return every clinical figure in long form: one figure a line, each with its source.

    Columns: case, codec ('original' for none), selection, ratio, frames, source ('network' or
    'expert'), against, measure, structure, phase, value.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("case", "codec", "selection", "ratio_to_16_bit", "frames", "source", "against",
                     "measure", "structure", "phase", "value"))  # fmt: skip
    for case in cases:
        start = (case["case"], ORIGINAL, "", "", "original")
        for source in ("expert", "network"):
            for name, value in (case["function"][source] or {}).items():
                writer.writerow((*start, source, "", name, "", "", value))
        _write_overlaps(writer, start, case["network_against_expert"], "expert")
    for row in results:
        if row["status"] != OK:
            continue
        start = (row["case"], row["codec"], row["selection"], row["ratio_to_16_bit"], "decoded")
        for name, value in row["function"].items():
            writer.writerow((*start, "network", "", name, "", "", value))
        _write_overlaps(writer, start, row["against_network"], "network on original")
        _write_overlaps(writer, start, row["against_expert"], "expert")
        for structure, value in (row["dice_drop_points"] or {}).items():
            writer.writerow((*start, "network", "expert", "dice_drop_points", structure, "", value))
        for name in ("lv_volume_preservation", "lv_curve_correlation", "temporal_ratio",
                     "temporal_ratio_heart"):  # fmt: skip
            writer.writerow((*start, "voxels" if name.startswith("temporal") else "network", "",
                             name, "", "", row[name]))  # fmt: skip
    return text.getvalue()


def _write_overlaps(writer: Any, start: tuple[Any, ...], compared: Any, against: str) -> None:
    for phase, measures in (compared or {}).items():
        for measure, structures in measures.items():
            for structure, value in structures.items():
                writer.writerow((*start, NETWORK, against, measure, structure, phase, value))


def figure(value: float | None, digits: int, *, signed: bool = False) -> str:
    """Return a number with so many digits behind the point; '-' where there is none."""
    if value is None:
        return NOTHING
    return f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"


def interval(bounds: Sequence[float] | None) -> str:
    """Return an interval; '-' where there is none."""
    return NOTHING if bounds is None else f"{bounds[0]:+.3f} to {bounds[1]:+.3f}"


def exam_line(case: Row) -> str:
    """Return one line on phases and network of an exam, from its record (`Exam.record`)."""
    phases = case["phases"]
    line = (
        f"end-diastole phase {phases['ed']}, end-systole phase {phases['es']} (from 0, by "
        f"{phases['found_by']})"
    )
    reference = case["network_against_expert"]
    if reference is None:
        return f"{line}; no expert labels: the network on original frames is the only reference"
    words = [
        f"{phase.upper()} {short} {figure(reference[phase]['dice'][name], 3)}"
        for phase in ("ed", "es")
        for name, short in SHORT.items()
    ]
    return f"{line}; network on original frames against the expert, Dice: {', '.join(words)}"
