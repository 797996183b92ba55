"""What an HDF5 file itself holds, and nothing else.

HDF5 files can point at bytes elsewhere: links to other files, datasets stored in any other file or
composed of others'. A file from outside must not make this program read what its sender could not.
Needs h5py, which comes with the package `ismrmrd`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edge_codec.errors import SourceError


def import_h5py() -> Any:
    """Return the module h5py.

    Raises
    ------
    SourceError
        If it is not installed.
    """
    try:
        return importlib.import_module("h5py")
    except ImportError as error:
        raise SourceError("ISMRMRD .h5 files need: pip install 'edge-codec[mrd]'") from error


def open_h5(path: Path) -> Any:
    """Open an HDF5 file for reading.

    Raises
    ------
    SourceError
        If h5py is not installed.
    """
    return import_h5py().File(path, "r")


def own_groups(group: Any) -> Iterator[tuple[str, Any]]:
    """Yield names and groups that a group itself holds; links are passed over."""
    h5py = import_h5py()
    for name in group:
        if isinstance(group.get(name, getlink=True), h5py.HardLink):
            found = group[name]
            if isinstance(found, h5py.Group):
                yield name, found


def own_dataset(group: Any, name: str) -> Any:
    """Return a dataset of a group whose bytes are in the file itself.

    Raises
    ------
    SourceError
        If it is no dataset, or its bytes are elsewhere.
    """
    h5py = import_h5py()
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise SourceError(
            f"its {name!r} is missing, or a link; copy what it leads to into the file"
        )
    dataset = group[name]
    if not isinstance(dataset, h5py.Dataset):
        raise SourceError(f"its {name!r} is a {type(dataset).__name__}; a dataset is expected")
    if dataset.external or dataset.is_virtual:
        raise SourceError(
            f"the values of its {name!r} are stored in other files; copy them into this one"
        )
    return dataset
