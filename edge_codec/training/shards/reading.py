"""Shards as a source of cines for training.

`ShardFolder` has a length and gives any sample by number, read from its place in the shard; one
sample is in memory at a time. `read_shards` goes through it in an order that depends on the seed
and the epoch alone, so that the position of a training is a single number: how many cines it took.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from edge_codec.errors import SourceError
from edge_codec.training.shards.index import FILE_NAME, SampleRecord, read_index
from edge_codec.training.shards.sample import ShardCine, decode_sample, split_sample


class ShardFolder:
    """The samples of a folder of shards, by number.

    It can be sent to other processes, and is what PyTorch calls a map-style data set.

    Parameters
    ----------
    folder : Path
    patients : collection of str, optional
        Whose samples to take; all by default.

    Attributes
    ----------
    index : Index
        What `index.json` says.
    keys : tuple of str
        Of every sample, in order.

    Raises
    ------
    SourceError
        If the conversion did not come to its end, or a patient is not there.
    """

    def __init__(self, folder: Path, patients: Collection[str] | None = None) -> None:
        self._folder = Path(folder)
        self.index = read_index(self._folder)
        if not self.index.complete:
            raise SourceError(f"{folder} is incomplete; go on with: edge-codec data convert "
                              f"SRC {folder} --resume")  # fmt: skip
        there = {patient.name for patient in self.index.patients}
        wanted = there if patients is None else set(patients)
        if wanted - there:
            raise SourceError(f"{folder} has no patient {', '.join(sorted(wanted - there))}; "
                              f"{FILE_NAME} lists those it has")  # fmt: skip
        self._places: list[tuple[str, SampleRecord]] = [
            (shard.name, sample)
            for shard in self.index.shards
            for sample in shard.samples
            if sample.key.rpartition("-s")[0] in wanted
        ]

    @property
    def keys(self) -> tuple[str, ...]:
        """Of every sample, in order."""
        return tuple(sample.key for _, sample in self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, number: int) -> ShardCine:
        """Read a sample.

        Raises
        ------
        IndexError
            If there are not so many.
        SourceError
            If its shard is missing, cut off or damaged.
        """
        name, sample = self._places[number]
        path = self._folder / name
        try:
            with path.open("rb") as file:
                # Before so many bytes are asked for, as the index may say anything.
                if sample.offset + sample.size > os.fstat(file.fileno()).st_size:
                    raise SourceError(f"it ends within sample {sample.key}")
                file.seek(sample.offset)
                data = file.read(sample.size)
            return decode_sample(sample.key, split_sample(sample.key, data))
        except (OSError, SourceError) as error:
            raise SourceError(
                f"{path} cannot be read: {error}; see: edge-codec data check {self._folder}"
            ) from error


def read_shards(
    folder: Path | ShardFolder,
    *,
    seed: int | None = None,
    repeat: bool = False,
    start: int = 0,
    part: tuple[int, int] = (0, 1),
) -> Iterator[ShardCine]:
    """Go through the cines of a folder.

    Parameters
    ----------
    folder : Path or ShardFolder
    seed : int, optional
        Of the order, which is another one in every epoch; in order of the shards by default.
    repeat : bool
        Whether to go on for ever.
    start : int
        How many cines of this very sequence were taken before; may exceed an epoch.
    part : (int, int)
        Which of how many workers this is: every epoch is dealt out among them.

    Yields
    ------
    ShardCine

    Raises
    ------
    SourceError
        If the position or the part is impossible, a worker would get nothing, or a shard cannot
        be read.

    Examples
    --------
    >>> for step, cine in enumerate(read_shards(folder, seed=1, repeat=True, start=900), 900):
    ...     train(step, cine.voxels, cine.labels)  # doctest: +SKIP
    """
    samples = folder if isinstance(folder, ShardFolder) else ShardFolder(folder)
    own, count = part
    if not 0 <= own < count:
        raise SourceError(f"there is no worker {own} of {count}; they count from 0")
    if start < 0:
        raise SourceError(f"position {start} is before the first cine; expected 0 or more")
    if own >= len(samples):
        raise SourceError(f"{len(samples)} samples are too few for worker {own} of {count}")
    return _deliver(samples, seed, repeat, start, range(own, len(samples), count))


def _deliver(
    samples: ShardFolder, seed: int | None, repeat: bool, start: int, places: range
) -> Iterator[ShardCine]:
    epoch, first = divmod(start, len(places))
    while repeat or epoch == 0:
        order = _order(len(samples), seed, epoch)
        for place in places[first:]:
            yield samples[int(order[place])]
        epoch, first = epoch + 1, 0


def _order(count: int, seed: int | None, epoch: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    if seed is None:
        return np.arange(count)
    return np.random.default_rng([seed, epoch]).permutation(count)
