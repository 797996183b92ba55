"""Whether a folder of shards is what its index says, down to every voxel's dtype and label."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from edge_codec.errors import SourceError
from edge_codec.training.shards.index import Index, ShardRecord, read_index
from edge_codec.training.shards.patient import hash_file
from edge_codec.training.shards.sample import ShardCine, decode_sample, sample_key, split_sample


def check_folder(folder: Path, progress: Callable[..., Iterable[Any]]) -> tuple[Index, list[str]]:
    """Read every byte of a folder of shards.

    Parameters
    ----------
    folder : Path
    progress : callable
        Wraps an iterable, given it, its length and a name.

    Returns
    -------
    index : Index
    problems : list of str
        Empty if all is well.

    Raises
    ------
    SourceError
        If there is no index that can be read.
    """
    index = read_index(folder)
    problems = []
    if not index.complete:
        problems.append("the conversion did not come to its end; go on with --resume")
    listed = {shard.name for shard in index.shards}
    problems += [
        f"{path.name} is not in the index; it is of another conversion"
        for path in sorted(folder.glob("*.tar"))
        if path.name not in listed
    ]
    for shard in progress(index.shards, len(index.shards), "check"):
        problems += _check_shard(folder / shard.name, shard)
    return index, problems


def _check_shard(path: Path, shard: ShardRecord) -> Iterator[str]:
    if not path.is_file():
        yield f"{shard.name} is missing"
        return
    size = path.stat().st_size
    if size != shard.size:
        yield f"{shard.name} has {size} bytes, the index says {shard.size}"
        return
    if hash_file(path) != shard.sha256:
        yield f"{shard.name} has another SHA-256 than the index says: its bytes changed"
    if sum(patient.shape[0] for patient in shard.patients) != len(shard.samples):
        yield f"{shard.name} has other samples in the index than its patients have slices"
        return
    expected = {
        sample_key(patient.name, number): (patient.shape, patient.label_phases)
        for patient in shard.patients
        for number in range(patient.shape[0])
    }
    if [sample.key for sample in shard.samples] != list(expected):
        yield f"{shard.name} has other samples in the index than its patients have slices"
        return
    with path.open("rb") as file:
        for sample in shard.samples:
            file.seek(sample.offset)
            data = file.read(sample.size)
            try:
                cine = decode_sample(sample.key, split_sample(sample.key, data))
                _compare(cine, *expected[sample.key])
            except SourceError as error:
                yield f"{shard.name}: {error}"


def _compare(cine: ShardCine, shape: tuple[int, ...], label_phases: tuple[int, ...]) -> None:
    if cine.voxels.shape != shape[1:] or cine.label_phases != label_phases:
        raise SourceError(
            f"sample {cine.key} has voxels of {cine.voxels.shape} and labels of phases "
            f"{cine.label_phases}; the index says {shape[1:]} and {label_phases}"
        )
    if sample_key(cine.patient, cine.slice_index) != cine.key:
        raise SourceError(
            f"sample {cine.key} says it is slice {cine.slice_index} of {cine.patient}"
        )
