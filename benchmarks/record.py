"""Records of measurements: one JSON line each, with everything that is needed to repeat it.

Lines are appended, never merged or replaced: an old measurement stays what it was.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from edge_codec.bench.machine import describe_machine

__all__ = ["append_record", "describe_machine", "percentiles"]


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
