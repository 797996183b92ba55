"""What a measurement depends on besides its own options: machine, versions, command.

Nothing that names a person or a place: no host name, no absolute path.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_codec import __version__
from edge_codec.bench.extra import version

PACKAGE = Path(__file__).resolve().parent.parent
ALWAYS = ("onnxruntime", "openvino")


def describe_machine(packages: Iterable[str] = ()) -> dict[str, Any]:
    """Return machine, versions and command.

    Parameters
    ----------
    packages : iterable of str
        Further packages whose versions matter.

    Returns
    -------
    dict
        `device`, `cpus`, `load` (mean number of running processes over the last minute: a busy
        machine measures itself), `platform`, `python`, `edge_codec`, `numpy`, `commit` and `dirty`
        (None outside a checkout), one entry for each package (None where it is missing), `command`.
    """
    commit = checkout_commit()
    return {
        "device": processor_name(),
        "cpus": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "platform": platform.platform(),
        "python": platform.python_version(),
        "edge_codec": __version__,
        "numpy": np.__version__,
        "commit": commit,
        "dirty": None if commit is None else bool(_git("status", "--porcelain")),
        **{name: version(name) for name in (*ALWAYS, *packages)},
        "command": " ".join(map(without_folder, sys.orig_argv)),
    }


def without_folder(word: str) -> str:
    """Return a word of a command line, an absolute path in it reduced to its last part.

    >>> without_folder("--out=/data/figures"), without_folder("examples/heart.nii.gz")
    ('--out=figures', 'examples/heart.nii.gz')
    """
    option, equals, value = word.rpartition("=")
    path = Path(value)
    # Where files lie on this machine is nobody's business.
    return option + equals + (path.name if path.is_absolute() or ".." in path.parts else value)


def processor_name() -> str:
    """Return the processor's name and clock as Linux tells them, else what Python knows."""
    cpuinfo = Path("/proc/cpuinfo")
    board = Path("/proc/device-tree/model")  # Jetson and other boards without "model name"
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    for line in lines:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    if board.exists():
        return board.read_text().strip("\0\n ")
    return platform.processor() or platform.machine()


def checkout_commit() -> str | None:
    """Return the commit that this package was imported from; None where it is installed."""
    # An install inside somebody's repository is not a checkout: its files are not tracked there.
    if not _git("ls-files", "--", str(PACKAGE / "__init__.py")):
        return None
    return _git("rev-parse", "HEAD") or None


def _git(*arguments: str) -> str:
    """Output of a git command on this package; empty where there is no git or no repository."""
    command: Sequence[str] = ("git", *arguments)
    try:
        found = subprocess.run(
            command, cwd=PACKAGE, capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""
