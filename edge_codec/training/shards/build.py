"""One shard: some patients in a tar file, which appears under its name when it is whole.

A function of the plan and the sources alone, so that shards can be made by any number of processes
in any order and come out the same.
"""

from __future__ import annotations

import hashlib
import signal
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from edge_codec.errors import SourceError
from edge_codec.io.atomic import AtomicFile
from edge_codec.training.shards.index import (
    PatientRecord,
    Plan,
    SampleRecord,
    ShardRecord,
    Skipped,
)
from edge_codec.training.shards.patient import (
    Patient,
    hash_file,
    hash_sources,
    read_patient,
)
from edge_codec.training.shards.sample import append_sample, encode_sample, sample_key


@dataclass(frozen=True, slots=True)
class ShardTask:
    """What to build.

    Attributes
    ----------
    plan : Plan
    number : int
        Of the shard.
    source, out : Path
        Folder of patients and folder of shards.
    skip_broken : bool
        Whether a shard is written without its broken patients; else it is not written.
    known : ShardRecord or None
        The shard that an earlier run made, to be kept if its bytes and its sources' are the same.
    """

    plan: Plan
    number: int
    source: Path
    out: Path
    skip_broken: bool
    known: ShardRecord | None = None


@dataclass(frozen=True, slots=True)
class ShardOutcome:
    """What became of it.

    Attributes
    ----------
    number : int
    record : ShardRecord or None
        None if nothing was written.
    skipped : tuple of Skipped
        Broken patients.
    reused : bool
        Whether the shard of an earlier run was kept.
    """

    number: int
    record: ShardRecord | None
    skipped: tuple[Skipped, ...] = ()
    reused: bool = False


def leave_interrupts_to_parent() -> None:
    """Ignore Ctrl-C, which a terminal sends to every process; the parent ends the pool."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def build_shard(task: ShardTask) -> ShardOutcome:
    """Write one shard, or keep the one that is there.

    Raises
    ------
    SourceError
        If the file cannot be written. Broken patients are returned, not raised.
    """
    if task.known is not None and _is_current(task, task.known):
        return ShardOutcome(task.number, task.known, reused=True)
    name = task.plan.shard_name(task.number)
    (task.out / name).unlink(missing_ok=True)  # an older one, which the index must not outlive
    target = AtomicFile(task.out / name, force=False)
    try:
        patients, samples, skipped = _fill_shard(task, target.file)
        if not patients or (skipped and not task.skip_broken):
            target.abort()
            return ShardOutcome(task.number, None, skipped)
        size, sha256 = _measure(target.file)
    except BaseException:
        target.abort()
        raise
    target.commit()
    return ShardOutcome(task.number, ShardRecord(name, size, sha256, patients, samples), skipped)


def _fill_shard(
    task: ShardTask, file: BinaryIO
) -> tuple[tuple[PatientRecord, ...], tuple[SampleRecord, ...], tuple[Skipped, ...]]:
    """Write the archive, one patient in memory at a time."""
    patients: list[PatientRecord] = []
    samples: list[SampleRecord] = []
    skipped: list[Skipped] = []
    # USTAR holds all names and sizes there are, and nothing of time or owner.
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in task.plan.shard_patients(task.number):
            try:
                patient = read_patient(task.source / name, partial=task.plan.partial)
            except SourceError as error:
                skipped.append(Skipped(name, str(error)))
                continue
            samples += _append_patient(archive, patient, task.plan)
            patients.append(_record(patient))
    return tuple(patients), tuple(samples), tuple(skipped)


def _append_patient(archive: tarfile.TarFile, patient: Patient, plan: Plan) -> list[SampleRecord]:
    samples = []
    for slice_index in range(patient.voxels.shape[0]):
        key = sample_key(patient.name, slice_index)
        start = archive.offset
        parts = encode_sample(patient, slice_index, plan.dataset, plan.license)
        append_sample(archive, key, parts)
        samples.append(SampleRecord(key, start, archive.offset - start))
    return samples


def _record(patient: Patient) -> PatientRecord:
    return PatientRecord(
        patient.name,
        patient.info.group,
        patient.voxels.shape,
        tuple(patient.labels),
        patient.sources,
    )


def _measure(file: BinaryIO) -> tuple[int, str]:
    """Return size and SHA-256 of a file that was just written."""
    digest = hashlib.sha256()
    file.seek(0)
    while piece := file.read(1 << 20):
        digest.update(piece)
    return file.tell(), digest.hexdigest()


def _is_current(task: ShardTask, known: ShardRecord) -> bool:
    """Whether a shard is what would be made again: the same bytes, of the same sources."""
    path = task.out / known.name
    expected = task.plan.shard_patients(task.number)
    if tuple(patient.name for patient in known.patients) != expected or not path.is_file():
        return False
    if path.stat().st_size != known.size or hash_file(path) != known.sha256:
        return False
    return all(
        hash_sources(task.source / patient.name) == patient.sources for patient in known.patients
    )
