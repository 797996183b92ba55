"""The folder of a live stream: its name, the files of its segments, and their place on the disk."""

from __future__ import annotations

import os
import re
from pathlib import Path

from edge_codec.errors import SinkError
from edge_codec.runtime.packet_sink import STREAM_NAME

_SEGMENT_FILE = re.compile(r"(\d{4,9})\.ecd", re.ASCII)


def stream_folder(folder: Path, stream: str) -> Path:
    """Return the folder of a stream.

    Raises
    ------
    SinkError
        If the name could lead elsewhere, or is hidden or too long.
    """
    if not STREAM_NAME.fullmatch(stream):
        raise SinkError(
            f"stream name {stream[:80]!r} is no name for a folder; use 1 to 64 letters, digits, "
            "'.', '_' and '-', and no '.' in front"
        )
    return folder / stream


def segment_files(folder: Path) -> list[tuple[int, Path]]:
    """Return number and path of each segment's file in a stream's folder, in order.

    Raises
    ------
    OSError
        If the folder cannot be read.
    """
    found = []
    for path in folder.iterdir():
        match = _SEGMENT_FILE.fullmatch(path.name)
        if match and not path.is_symlink() and path.is_file():
            found.append((int(match[1]), path))
    return sorted(found)


def force_folder(folder: Path) -> None:
    """Force the entries of a folder onto the disk: a file is found by its name.

    Raises
    ------
    OSError
        If the folder cannot be read, or the disk fails.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
