"""What was evaluated, as JSON objects: one run, or several that went on with one another.

Kinds, in `record`: `run` (machine, versions, command, network), `case`, `result` with the number of
its `run`, and over all cases `agreement` and `mean`, which follow from them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_codec.bench.evaluate.summary import agreements, means
from edge_codec.bench.rd.measure import OK
from edge_codec.errors import SourceError

Key = tuple[str, str, str, int]


class Records:
    """Runs, cases and results; what is measured again takes the place of what was before."""

    def __init__(self) -> None:
        self._runs: list[dict[str, Any]] = []
        self._cases: dict[str, dict[str, Any]] = {}
        self._results: dict[Key, dict[str, Any]] = {}

    @classmethod
    def read(cls, path: Path) -> Records:
        """Read the records of earlier runs.

        Raises
        ------
        SourceError
            If the file cannot be read or holds something else.
        """
        found = cls()
        try:
            for line in path.read_text(encoding="utf-8").splitlines():
                found._take(json.loads(line))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise SourceError(
                f"{path} holds no records of evaluate ({type(error).__name__}: {error}); "
                "use another folder"
            ) from error
        return found

    def _take(self, row: dict[str, Any]) -> None:
        kind = row.pop("record")
        if kind == "run":
            self._runs.append(row)
        elif kind == "case":
            self._cases[row["case"]] = row
        elif kind == "result":
            self._results[_key(row)] = row
        elif kind not in ("agreement", "mean"):  # those are computed again
            raise ValueError(f"'{kind}' is no kind of record")

    def start(self, run: Mapping[str, Any]) -> None:
        """Note a run; results from here on are its own.

        Raises
        ------
        SourceError
            If an earlier run used another segmentation network.
        """
        before = {earlier["network_sha256"] for earlier in self._runs}
        if before - {run["network_sha256"]}:
            raise SourceError(
                "the run to go on with used another segmentation network; use another folder, or "
                "--force to measure all of it again"
            )
        self._runs.append(dict(run))

    def add_case(self, fields: Mapping[str, Any]) -> None:
        """Note an exam.

        Raises
        ------
        SourceError
            If an earlier run measured other voxels or other labels under this name.
        """
        plain = json.loads(json.dumps(fields))
        if self._cases.setdefault(fields["case"], plain) != plain:
            raise SourceError(
                f"{fields['case']} was another exam, or had other labels, in the run to go on "
                "with; use another folder"
            )

    def add_result(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Note a result, and return its record."""
        row: dict[str, Any] = json.loads(json.dumps({**fields, "run": len(self._runs) - 1}))
        self._results[_key(row)] = row
        return row

    def has(self, case: str, codec: str, selection: str, threads: int) -> bool:
        """Whether there is a verified result."""
        row = self._results.get((case, codec, selection, threads))
        return row is not None and row["status"] == OK and case in self._cases

    @property
    def runs(self) -> list[dict[str, Any]]:
        """Records of the runs, the first one first."""
        return self._runs

    @property
    def cases(self) -> list[dict[str, Any]]:
        """Records of the exams, in the order in which they were measured first."""
        return list(self._cases.values())

    def results(self, case: str | None = None) -> list[dict[str, Any]]:
        """Return the results of an exam, or of all, in the order in which they were measured."""
        return [row for row in self._results.values() if case is None or row["case"] == case]

    def rows(self) -> list[dict[str, Any]]:
        """Return everything as records, in the order of the file."""
        rows = [{"record": "run", **run} for run in self._runs]
        for name, case in self._cases.items():
            rows.append({"record": "case", **case})
            rows += [{"record": "result", **row} for row in self.results(name)]
        return rows + self.gathered()

    def gathered(self) -> list[dict[str, Any]]:
        """Return what follows from all cases together, as records."""
        rows = [{"record": "agreement", **row} for row in agreements(self.cases, self.results())]
        return rows + [{"record": "mean", **row} for row in means(self.results())]


def _key(row: Mapping[str, Any]) -> Key:
    return row["case"], row["codec"], row["selection"], row["threads"]
