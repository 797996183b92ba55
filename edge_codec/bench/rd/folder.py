"""The folder of a run: records, tables and pictures, each file whole or not there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edge_codec.bench.rd.codecs import PACKAGES
from edge_codec.bench.rd.difference import Range, differences, markdown
from edge_codec.bench.rd.plot import FORMATS, draw_lossless, draw_rate_distortion
from edge_codec.bench.rd.records import Records
from edge_codec.bench.rd.table import case_line, markdown_table
from edge_codec.errors import SourceError
from edge_codec.io.atomic import atomic_file
from edge_codec.metrics.rate import MIN_OVERLAP_DB, MIN_OVERLAP_RATIO, MIN_POINTS

RECORDS, TABLE, DIFFERENCES = "rd.jsonl", "table.md", "bd_rate.md"


class ResultFolder:
    """Where a run leaves its files.

    Parameters
    ----------
    path : Path
        Folder; made where it does not exist yet.
    cases : sequence of str
        Names of the cases to come.
    force : bool
        Whether files of an earlier run may be replaced.
    resume : bool
        Go on with an earlier run: what it measured is kept (`records`).

    Attributes
    ----------
    records : Records
        Of the earlier run, or none.

    Raises
    ------
    SourceError
        If a file that the run may write exists and neither `force` nor `resume` is set, the folder
        cannot be made, or the records to go on with cannot be read. Known before anything is
        measured.
    """

    def __init__(
        self, path: Path, cases: Sequence[str], *, force: bool = False, resume: bool = False
    ) -> None:
        self._path = path
        self._force = force or resume
        self._written: set[str] = set()
        pictures = [f"{kind}_{case}.{form}" for case in cases for kind in ("rd", "lossless")
                    for form in FORMATS]  # fmt: skip
        for name in (RECORDS, TABLE, DIFFERENCES, *pictures):
            if (path / name).exists() and not self._force:
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
        """Write one JSON object per line."""
        rows = self.records.rows()
        self._write(RECORDS, "".join(json.dumps(row) + "\n" for row in rows))

    def write_tables(self) -> None:
        """Write every result as Markdown, under the conditions of the runs."""
        runs = self.records.runs
        conditions = dict.fromkeys(_conditions(run) for run in runs)
        parts = ["# Rate and distortion", runs[-1]["definitions"], *conditions]
        for case in self.records.cases:
            results = self.records.results(case["case"])
            parts += [f"## {case['case']}", case_line(case), markdown_table(results)]
        self._write(TABLE, "\n\n".join(parts) + "\n")

    def write_differences(self, anchor: str, ranges: Sequence[Range]) -> None:
        """Write the Bjontegaard differences from the anchor as Markdown, and note them."""
        parts = [
            f"# Bjontegaard differences from {anchor}",
            "BD-rate: rate at equal PSNR, negative is smaller; heart: at equal PSNR of the heart's "
            "region. BD-PSNR: PSNR at equal rate, positive is better. Peak = maximum of the exam, "
            "PCHIP in logarithmic rate, over the interval that both curves cover, and over parts "
            "of it (in parentheses what is covered of a part, where it is not all); n/a below "
            f"{MIN_OVERLAP_DB:g} dB, a factor of {MIN_OVERLAP_RATIO:g} in rate, or {MIN_POINTS} "
            "points. Cases are not averaged.",
        ]
        for case in self.records.cases:
            found = differences(self.records.results(case["case"]), anchor, ranges)
            self.records.set_differences(case["case"], anchor, found)
            parts += [f"## {case['case']}", case_line(case), markdown(found, anchor)]
        self._write(DIFFERENCES, "\n\n".join(parts) + "\n")

    def write_pictures(self, case: Mapping[str, Any], anchor: str) -> None:
        """Draw a case, where there is anything to draw."""
        results = self.records.results(case["case"])
        drawn = {
            "rd": draw_rate_distortion(case_line(case), results, anchor),
            "lossless": draw_lossless(case_line(case), results),
        }
        for kind, files in drawn.items():
            for form, data in files.items():
                self._write_bytes(f"{kind}_{case['case']}.{form}", data)

    def _write(self, name: str, text: str) -> None:
        self._write_bytes(name, text.encode())

    def _write_bytes(self, name: str, data: bytes) -> None:
        # Our own file of the case before is replaced; somebody else's is not.
        replace = self._force or name in self._written
        with atomic_file(self._path / name, force=replace) as file:
            file.write(data)
        self._written.add(name)


def _conditions(machine: Mapping[str, Any]) -> str:
    packages = {name: machine.get(name) for name in ("edge_codec", "numpy", *PACKAGES)}
    versions = {**packages, **machine["libraries"]}
    known = ", ".join(f"{name} {value}" for name, value in versions.items() if value)
    return f"{machine['device']}, {machine['cpus']} cores, Python {machine['python']}; {known}."
