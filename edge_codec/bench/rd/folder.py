"""The folder of a run: records, tables and pictures, each file whole or not there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edge_codec.bench.rd import difference
from edge_codec.bench.rd.case import Case
from edge_codec.bench.rd.codecs import PACKAGES
from edge_codec.bench.rd.measure import Result
from edge_codec.bench.rd.plot import FORMATS, draw_lossless, draw_rate_distortion
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

    Raises
    ------
    SourceError
        If a file that the run may write exists and `force` is not set, or the folder cannot be
        made. Known before anything is measured.
    """

    def __init__(self, path: Path, cases: Sequence[str], *, force: bool) -> None:
        self._path = path
        self._force = force
        self._written: set[str] = set()
        pictures = [f"{kind}_{case}.{form}" for case in cases for kind in ("rd", "lossless")
                    for form in FORMATS]  # fmt: skip
        for name in (RECORDS, TABLE, DIFFERENCES, *pictures):
            if (path / name).exists() and not force:
                raise SourceError(f"{path / name} exists; use --force to overwrite it")
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SourceError(f"{path} cannot be made: {error.strerror}") from error

    def write_records(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Write one JSON object per line."""
        self._write(RECORDS, "".join(json.dumps(record) + "\n" for record in records))

    def write_tables(
        self, measured: Sequence[tuple[Case, Sequence[Result]]], machine: Mapping[str, Any]
    ) -> None:
        """Write every result as Markdown, under the conditions of `run.machine_record`."""
        parts = ["# Rate and distortion", machine["definitions"], _conditions(machine)]
        for case, results in measured:
            parts += [f"## {case.name}", case_line(case), markdown_table(results)]
        self._write(TABLE, "\n\n".join(parts) + "\n")

    def write_differences(
        self, measured: Sequence[tuple[Case, Sequence[Result]]], anchor: str
    ) -> None:
        """Write the Bjontegaard differences from the anchor as Markdown."""
        parts = [
            f"# Bjontegaard differences from {anchor}",
            "BD-rate: rate at equal PSNR, negative is smaller. BD-PSNR: PSNR at equal rate, "
            "positive is better. Peak = maximum of the exam, PCHIP in logarithmic rate, over the "
            f"interval that both curves cover; n/a below {MIN_OVERLAP_DB:g} dB, a factor of "
            f"{MIN_OVERLAP_RATIO:g} in rate, or {MIN_POINTS} points. Cases are not averaged.",
        ]
        for case, results in measured:
            found = difference.differences(results, anchor)
            parts += [f"## {case.name}", case_line(case), difference.markdown(found, anchor)]
        self._write(DIFFERENCES, "\n\n".join(parts) + "\n")

    def write_pictures(self, case: Case, results: Sequence[Result]) -> None:
        """Draw a case, where there is anything to draw."""
        for kind, draw in (("rd", draw_rate_distortion), ("lossless", draw_lossless)):
            for form, data in draw(case_line(case), results).items():
                self._write_bytes(f"{kind}_{case.name}.{form}", data)

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
