"""The bytes of a folder's index: what is known of each stream, so that none is read twice.

`MAGIC`, the length of the JSON that follows, the JSON, the descriptors as float16, and the SHA-256
of all that. Little-endian. A file that is anything else is refused; the index is then built again.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_codec.errors import SourceError
from edge_codec.retrieval.descriptor import DIM, ExamDescriptors
from edge_codec.retrieval.disease_head import GROUPS, GroupGuess

MAGIC = b"ecdindx1"
_LENGTH = struct.Struct("<I")
_DIGEST = 32


@dataclass(frozen=True, slots=True)
class FileState:
    """How a file looked when it was read.

    Attributes
    ----------
    size : int
        Bytes.
    mtime_ns : int
    sha256 : str
        Of its bytes, hexadecimal.
    """

    size: int
    mtime_ns: int
    sha256: str


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """What is known of one stream.

    Attributes
    ----------
    state : FileState
    exam : ExamDescriptors or None
        None for a stream that cannot be searched.
    group : GroupGuess or None
        With `exam`.
    problem : str
        Why it cannot be searched; empty with `exam`.
    """

    state: FileState
    exam: ExamDescriptors | None = None
    group: GroupGuess | None = None
    problem: str = ""


def pack_index(weights: str, entries: Mapping[str, Entry]) -> bytes:
    """Return the bytes of an index.

    Parameters
    ----------
    weights : str
        Names the weights that made the descriptors; others make others.
    entries : mapping of str to Entry
        By name of the stream in its folder.
    """
    streams, blocks = [], []
    for name, entry in entries.items():
        fields: dict[str, Any] = {
            "name": name, "size": entry.state.size, "mtime_ns": entry.state.mtime_ns,
            "sha256": entry.state.sha256, "problem": entry.problem,
        }  # fmt: skip
        if entry.exam is not None and entry.group is not None:
            fields["shape"] = list(entry.exam.frames.shape[:2])
            fields["group"] = entry.group.fields()
            blocks += [entry.exam.frames.tobytes(), entry.exam.slices.tobytes()]
        streams.append(fields)
    head = json.dumps({"weights": weights, "streams": streams}).encode()
    data = b"".join([MAGIC, _LENGTH.pack(len(head)), head, *blocks])
    return data + hashlib.sha256(data).digest()


def unpack_index(data: bytes) -> tuple[str, dict[str, Entry]]:
    """Read what `pack_index` wrote.

    Raises
    ------
    SourceError
        If it is nothing that `pack_index` writes.
    """
    start = len(MAGIC) + _LENGTH.size
    body = data[:-_DIGEST]
    if len(body) < start or not body.startswith(MAGIC):
        raise SourceError("the index is no index of this version")
    if hashlib.sha256(body).digest() != data[-_DIGEST:]:
        raise SourceError("the index is damaged")
    end = start + _LENGTH.unpack_from(body, len(MAGIC))[0]
    try:
        head = json.loads(body[start:end])
        entries, offset = {}, end
        for fields in head["streams"]:
            entry, offset = _entry(fields, body, offset)
            entries[str(fields["name"])] = entry
        weights = str(head["weights"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise SourceError(f"the index is malformed ({error!r})") from error
    if offset != len(body):
        raise SourceError(f"the index has {len(body) - offset} bytes too many")
    return weights, entries


def _entry(fields: Mapping[str, Any], body: bytes, offset: int) -> tuple[Entry, int]:
    """Read one stream's entry; its descriptors begin at `offset`."""
    state = FileState(int(fields["size"]), int(fields["mtime_ns"]), str(fields["sha256"]))
    problem = str(fields["problem"])
    if "shape" not in fields:
        return Entry(state, problem=problem or "it could not be read"), offset
    n_slices, n_phases = map(int, fields["shape"])
    count = n_slices * (n_phases + 1) * DIM
    if n_slices < 1 or n_phases < 1 or count > (len(body) - offset) // 2:
        raise ValueError(f"{n_slices} slices x {n_phases} phases in {len(body) - offset} bytes")
    numbers = np.frombuffer(body, "<f2", count, offset).astype(np.float16)
    if not np.isfinite(numbers).all():
        raise ValueError("descriptors that are no numbers")
    frames = numbers[: n_slices * n_phases * DIM].reshape(n_slices, n_phases, DIM)
    slices = numbers[frames.size :].reshape(n_slices, DIM)
    group = GroupGuess.of_fields(fields["group"])
    if len(group.probabilities) != len(GROUPS):
        raise ValueError(f"{len(group.probabilities)} groups")
    return Entry(state, ExamDescriptors(frames, slices), group), offset + 2 * count
