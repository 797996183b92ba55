"""`index.json`: which shards a folder holds, their check sums, and where each sample lies.

It states how the shards were made, too, so that a conversion that was stopped can go on, and so
that a training can refuse a folder made of the wrong split.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from edge_codec.errors import SourceError
from edge_codec.io.atomic import atomic_file

FILE_NAME = "index.json"
FORMAT = "edge_codec shards"
VERSION = 1

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Plan:
    """All that the bytes of a folder of shards depend on, besides the sources' bytes.

    Attributes
    ----------
    dataset : str
        Begins the names of shards.
    patients : tuple of str
        In order.
    patients_per_shard : int
    partial : bool
        Whether patients may lack anything but voxels.
    split : str or None
        Name of the list of patients in a file of splits.
    license : str
    """

    dataset: str
    patients: tuple[str, ...]
    patients_per_shard: int
    partial: bool
    split: str | None
    license: str

    @property
    def n_shards(self) -> int:
        """Number of shards if no patient is broken."""
        return -(-len(self.patients) // self.patients_per_shard)

    def shard_name(self, number: int) -> str:
        """Return the file name of a shard."""
        return f"{self.dataset}-{number:06d}.tar"

    def shard_patients(self, number: int) -> tuple[str, ...]:
        """Return the patients of a shard."""
        first = number * self.patients_per_shard
        return self.patients[first : first + self.patients_per_shard]


@dataclass(frozen=True, slots=True)
class PatientRecord:
    """One patient of a shard.

    Attributes
    ----------
    name : str
    group : str or None
    shape : tuple of int
        Slices, phases, rows, columns.
    label_phases : tuple of int
    sources : dict of str to str
        SHA-256 of each file that was read.
    """

    name: str
    group: str | None
    shape: tuple[int, ...]
    label_phases: tuple[int, ...]
    sources: dict[str, str]


@dataclass(frozen=True, slots=True)
class SampleRecord:
    """Where a sample lies in its shard: a run of bytes of the file."""

    key: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class ShardRecord:
    """One shard.

    Attributes
    ----------
    name : str
    size : int
        Bytes of the file.
    sha256 : str
    patients : tuple of PatientRecord
    samples : tuple of SampleRecord
        In order of offsets.
    """

    name: str
    size: int
    sha256: str
    patients: tuple[PatientRecord, ...]
    samples: tuple[SampleRecord, ...]


@dataclass(frozen=True, slots=True)
class Skipped:
    """A patient that was left out, and why."""

    patient: str
    reason: str


@dataclass(frozen=True, slots=True)
class Index:
    """A folder of shards.

    Attributes
    ----------
    plan : Plan
    complete : bool
        Whether the conversion came to its end.
    shards : tuple of ShardRecord
        In order of names.
    skipped : tuple of Skipped
    """

    plan: Plan
    complete: bool
    shards: tuple[ShardRecord, ...]
    skipped: tuple[Skipped, ...]

    @property
    def n_samples(self) -> int:
        """Number of samples of all shards."""
        return sum(len(shard.samples) for shard in self.shards)

    @property
    def size(self) -> int:
        """Bytes of all shards."""
        return sum(shard.size for shard in self.shards)

    @property
    def patients(self) -> Iterator[PatientRecord]:
        """Every patient that is there."""
        return (patient for shard in self.shards for patient in shard.patients)


def write_index(folder: Path, index: Index) -> None:
    """Write `index.json` of a folder, in place of an older one."""
    shards = [{**asdict(shard), "n_samples": len(shard.samples)} for shard in index.shards]
    content = {
        "format": FORMAT,
        "version": VERSION,
        "complete": index.complete,
        "n_samples": index.n_samples,
        "plan": asdict(index.plan),
        "skipped": [asdict(skipped) for skipped in index.skipped],
        "shards": shards,
    }
    with atomic_file(folder / FILE_NAME, force=True) as file:
        file.write(json.dumps(content, indent=1).encode() + b"\n")


def read_index(folder: Path) -> Index:
    """Read `index.json` of a folder.

    Raises
    ------
    SourceError
        If there is none, or it is damaged or of another version.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        raise SourceError(
            f"{folder} has no {FILE_NAME}; make shards with: edge-codec data convert SRC {folder}"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.get("format") != FORMAT or content.get("version") != VERSION:
            raise SourceError(
                f"{path} is '{content.get('format')}' version {content.get('version')}, expected "
                f"'{FORMAT}' version {VERSION}; convert again with this release"
            )
        return Index(
            _plan(content["plan"]),
            bool(content["complete"]),
            tuple(_shard(shard) for shard in content["shards"]),
            tuple(_fill(Skipped, skipped) for skipped in content["skipped"]),
        )
    except (
        OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError,
    ) as error:  # fmt: skip
        raise SourceError(
            f"{path} is damaged ({type(error).__name__}: {error}); convert again with --force"
        ) from error


def _plan(content: dict[str, Any]) -> Plan:
    return _fill(Plan, {**content, "patients": tuple(map(str, content["patients"]))})


def _shard(content: dict[str, Any]) -> ShardRecord:
    if Path(content["name"]).name != content["name"]:
        raise ValueError(f"a shard is called {content['name']!r}")
    patients = tuple(
        _fill(
            PatientRecord,
            {
                **patient,
                "shape": tuple(map(int, patient["shape"])),
                "label_phases": tuple(map(int, patient["label_phases"])),
            },
        )
        for patient in content["patients"]
    )
    for patient in patients:
        if len(patient.shape) != 4 or min(patient.shape) < 1:
            raise ValueError(f"patient {patient.name} has shape {patient.shape}")
    samples = tuple(_fill(SampleRecord, sample) for sample in content["samples"])
    for sample in samples:
        if not all(type(number) is int for number in (sample.offset, sample.size)):
            raise TypeError(f"sample {sample.key} lies at {sample.offset!r}, {sample.size!r} bytes")
        if not 0 <= sample.offset < sample.offset + sample.size <= content["size"]:
            raise ValueError(f"sample {sample.key} lies outside its shard")
    return _fill(ShardRecord, {**content, "patients": patients, "samples": samples})


def _fill(record: type[T], content: dict[str, Any]) -> T:
    """Make a record of the fields that it knows."""
    return record(**{field.name: content[field.name] for field in fields(record)})  # type: ignore[arg-type]
