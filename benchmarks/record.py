"""Records of measurements: one JSON line each, with everything that is needed to repeat it.

Lines are appended, never merged or replaced: an old measurement stays what it was.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent


def describe_machine() -> dict[str, Any]:
    """Return what a measurement depends on besides its own options.

    Returns
    -------
    dict
        `device`, `cpus`, `load` (mean number of running processes over the last minute: a busy
        machine measures itself), `platform`, `python`, `numpy`, `commit`, `dirty`, `onnxruntime`,
        `openvino`, `command`.
    """
    return {
        "device": processor_name(),
        "cpus": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "commit": _git("rev-parse", "HEAD"),
        "dirty": bool(_git("status", "--porcelain")),
        **{name: version(name) for name in ("onnxruntime", "openvino")},
        # Where files lie on this machine is nobody's business: absolute paths lose their folder.
        "command": " ".join(Path(w).name if w.startswith("/") else w for w in sys.orig_argv),
    }


def version(package: str) -> str | None:
    """Return the version of an installed package, None where it is missing."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


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


def percentiles(values: Iterable[float]) -> dict[str, float]:
    """Return `p20`, `p50`, `p80` and the number `n` of some measurements."""
    data = np.array(list(values), np.float64)
    p20, p50, p80 = np.percentile(data, [20, 50, 80])
    return {"p20": float(p20), "p50": float(p50), "p80": float(p80), "n": len(data)}


def append_record(
    path: Path, benchmark: str, row: Mapping[str, Any], machine: Mapping[str, Any]
) -> None:
    """Append one measurement to a file of JSON lines.

    Parameters
    ----------
    path : Path
        Made where it does not exist yet.
    benchmark : str
        Name of the benchmark.
    row : mapping
        The measurement: variant, metric, unit, values.
    machine : mapping
        From `describe_machine`.
    """
    record = {
        "benchmark": benchmark,
        **row,
        **machine,
        "utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def _git(*arguments: str) -> str:
    """Output of a git command in this checkout; empty where there is no git or no commit."""
    try:
        found = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""
