"""Engine files: compiled networks, what each was compiled for, and the folder that keeps them.

An engine fits one network, one kind of GPU, and with TensorRT one version of it and of the driver,
so the file says what it was made for, and a reader compares before it loads:

    magic (8 bytes) | length of the header (4 bytes, little-endian) | header (JSON) | payload

The header holds the key, and the length and SHA-256 of the payload, which the backend's own format
follows. The hash finds damage; it does not make a file trustworthy. An engine is code for the GPU,
and TensorRT's is for the CPU as well: load none that you would not run.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from edge_codec.errors import EngineError, SourceError
from edge_codec.io.atomic import atomic_file

MAGIC = b"ECENGINE"
MAX_HEADER = 1 << 16
MAX_PAYLOAD = 1 << 31
LENGTH = struct.Struct("<I")
SUFFIX = ".engine"

BUILDER = "1"
"""Version of what is built of an ONNX file; raise it when that changes, and old engines go."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EngineKey:
    """What an engine was made for. A field that does not matter to its backend is empty.

    Attributes
    ----------
    model : str
        SHA-256 of the ONNX file, in hexadecimal digits.
    backend : {'triton', 'tensorrt', 'tensorrt_rtx'}
    version : str
        Version of TensorRT.
    builder : str
        Version of what made it of the ONNX file: an older one may have made something else.
    precision : {'int8', 'fp16'}
    capability : int
        Compute capability times ten.
    gpu : str
        Name of the GPU.
    driver : str
        CUDA version of the driver.
    profile : str
        Shapes that it takes; engines of any shapes have none.
    """

    model: str
    backend: str
    version: str
    builder: str
    precision: str
    capability: int
    gpu: str = ""
    driver: str = ""
    profile: str = ""

    @property
    def file_name(self) -> str:
        """Name of its file: of the fields that several engines beside each other differ in."""
        gpu = re.sub(r"[^a-z0-9]+", "-", self.gpu.lower()).strip("-")
        parts = [self.model[:16], self.backend, self.precision, f"sm_{self.capability}", gpu[:64]]
        return "-".join(filter(None, parts)) + SUFFIX

    @property
    def summary(self) -> str:
        """What it is for, in a line."""
        made = f"{self.backend} {self.version}".strip()
        where = ", ".join(filter(None, [f"sm_{self.capability}", self.gpu, self.profile]))
        return f"{made} {self.precision} for {where}"

    def differences(self, found: EngineKey) -> str:
        """Say what another engine was made for that this key does not ask for.

        The profile is not compared: an engine of other shapes is the right one, until a frame
        comes that it does not take.

        Returns
        -------
        str
            Empty if nothing differs.
        """
        names = [field.name for field in fields(self) if field.name != "profile"]
        return "; ".join(
            f"{name} {_short(getattr(found, name))} where {_short(getattr(self, name))} is needed"
            for name in names
            if getattr(found, name) != getattr(self, name)
        )


def _short(value: object) -> str:
    text = str(value)
    if len(text) > 40:
        return f"{text[:16]}..."
    return text or "any"


def digest_of(model: bytes) -> str:
    """Return the SHA-256 of an ONNX file in hexadecimal digits, which engines name it by."""
    return hashlib.sha256(model).hexdigest()


def pack_engine(key: EngineKey, payload: bytes) -> bytes:
    """Return an engine file; inverse of `unpack_engine`."""
    header = {
        "key": asdict(key),
        "payload_size": len(payload),
        "payload_sha256": hashlib.sha256(payload).hexdigest(),
    }
    text = json.dumps(header, indent=1).encode()
    return MAGIC + LENGTH.pack(len(text)) + text + payload


