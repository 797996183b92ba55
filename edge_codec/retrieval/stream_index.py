"""The streams of a folder, described once and kept in a file of the folder until they change.

A stream whose size and time are those of the index is taken from it, unless it was written so
shortly before the index that a change may have kept its time; its bytes are then compared by their
SHA-256, as are those of a stream that was only touched. Weights other than the index's make all of
it stale.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_codec.errors import EdgeCodecError, SourceError
from edge_codec.io.atomic import atomic_file
from edge_codec.retrieval.exam_tokens import read_exam
from edge_codec.retrieval.index_file import Entry, FileState, pack_index, unpack_index
from edge_codec.retrieval.weights import SearchModel

INDEX_NAME = ".edge-codec-index"
SUFFIX = ".ecd"
RACY_NS = 2_000_000_000
"""Coarsest time of files in use, FAT's."""
_BLOCK = 1 << 20

Wrap = Callable[..., Iterable[Any]]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FolderIndex:
    """What is known of a folder's streams.

    Attributes
    ----------
    entries : dict of str to Entry
        By name within the folder, in alphabetical order.
    read : int
        How many of them had to be read.
    """

    entries: dict[str, Entry]
    read: int


def index_folder(folder: Path, model: SearchModel, wrap: Wrap, *, keep: bool = True) -> FolderIndex:
    """Describe all streams in and below a folder.

    Parameters
    ----------
    folder : Path
    model : SearchModel
    wrap : callable
        Shows progress over (items, total, what).
    keep : bool
        Whether the index may be read from and written to the folder.

    Raises
    ------
    SourceError
        If the folder is none.
    """
    if not folder.is_dir():
        raise SourceError(f"{folder} is no folder; give one that holds {SUFFIX} streams")
    paths = sorted(path for path in folder.rglob(f"*{SUFFIX}") if path.is_file())
    known, written_ns = _load(folder, model) if keep else ({}, 0)
    entries, read = {}, 0
    for path in wrap(paths, len(paths), "index"):
        name = path.relative_to(folder).as_posix()
        entry = known.get(name)
        fresh = _refresh(path, entry, written_ns, model)
        read += fresh is not entry
        entries[name] = fresh
    if keep and (read or entries.keys() != known.keys()):
        _save(folder, model, entries)
    return FolderIndex(entries, read)


def describe_stream(path: Path, state: FileState, model: SearchModel) -> Entry:
    """Return what a stream is; if it cannot be searched, why."""
    try:
        with path.open("rb") as file:
            exam = read_exam(file)
        known = model.listener.listen(exam)
        return Entry(state, model.describer.describe(known), model.head.guess(exam, known))
    except EdgeCodecError as error:
        return Entry(state, problem=str(error))
    except OSError as error:  # it was readable a moment ago
        return Entry(FileState(0, 0, ""), problem=f"{type(error).__name__}: {error.strerror}")


def state_of(path: Path) -> FileState:
    """Return how a file looks now.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    digest = hashlib.sha256()
    status = path.stat()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return FileState(status.st_size, status.st_mtime_ns, digest.hexdigest())


def _refresh(path: Path, entry: Entry | None, written_ns: int, model: SearchModel) -> Entry:
    """Return the entry if the stream is still the same, or a new one."""
    try:
        status = path.stat()
        if entry is not None:
            looks = (entry.state.size, entry.state.mtime_ns)
            is_old = status.st_mtime_ns + RACY_NS < written_ns
            if looks == (status.st_size, status.st_mtime_ns) and is_old:
                return entry
        state = state_of(path)
    except OSError as error:
        return Entry(FileState(0, 0, ""), problem=f"{type(error).__name__}: {error.strerror}")
    if entry is not None and entry.state == state:
        return entry
    if entry is not None and entry.state.sha256 == state.sha256:
        return Entry(state, entry.exam, entry.group, entry.problem)
    return describe_stream(path, state, model)


def _load(folder: Path, model: SearchModel) -> tuple[dict[str, Entry], int]:
    """Read a folder's index; nothing, with a note, if it is not of use."""
    path = folder / INDEX_NAME
    try:
        written_ns = path.stat().st_mtime_ns
        weights, entries = unpack_index(path.read_bytes())
    except FileNotFoundError:
        return {}, 0
    except (OSError, SourceError) as error:
        _log.warning("%s is built again: %s", path, error)
        return {}, 0
    if weights != model.name:
        _log.info("%s is built again: it was made with other weights", path)
        return {}, 0
    return entries, written_ns


def _save(folder: Path, model: SearchModel, entries: dict[str, Entry]) -> None:
    """Keep the index; a folder that cannot be written to does without."""
    try:
        with atomic_file(folder / INDEX_NAME, force=True) as file:
            file.write(pack_index(model.name, entries))
    except SourceError as error:
        _log.warning("the index is not kept: %s", error)
