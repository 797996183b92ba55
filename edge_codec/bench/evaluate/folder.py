"""The folder of an evaluation: records, tables, pictures, report, each whole or not there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_codec.bench.evaluate.pages import NOTICE, conditions, errors_name, plain, report
from edge_codec.bench.evaluate.records import Records
from edge_codec.bench.evaluate.table import (
    agreement_table,
    case_table,
    exam_line,
    function_table,
    mean_table,
    measures_csv,
)
from edge_codec.bench.rd.table import case_line
from edge_codec.errors import SourceError
from edge_codec.io.atomic import atomic_file

if TYPE_CHECKING:
    from edge_codec.bench.evaluate.exam import Exam
    from edge_codec.bench.evaluate.judge import Judgement

RECORDS, MEASURES_CSV, TABLE, REPORT = "records.jsonl", "measures.csv", "table.md", "report.html"
PICTURES = ("*.svg", "*.png")


class EvaluationFolder:
    """Where an evaluation leaves its files.

    Parameters
    ----------
    path : Path
        Folder; made where it does not exist yet.
    pictures : bool
        Whether to draw; needs Matplotlib.
    force : bool
        Whether files of an earlier evaluation may be replaced.
    resume : bool
        Go on with an earlier one: what it measured is kept (`records`).

    Attributes
    ----------
    records : Records
        Of the earlier run, or none.

    Raises
    ------
    SourceError
        If the folder holds an evaluation and neither `force` nor `resume` is set, it cannot be
        made, or the records to go on with cannot be read. Known before anything is measured.
    """

    def __init__(
        self, path: Path, *, pictures: bool = True, force: bool = False, resume: bool = False
    ) -> None:
        self._path = path
        self._draws = pictures
        self._drawn: list[str] = []
        for name in (RECORDS, MEASURES_CSV, TABLE, REPORT):
            if (path / name).exists() and not (force or resume):
                raise SourceError(
                    f"{path / name} exists; use --resume to go on with it or --force to "
                    "overwrite it"
                )
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SourceError(f"{path} cannot be made: {error.strerror}") from error
        earlier = path / RECORDS
        self.records = Records.read(earlier) if resume and earlier.exists() else Records()

    def write_records(self) -> None:
        """Write one JSON object per line, so that a run that is killed goes on from here."""
        rows = self.records.rows()
        self._write(RECORDS, "".join(json.dumps(row) + "\n" for row in rows).encode())

    def write_errors(self, exam: Exam, judgement: Judgement) -> None:
        """Draw a frame of a result, where there is one."""
        if not self._draws or judgement.decoded is None or judgement.labels is None:
            return
        from edge_codec.bench.evaluate.plot import draw_errors

        row = judgement.record
        title = f"{row['case']}: {row['codec']}, {row['selection']} ({row['setting']})"
        data = draw_errors(exam, judgement.decoded, judgement.labels, title)
        self._write(errors_name(row), data)

    def write_summary(self) -> None:
        """Write tables, pictures of all exams and the report, from the records."""
        cases, results = self.records.cases, self.records.results()
        self._write(MEASURES_CSV, measures_csv(cases, results).encode())
        self._write(TABLE, markdown(self.records).encode())
        pictures = self._pictures(cases, results)
        for name, data in pictures.items():
            if name.endswith(".svg"):
                self._write(name, data)
        page = report(self.records.runs, cases, results, pictures)
        self._write(REPORT, page.encode())

    def _pictures(
        self, cases: Sequence[Mapping[str, Any]], results: Sequence[Mapping[str, Any]]
    ) -> dict[str, bytes]:
        """Return all pictures: drawn from the records, and those of frames from the folder."""
        if not self._draws:
            return {}
        from edge_codec.bench.evaluate.plot import PLOTTED, draw_agreement, draw_curves, draw_dice

        drawn = {"dice.svg": draw_dice(cases, results)}
        for measure in PLOTTED:
            drawn[f"bland_altman_{measure}.svg"] = draw_agreement(cases, results, measure)
        for case in cases:
            own = [row for row in results if row["case"] == case["case"]]
            drawn[f"curves_{plain(case['case'])}.svg"] = draw_curves(case, own)
        found = {name: data for name, data in drawn.items() if data is not None}
        for row in results:
            file = self._path / errors_name(row)
            if file.exists():
                found[file.name] = file.read_bytes()
        return found

    def _write(self, name: str, data: bytes) -> None:
        with atomic_file(self._path / name, force=True) as file:
            file.write(data)


def markdown(records: Records) -> str:
    """Return every result as Markdown, under the conditions of the runs."""
    cases, results = records.cases, records.results()
    runs = records.runs
    parts = ["# Clinical evaluation", NOTICE, runs[-1]["definitions"]]
    parts += dict.fromkeys(conditions(run) for run in runs)
    parts += [mean_table(results).markdown(), agreement_table(cases, results).markdown()]
    for case in cases:
        own = records.results(case["case"])
        parts += [
            f"## {case['case']}",
            f"{case_line(case)}; {exam_line(case)}.",
            case_table(own).markdown(),
            function_table(case, own).markdown(),
        ]
    return "\n\n".join(parts) + "\n"
