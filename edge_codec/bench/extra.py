"""The libraries of the extra `bench`: which are there, and in which version."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Iterable

from edge_codec.errors import EngineError


def installed(module: str) -> bool:
    """Whether a top-level module can be imported."""
    return importlib.util.find_spec(module) is not None


def require(modules: Iterable[str], purpose: str) -> None:
    """Refuse to go on where a module is not installed.

    Parameters
    ----------
    modules : iterable of str
        Import names.
    purpose : str
        What needs them, for the message.

    Raises
    ------
    EngineError
        If one is missing.
    """
    missing = [name for name in dict.fromkeys(modules) if not installed(name)]
    if missing:
        raise EngineError(f"{purpose} needs {', '.join(missing)}: pip install 'edge-codec[bench]'")


def version(package: str) -> str | None:
    """Return the version of an installed package, None where it is missing."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
