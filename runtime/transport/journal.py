"""What came of a received stream, beside its files: one JSON object a line, only ever appended.

It says which file holds which packets of the sender, which packets are missing and why, and so is
both the report of losses and what a receiver that was killed needs to go on.
"""

from __future__ import annotations

import errno
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edge_codec.errors import SinkError

JOURNAL = "transport.jsonl"
MAX_JOURNAL = 64 << 20

_log = logging.getLogger(__name__)


class Journal:
    """Appends events to the journal of a stream's folder.

    Parameters
    ----------
    folder : Path
        Folder of the stream; must exist.
    durable : bool
        Whether each event is forced onto the disk.
    """

    def __init__(self, folder: Path, durable: bool) -> None:
        self._path = folder / JOURNAL
        self._durable = durable
        try:
            self._file = os.open(
                self._path,
                os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC,
                0o666,
            )
            self._torn = _cut_within_line(self._file)
        except OSError as error:
            raise self._failed(error) from error

    def note(self, event: str, **fields: Any) -> None:
        """Append one event with the time of day.

        Raises
        ------
        SinkError
            If it cannot be written.
        """
        utc = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        line = "\n" * self._torn + json.dumps({"event": event, "utc": utc, **fields}) + "\n"
        try:
            self._torn = os.write(self._file, line.encode()) < len(line)
            if self._torn:  # a disk that is full may take a part without an error
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if self._durable:
                os.fsync(self._file)
        except OSError as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def _failed(self, error: OSError) -> SinkError:
        return SinkError(f"{self._path} cannot be written: {error.strerror}; make room")


def _cut_within_line(file: int) -> bool:
    """Whether the last line was not written to its end."""
    size = os.fstat(file).st_size
    return size > 0 and os.pread(file, 1, size - 1) != b"\n"


@dataclass(slots=True)
class Past:
    """What a journal tells of a session, for going on with it.

    Attributes
    ----------
    session : str
        Of the sender, hexadecimal; empty where the journal tells nothing.
    segment : int
        Last segment that began; -1 if none did.
    ended : int or None
        Number of its packets, where it is complete.
    files : list of str
        Names of the files that were begun in it, in order.
    exact : bool
        Whether the phases of the last one are the sender's.
    missing : list of (int, int)
        Packets that are in none of them, lost or not decodable: first, and end (exclusive).
    """

    session: str = ""
    segment: int = -1
    ended: int | None = None
    files: list[str] = field(default_factory=list)
    exact: bool = False
    missing: list[tuple[int, int]] = field(default_factory=list)

    def due_after(self, stored: int) -> int:
        """Return the packet that is due where so many packets are in the files."""
        due = stored
        for first, end in self.missing:
            if first <= due:
                due += end - first
        return due


def read_past(folder: Path) -> Past:
    """Read the journal of a stream's folder; what does not fit is passed over."""
    past = Past()
    try:
        with (folder / JOURNAL).open("rb") as file:
            lines = file.read(MAX_JOURNAL).splitlines()
    except OSError:  # there is none, or what has this name is none of ours
        return past
    for line in lines:
        _follow_line(past, line)
    return past


def _follow_line(past: Past, line: bytes) -> None:
    try:
        _follow(past, json.loads(line))
    except (ValueError, KeyError, TypeError, RecursionError):  # cut, or someone else's
        _log.warning("a journal has a line that is none of ours: %r", line[:80])


def _follow(past: Past, event: Mapping[str, Any]) -> None:
    kind = event["event"]
    if kind == "session":
        past.session = str(event["session"])
    elif kind == "segment":
        past.segment, past.ended = int(event["segment"]), None
        past.files.clear()
        past.missing.clear()
    elif kind == "resumed":  # what was missing from there on was sent again, and told again
        due = int(event["packet"])
        past.missing = [(first, min(end, due)) for first, end in past.missing if first < due]
    elif kind == "file":
        past.files.append(str(event["file"]))
        past.exact = bool(event["exact"])
    elif kind == "lost":
        past.missing.append((int(event["first"]), int(event["end"])))
    elif kind == "skipped":
        past.missing.append((int(event["packet"]), int(event["packet"]) + 1))
    elif kind == "end":
        past.ended = int(event["packets"])
