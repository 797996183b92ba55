"""The folder of a run: `report.json` and pictures, each file whole or not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edge_codec.bench.extra import require
from edge_codec.bench.latency.report import make_timeline
from edge_codec.bench.latency.run import Run
from edge_codec.errors import SourceError
from edge_codec.io.atomic import atomic_file

REPORT = "report.json"
PICTURES = ("latency.svg", "timeline.svg", "steps.svg")


class ReportFolder:
    """Where a run leaves its files.

    Parameters
    ----------
    path : Path
        Folder; made where it does not exist yet.
    plots : bool
        Whether to draw, too.
    force : bool
        Whether files of an earlier run may be replaced.

    Raises
    ------
    SourceError
        If a file that the run may write exists and `force` is not set, or the folder cannot be
        made. Known before anything is measured.
    EngineError
        If matplotlib is needed and not installed.
    """

    def __init__(self, path: Path, *, plots: bool, force: bool) -> None:
        if plots:
            require(("matplotlib",), "bench latency --plots")
        self._path = path
        self._plots = plots
        self._force = force
        for name in (REPORT, *(PICTURES if plots else ())):
            if (path / name).exists() and not force:
                raise SourceError(f"{path / name} exists; use --force to overwrite it")
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SourceError(f"{path} cannot be made: {error.strerror}") from error

    def write(self, run: Run, record: dict[str, Any]) -> None:
        """Write the record with its timeline, and draw both."""
        rows = make_timeline(run)
        report = json.dumps({**record, "timeline": rows}, indent=1) + "\n"
        self._write(REPORT, report.encode())
        if not self._plots:
            return
        from edge_codec.bench.latency.plot import draw_latency, draw_steps, draw_timeline

        drawn = (draw_latency(run.logs, record), draw_timeline(rows, record), draw_steps(record))
        for name, data in zip(PICTURES, drawn, strict=True):
            self._write(name, data)

    def _write(self, name: str, data: bytes) -> None:
        with atomic_file(self._path / name, force=self._force) as file:
            file.write(data)
