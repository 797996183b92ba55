"""What was measured, as flat JSON objects: one run, or several that went on with one another.

Kinds, in `record`: `run` (machine, versions, command), `case`, `result` with the number of its
`run`, `difference`. A row that is measured again takes the place of the one before.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from edge_codec.bench.rd.codecs import all_codecs
from edge_codec.bench.rd.difference import Difference
from edge_codec.bench.rd.measure import OK, Result
from edge_codec.errors import SourceError

Key = tuple[str, str, str, int]


class Records:
    """Runs, cases, and results with what follows from them."""

    def __init__(self) -> None:
        self._runs: list[dict[str, Any]] = []
        self._cases: dict[str, dict[str, Any]] = {}
        self._results: dict[Key, dict[str, Any]] = {}
        self._differences: dict[str, list[dict[str, Any]]] = {}

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
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SourceError(
                f"{path} holds no records of bench rd ({type(error).__name__}: {error}); "
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
        else:
            self._differences.setdefault(row["case"], []).append(row)

    def start(self, run: Mapping[str, Any]) -> None:
        """Note a run; results from here on are its own."""
        self._runs.append(dict(run))

    def add_case(self, fields: Mapping[str, Any]) -> None:
        """Note a case (`Case.describe`).

        Raises
        ------
        SourceError
            If an earlier run measured other voxels under this name.
        """
        name = fields["case"]
        # Through JSON, so that a tuple that was read as a list is the same.
        plain = json.loads(json.dumps(fields))
        if self._cases.setdefault(name, plain) != plain:
            raise SourceError(
                f"{name} was another exam, or another part of it, in the run to go on with; "
                "use another folder"
            )

    def add_result(self, result: Result) -> dict[str, Any]:
        """Note a result, and return its record."""
        row = {**result.record(), "run": len(self._runs) - 1}
        self._results[_key(row)] = row
        return row

    def set_differences(self, case: str, anchor: str, found: Iterable[Difference]) -> None:
        """Note how the curves of a case differ, in place of what was noted before."""
        self._differences[case] = [item.record(case, anchor) for item in found]

    def has(self, case: str, codec: str, setting: str, threads: int) -> bool:
        """Whether there is a verified result."""
        row = self._results.get((case, codec, setting, threads))
        return row is not None and row["status"] == OK

    @property
    def runs(self) -> list[dict[str, Any]]:
        """Records of the runs, the first one first."""
        return self._runs

    @property
    def cases(self) -> list[dict[str, Any]]:
        """Descriptions of the cases, in the order in which they were measured first."""
        return list(self._cases.values())

    def results(self, case: str) -> list[Result]:
        """Return the results of a case, codec by codec in the order of `all_codecs`."""
        place = {name: index for index, name in enumerate(all_codecs())}
        found = [Result.from_record(row) for row in self._results.values() if row["case"] == case]
        return sorted(found, key=lambda result: place.get(result.codec, len(place)))

    def rows(self) -> list[dict[str, Any]]:
        """Return everything as records, in the order of the file."""
        rows = [{"record": "run", **run} for run in self._runs]
        for name, case in self._cases.items():
            rows.append({"record": "case", **case})
            rows += [{"record": "result", **row} for row in self._results.values()
                     if row["case"] == name]  # fmt: skip
            rows += [{"record": "difference", **row} for row in self._differences.get(name, ())]
        return rows


def _key(row: Mapping[str, Any]) -> Key:
    return row["case"], row["codec"], row["setting"], row["threads"]
