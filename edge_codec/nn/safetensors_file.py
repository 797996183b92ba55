"""Reader of safetensors files, the format that public checkpoints come in.

Eight bytes of little-endian length, a JSON header of that length, then the tensors' bytes: the
header names for each tensor its type, shape, and place among these bytes
(https://github.com/huggingface/safetensors, "Format"). There is nothing in it that runs code, and
all that a reader needs is here, without the package of the same name: what a file claims is
compared with its size before anything is made of it.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.errors import SourceError

MAX_HEADER = 100_000_000
"""Bytes; the format's own limit."""

MAX_AXES = 8

DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("u1"),
}
"""Types that are read; BF16 is the upper half of a float32."""


class SafetensorsFile:
    """The tensors of a file by name, each read when it is asked for.

    Parameters
    ----------
    path : Path

    Attributes
    ----------
    shapes : dict of str to tuple of int

    Raises
    ------
    SourceError
        If it is no such file, is cut off, or its header claims what cannot be.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            size = path.stat().st_size
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                if size < 8 or length > min(size - 8, MAX_HEADER):
                    raise SourceError(
                        f"{path} has {size} bytes and claims a header of {length}; it is cut off, "
                        "or no safetensors file"
                    )
                header = _parse(path, file.read(length))
        except OSError as error:
            raise SourceError(f"{path} cannot be read: {error}") from error
        self._first = 8 + length
        self._entries = {
            name: _Entry(f"{path}: tensor {name!r}", entry, size - self._first)
            for name, entry in header.items()
            if name != "__metadata__"
        }
        self._check_cover(size - self._first)
        self.shapes = {name: entry.shape for name, entry in self._entries.items()}

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def read(self, name: str) -> NDArray[np.float32]:
        """Read a tensor as float32.

        Raises
        ------
        SourceError
            If there is none of this name, or the file has changed.
        """
        if name not in self._entries:
            raise SourceError(f"{self._path} has no tensor {name!r}")
        entry = self._entries[name]
        with self._path.open("rb") as file:
            file.seek(self._first + entry.begin)
            data = file.read(entry.end - entry.begin)
        if len(data) != entry.end - entry.begin:
            raise SourceError(f"{self._path} ends within tensor {name!r}")
        values: NDArray[Any] = np.frombuffer(data, entry.dtype)
        if entry.is_bfloat:
            values = (values.astype(np.uint32) << 16).view(np.float32)
        floats: NDArray[np.float32] = values.astype(np.float32)
        return floats.reshape(entry.shape)

    def _check_cover(self, size: int) -> None:
        """Refuse holes and overlaps: each byte belongs to one tensor."""
        end = 0
        for entry in sorted(self._entries.values(), key=lambda one: (one.begin, one.end)):
            if entry.begin != end:
                raise SourceError(
                    f"{self._path}: a tensor begins at byte {entry.begin} and the one before ends "
                    f"at {end}; tensors must follow each other"
                )
            end = entry.end
        if end != size:
            raise SourceError(f"{self._path}: tensors end at byte {end} of {size}; it is damaged")


class _Entry:
    """What a header says of a tensor, after comparison with the bytes there are."""

    def __init__(self, where: str, entry: Any, size: int) -> None:
        try:
            kind, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        except (TypeError, KeyError, ValueError) as error:
            raise SourceError(f"{where} has no dtype, shape and data_offsets") from error
        if not isinstance(kind, str) or kind not in DTYPES:
            raise SourceError(f"{where} is {kind!r}; known types are {', '.join(DTYPES)}")
        if not isinstance(shape, list) or len(shape) > MAX_AXES or not all(map(_is_count, shape)):
            raise SourceError(f"{where} has the shape {str(shape)[:80]}; expected a few counts")
        if not (_is_count(begin) and _is_count(end) and begin <= end <= size):
            raise SourceError(f"{where} lies at {begin} to {end} of {size} bytes")
        self.dtype = DTYPES[kind]
        self.is_bfloat = kind == "BF16"
        self.shape = tuple(shape)
        self.begin, self.end = begin, end
        expected = math.prod(self.shape) * self.dtype.itemsize
        if end - begin != expected:
            raise SourceError(f"{where} has {end - begin} bytes; its shape needs {expected}")


def _parse(path: Path, text: bytes) -> dict[str, Any]:
    """Read the header; a name that comes twice is refused."""
    try:
        header = json.loads(text, object_pairs_hook=_without_twins)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path} has no header of JSON ({error})") from error
    if not isinstance(header, dict):
        raise SourceError(f"{path} has a header that is a {type(header).__name__}, not an object")
    return header


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name comes twice")
    return found


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
