"""Who gets snapshots: the protocol of outputs, and the plainest of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TextIO

from edge_codec.errors import SourceError

Snapshot = dict[str, Any]


class Output(Protocol):
    """Takes snapshots, from one thread."""

    def start(self, snapshot: Callable[..., Snapshot]) -> None:
        """Begin; `snapshot` is `Telemetry.snapshot`, for who wants one at other times."""

    def write(self, snapshot: Snapshot, *, last: bool) -> None:
        """Take the snapshot of an interval's end; `last`: no more will come.

        Raises
        ------
        OSError
            If it cannot be written; no more will come then.
        """

    def close(self) -> None:
        """End; never raises."""


class JsonLines:
    """Appends each snapshot to a file as one line of JSON.

    Every line has `record`: `interval`, or `last` for the one at the end.

    Parameters
    ----------
    target : Path or text file
        A path is opened to append to.

    Raises
    ------
    SourceError
        If the file cannot be opened.
    """

    def __init__(self, target: Path | TextIO) -> None:
        self._owned = isinstance(target, Path)
        if isinstance(target, Path):
            try:
                self._file: TextIO = target.open("a", encoding="utf-8")
            except OSError as error:
                raise SourceError(
                    f"{target} cannot be opened for telemetry: {error.strerror}"
                ) from error
        else:
            self._file = target

    def start(self, snapshot: Callable[..., Snapshot]) -> None:
        """Need nothing."""
        del snapshot

    def write(self, snapshot: Snapshot, *, last: bool) -> None:
        """Append a line."""
        kind = "last" if last else "interval"
        self._file.write(json.dumps({"record": kind, **snapshot}) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file, if it was opened here."""
        if self._owned:
            try:
                self._file.close()
            except OSError:  # what was not written is lost; the stream is not
                return
