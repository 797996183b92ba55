"""Files of compiled kernels: a zip archive with an index, the same bytes for the same content.

An archive is not compressed. `engine.json` holds the kind of file and its version, what the file's
reader put there, and size and SHA-256 of every other member.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from edge_codec.errors import EngineError
from edge_codec.runtime.device import StoredKernel

INDEX = "engine.json"
LONG_AGO = (1980, 1, 1, 0, 0, 0)
"""When every member was written: the same content is the same file."""

MAX_FILE = 256 << 20
MAX_INDEX = 1 << 20
REBUILD = "build the engine file again"

Index = dict[str, Any]
Members = dict[str, bytes]
Read = TypeVar("Read")


def write_archive(
    kind: str, version: int, index: Mapping[str, Any], members: Mapping[str, bytes]
) -> bytes:
    """Return a file; inverse of `read_archive`.

    Parameters
    ----------
    kind : str
        Of file.
    version : int
        Of that kind.
    index : mapping of str to JSON
    members : mapping of str to bytes
    """
    described = {name: _describe(data) for name, data in sorted(members.items())}
    whole = {**index, "format": kind, "version": version, "members": described}
    text = json.dumps(whole, indent=1, sort_keys=True).encode()
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, data in ((INDEX, text), *sorted(members.items())):
            entry = zipfile.ZipInfo(name, LONG_AGO)
            entry.create_system = 3  # the same on every system
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data)
    return file.getvalue()


def _describe(data: bytes) -> dict[str, Any]:
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def read_archive(
    kind: str, version: int, data: bytes, read: Callable[[Index, Members], Read]
) -> Read:
    """Take a file apart.

    Parameters
    ----------
    kind, version
        That it must have.
    data : bytes
    read : callable
        Makes something of index and members; where it fails as on a malformed index, the file is
        called damaged.

    Raises
    ------
    EngineError
        If the file is damaged, truncated, altered, of another kind or version, or too large.
    """
    if len(data) > MAX_FILE:
        raise EngineError(f"an engine file of {len(data)} bytes, at most {MAX_FILE} are read")
    try:
        return read(*_read_members(kind, version, data))
    except (
        *(zipfile.BadZipFile, struct.error, EOFError, OSError, RuntimeError, OverflowError),
        *(ValueError, KeyError, TypeError, AttributeError, IndexError),
    ) as error:
        raise EngineError(f"the engine file is damaged ({error!r}); {REBUILD}") from error


def _read_members(kind: str, version: int, data: bytes) -> tuple[Index, Members]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        packed = [name for name, entry in entries.items() if entry.compress_type]
        total = sum(entry.file_size for entry in entries.values())
        if packed or total > len(data) or entries[INDEX].file_size > MAX_INDEX:
            raise EngineError(f"the engine file's members are packed or too large; {REBUILD}")
        index = json.loads(archive.read(INDEX))
        if (index["format"], index["version"]) != (kind, version):
            raise EngineError(
                f"the file is '{index['format']}' version {index['version']}, where this "
                f"edge-codec reads '{kind}' version {version}; {REBUILD}"
            )
        members = {name: archive.read(name) for name in index["members"]}
    altered = [name for name, what in index["members"].items() if what != _describe(members[name])]
    if altered:
        raise EngineError(f"{', '.join(altered)} of the engine file was altered; {REBUILD}")
    return index, members


KERNEL_FIELDS = ("function", "symbol", "arguments", "num_warps", "shared_bytes")


def describe_kernel(kernel: StoredKernel) -> dict[str, Any]:
    """Return what an index says of a kernel; its machine code is the member `<name>.cubin`."""
    fields = {field: getattr(kernel, field) for field in KERNEL_FIELDS}
    return {**fields, "constants": dict(kernel.constants)}


def read_kernel(name: str, fields: Mapping[str, Any], members: Mapping[str, bytes]) -> StoredKernel:
    """Return the kernel of an index; inverse of `describe_kernel`.

    Raises
    ------
    EngineError
        If a size in it is none.
    """
    return StoredKernel(
        name=name,
        function=str(fields["function"]),
        constants={
            str(key): value if value is None or type(value) is bool else whole(value)
            for key, value in fields["constants"].items()
        },
        symbol=str(fields["symbol"]),
        arguments=tuple(map(str, fields["arguments"])),
        num_warps=whole(fields["num_warps"]),
        shared_bytes=whole(fields["shared_bytes"]),
        cubin=members[f"{name}.cubin"],
    )


def whole(value: Any) -> int:
    """Return a size that a file states.

    Raises
    ------
    EngineError
        If it is none.
    """
    if type(value) is not int or not 0 <= value < 1 << 31:
        raise EngineError(f"{value!r} in the engine file is no size; {REBUILD}")
    return value
