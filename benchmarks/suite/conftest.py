"""Parts of the codec and the runtime, timed one by one with pytest-benchmark.

    make bench-parts      # time, and save under benchmarks/baselines/
    make bench-compare    # time, and compare with what was saved last

Every benchmark checks the result of what it timed. The voxels are those of the CC0 exam in
`examples/`.
"""

# ruff: noqa: D401 -- described as tests are

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_codec.bench.machine import describe_machine
from edge_codec.cine import Cine
from edge_codec.io import open_source

EXAMPLE = Path(__file__).parents[2] / "examples" / "sunnybrook_scd0000301_slice.nii.gz"


@pytest.fixture(scope="session")
def cine():
    """2 slices x 20 phases of 256 x 256, int16."""
    return Cine.from_source(open_source(EXAMPLE))


@pytest.fixture(scope="session")
def frames(cine):
    """The phases of the first slice as the coders get them: uint32, from 0."""
    low = int(cine.voxels.min())
    return (cine.voxels[0].astype(np.int64) - low).astype(np.uint32)


def pytest_benchmark_update_machine_info(config: Any, machine_info: dict[str, Any]) -> None:
    """Keep what matters of the machine, and nothing that names it."""
    del config
    machine = describe_machine()
    # What differs from run to run would make every comparison one of different machines.
    kept = {name: machine[name] for name in machine.keys() - {"command", "commit", "dirty", "load"}}
    machine_info.clear()
    machine_info.update(sorted(kept.items()), cpu={"brand_raw": machine["device"]})


def pytest_benchmark_update_commit_info(config: Any, commit_info: dict[str, Any]) -> None:
    """Keep the commit alone."""
    del config
    kept = {name: commit_info.get(name) for name in ("id", "time", "dirty")}
    commit_info.clear()
    commit_info.update(kept)
