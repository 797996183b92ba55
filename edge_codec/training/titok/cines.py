"""Cines to train on, fitted to the network's canvas: from a folder of shards or a pack.

Each is read when it is first drawn and kept as 8-bit window codes, 0.4 MB for 25 phases. Where the
heart is comes from expert labels: each phase takes those of the nearest labeled one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.base.titok.canvas import canvas_of
from edge_codec.base.titok.conditions import GROUPS, ClinicalFacts
from edge_codec.errors import SourceError
from edge_codec.spec import WINDOW_ONE
from edge_codec.training.pack import CineSequence, read_pack
from edge_codec.training.shards.reading import ShardFolder
from edge_codec.training.shards.sample import ShardCine


@dataclass(frozen=True, slots=True, eq=False)
class FittedCine:
    """One slice of an exam over all its phases, on the canvas.

    Attributes
    ----------
    patient : str
    codes : ndarray, shape (phases, 128, 128), uint8
        Window codes; 192 is 1 in the network.
    heart : ndarray, shape (phases, 128, 128), bool, or None
        Where experts say heart; None where nobody said.
    inside : ndarray, shape (128, 128), float32
        1 where the canvas shows the frame.
    facts : ClinicalFacts
    peak : float
        Largest stored value over the window's width: peak of the PSNR where 1 is the window.
    """

    patient: str
    codes: NDArray[np.uint8]
    heart: NDArray[np.bool_] | None
    inside: NDArray[np.float32]
    facts: ClinicalFacts
    peak: float


class Library:
    """Cines by number, each read when it is first asked for and kept.

    Parameters
    ----------
    readers : sequence of callable
        Each reads a cine.
    """

    def __init__(self, readers: Sequence[Callable[[], FittedCine]]) -> None:
        self._readers = readers
        self._kept: dict[int, FittedCine] = {}

    def __len__(self) -> int:
        return len(self._readers)

    def __getitem__(self, number: int) -> FittedCine:
        """Return a cine.

        Raises
        ------
        IndexError
            If there are not so many.
        SourceError
            If it cannot be read.
        """
        if number not in self._kept:
            self._kept[number] = self._readers[number]()
        return self._kept[number]


def open_cines(paths: Sequence[Path], held_out: Collection[str]) -> tuple[Library, Library]:
    """Open folders of shards and files of `edge_codec.training.pack`, all together.

    Returns
    -------
    training, held_out : Library
        All other patients', and those of the patients to validate on that are there.

    Raises
    ------
    SourceError
        If one is neither, or no patient is left to train on.
    """
    named = [
        reader
        for path in paths
        for reader in (_shard_readers(path) if path.is_dir() else _pack_readers(path))
    ]
    training = Library([reader for patient, reader in named if patient not in held_out])
    if len(training) == 0:
        raise SourceError(
            f"{', '.join(map(str, paths))}: no patient but those held out; there is nothing to "
            "train on"
        )
    return training, Library([reader for patient, reader in named if patient in held_out])


def fit_shard(cine: ShardCine) -> FittedCine:
    """Fit a sample of a shard."""
    low, high = cine.window
    width = max(high - low, 1.0)
    codes = np.floor((cine.voxels - low) * (WINDOW_ONE / width) + 0.5)
    heart = None
    if cine.labels is not None and len(cine.label_phases):
        nearest = _nearest_phases(len(cine.voxels), cine.label_phases)
        heart = _fit_mask(cine.labels > 0)[nearest]
    facts = ClinicalFacts(
        cine.height_cm or 0.0,
        cine.weight_kg or 0.0,
        cine.group if cine.group in GROUPS else "",
        len(cine.voxels) if len(cine.voxels) > 1 else 0,
    )
    return _fitted(cine.patient, codes, heart, facts, float(cine.voxels.max()) / width)


def fit_sequence(sequence: CineSequence) -> FittedCine:
    """Fit a sequence of a pack, whose mask holds for all phases; it knows no facts."""
    codes = np.floor(sequence.voxels * (WINDOW_ONE / sequence.width) + 0.5)
    phases = len(codes)
    heart = None
    if sequence.heart.any():
        heart = np.broadcast_to(_fit_mask(sequence.heart[None]), (phases, *_sides(sequence.heart)))
    facts = ClinicalFacts(n_phases=phases if phases > 1 else 0)
    return _fitted(sequence.case, codes, heart, facts, sequence.peak / sequence.width)


def _shard_readers(folder: Path) -> list[tuple[str, Callable[[], FittedCine]]]:
    samples = ShardFolder(folder)
    return [
        (key.rpartition("-s")[0], partial(_read_sample, samples, number))
        for number, key in enumerate(samples.keys)
    ]


def _pack_readers(path: Path) -> list[tuple[str, Callable[[], FittedCine]]]:
    return [(one.case, partial(fit_sequence, one)) for one in read_pack(path)]


def _read_sample(samples: ShardFolder, number: int) -> FittedCine:
    return fit_shard(samples[number])


def _fitted(
    patient: str,
    codes: NDArray[Any],
    heart: NDArray[np.bool_] | None,
    facts: ClinicalFacts,
    peak: float,
) -> FittedCine:
    """Bring codes of any size, saturated as the codec's window does, to the canvas."""
    canvas = canvas_of(*codes.shape[1:])
    saturated = np.clip(codes, 0, 255).astype(np.float32)
    fitted = np.stack([canvas.fit(frame) for frame in saturated])
    rounded = np.clip(np.rint(fitted), 0, 255).astype(np.uint8)
    return FittedCine(patient, rounded, heart, canvas.inside, facts, peak)


def _fit_mask(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    canvas = canvas_of(*mask.shape[1:])
    return np.stack([canvas.fit(frame.astype(np.float32)) > 0.5 for frame in mask])


def _sides(mask: NDArray[np.bool_]) -> tuple[int, ...]:
    return canvas_of(*mask.shape).inside.shape


def _nearest_phases(phases: int, labeled: Sequence[int]) -> NDArray[np.int64]:
    """For each phase the place in `labeled` of the nearest, around the cycle."""
    apart = np.abs(np.arange(phases)[:, None] - np.asarray(labeled)[None])
    nearest: NDArray[np.int64] = np.minimum(apart, phases - apart).argmin(axis=1)
    return nearest