def unpack_engine(data: bytes) -> tuple[EngineKey, bytes]:
    """Return key and payload of an engine file.

    Raises
    ------
    EngineError
        If it is no engine file, or damaged.
    """
    start = len(MAGIC) + LENGTH.size
    if data[: len(MAGIC)] != MAGIC or len(data) < start:
        raise EngineError("it is no engine file; build one with edge-codec build")
    (length,) = LENGTH.unpack_from(data, len(MAGIC))
    if length > min(MAX_HEADER, len(data) - start):
        raise EngineError(f"its header of {length} bytes does not fit; build it again")
    payload = data[start + length :]
    try:
        header = json.loads(data[start : start + length])
        key = _read_key(header["key"])
        size, digest = header["payload_size"], header["payload_sha256"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise EngineError(f"its header is damaged ({error!r}); build it again") from error
    if size != len(payload) or digest != hashlib.sha256(payload).hexdigest():
        raise EngineError(
            f"it holds {len(payload)} bytes that are not the {size} bytes of its header; "
            "build it again"
        )
    return key, payload


def _read_key(values: Any) -> EngineKey:
    types = {field.name: int if field.name == "capability" else str for field in fields(EngineKey)}
    if not isinstance(values, dict) or values.keys() != types.keys():
        raise ValueError("its key has other fields")
    wrong = [name for name, kind in types.items() if type(values[name]) is not kind]
    if wrong:
        raise ValueError(f"its key has {wrong} of another type")
    return EngineKey(**values)


def read_engine_file(path: Path) -> tuple[EngineKey, bytes]:
    """Read an engine file.

    Raises
    ------
    EngineError
        If it cannot be read, is too large, or is damaged.
    """
    limit = MAX_PAYLOAD + MAX_HEADER
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size > limit:
                raise EngineError(f"{path} is larger than any engine ({limit} bytes); remove it")
            data = file.read(limit)
    except OSError as error:
        raise EngineError(f"{path} cannot be read ({error.strerror})") from error
    try:
        return unpack_engine(data)
    except EngineError as error:
        raise EngineError(f"{path}: {error}") from error


def write_engine_file(path: Path, key: EngineKey, payload: bytes, *, force: bool) -> None:
    """Write an engine file; it appears only when it is whole.

    Raises
    ------
    EngineError
        If the engine is too large.
    SourceError
        If the file exists and `force` is not set, or cannot be written.
    """
    if len(payload) > MAX_PAYLOAD:
        raise EngineError(f"an engine of {len(payload)} bytes is larger than {MAX_PAYLOAD}")
    with atomic_file(path, force=force) as file:
        file.write(pack_engine(key, payload))


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of the engines; it need not exist.

    `EDGE_CODEC_CACHE` names it; otherwise it is `edge-codec` in `XDG_CACHE_HOME`, and that is
    `.cache` in the home folder unless it is set.
    """
    if environment.get("EDGE_CODEC_CACHE"):
        return Path(environment["EDGE_CODEC_CACHE"])
    base = environment.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "edge-codec"


def _key_or_problem(path: Path) -> EngineKey | str:
    try:
        return read_engine_file(path)[0]
    except EngineError as error:
        return str(error)


class EngineCache:
    """A folder of engine files.

    Parameters
    ----------
    folder : pathlib.Path
        It is created when the first engine is kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, model: str, capability: int) -> tuple[str, ...]:
        """Return the backends that have a file for a network and a GPU, without reading any.

        Parameters
        ----------
        model : str
            SHA-256 of the ONNX file.
        """
        pattern = re.compile(rf"{model[:16]}-(\w+)-\w+-sm_{capability}[-.]")
        names = sorted(path.name for path in self._files())
        found = [match.group(1) for match in map(pattern.match, names) if match]
        return tuple(dict.fromkeys(found))

    def has(self, model: str) -> bool:
        """Whether there is a file for a network, whatever it was built for."""
        return any(path.name.startswith(f"{model[:16]}-") for path in self._files())

    def entries(self) -> list[tuple[Path, EngineKey | str]]:
        """Return every file with its key, or with what is wrong with it."""
        return [(path, _key_or_problem(path)) for path in sorted(self._files())]

    def _files(self) -> list[Path]:
        try:
            return [path for path in self.folder.iterdir() if path.suffix == SUFFIX]
        except OSError:  # no folder yet, or none that may be read
            return []

    def load(self, wanted: EngineKey) -> bytes | None:
        """Return an engine, or None if there is no file for it.

        Raises
        ------
        EngineError
            If there is one that is damaged, or was made for something else; the message says what
            differs.
        """
        path = self.folder / wanted.file_name
        if not path.is_file():
            return None
        found, payload = read_engine_file(path)
        differences = wanted.differences(found)
        if differences:
            raise EngineError(f"{path} does not fit: {differences}")
        return payload

    def load_or_build(self, wanted: EngineKey, build: Callable[[], bytes]) -> bytes:
        """Return an engine; build and keep it if there is none that fits, and say so in the log.

        Parameters
        ----------
        wanted : EngineKey
        build : callable
            Makes the payload.

        Raises
        ------
        EngineError
            If it cannot be built.
        """
        try:
            payload = self.load(wanted)
        except EngineError as error:
            logger.warning("%s; building it again", error)
        else:
            if payload is not None:
                return payload
            logger.warning("no engine %s yet; building it", wanted.file_name)
        payload = build()
        try:
            self.keep(wanted, payload)
        except (OSError, SourceError) as error:
            logger.warning("the engine is used but not kept: %s", error)
        return payload

    def keep(self, key: EngineKey, payload: bytes) -> Path:
        """Write an engine, over an older one, and return its path.

        Raises
        ------
        OSError, SourceError
            If the folder or the file cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / key.file_name
        write_engine_file(path, key, payload, force=True)
        return path
