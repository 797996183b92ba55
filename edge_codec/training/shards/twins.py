"""Patients of a source whose cines are the same file under two names.

Where one of them is trained on and another tested on, the test is none. It happens: one of the ten
test patients that this project reports on is one of its training patients.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from edge_codec.training.shards.index import Index
from edge_codec.training.shards.patient import hash_file

CINE_NAMES = ("_4d.nii", "_4d.nii.gz")


def find_twins(index: Index, source: Path, names: Iterable[str]) -> list[tuple[str, ...]]:
    """Return patients with the same cine, at least one of each group among those of the index.

    Parameters
    ----------
    index : Index
        Whose patients' files are known by their hash.
    source : Path
        Folder of patients.
    names : iterable of str
        All patients there, in and out of the split.

    Returns
    -------
    list of tuple of str
        Names in order; files that differ in compression alone are not found, nor those out of the
        index that cannot be read.
    """
    known = {
        patient.name: _cine_hash(patient.name, patient.sources)
        for shard in index.shards
        for patient in shard.patients
    }
    groups: dict[str, list[str]] = {}
    for name in sorted({*names, *known}):
        digest = known[name] if name in known else _hash_there(source / name)
        if digest is not None:
            groups.setdefault(digest, []).append(name)
    twins = [tuple(group) for group in groups.values() if len(group) > 1]
    return [group for group in twins if not known.keys().isdisjoint(group)]


def _cine_hash(name: str, sources: dict[str, str]) -> str | None:
    return next((sources[name + end] for end in CINE_NAMES if name + end in sources), None)


def _hash_there(folder: Path) -> str | None:
    paths = [folder / (folder.name + end) for end in CINE_NAMES]
    try:
        return next((hash_file(path) for path in paths if path.is_file()), None)
    except OSError:  # nobody asked for this patient: the shards are whole without
        return None
