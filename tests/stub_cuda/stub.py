"""Compiles the stub driver and runs scenarios on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
STUB = ROOT / "tests" / "stub_cuda"


def build_stub(folder: Path) -> Path:
    """Write `libcuda.so.1` to a folder, for processes that have it in LD_LIBRARY_PATH."""
    library = folder / "libcuda.so.1"
    options = ["-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden"]
    shared = ["-shared", "-fPIC", "-Wl,-soname,libcuda.so.1"]
    source = str(STUB / "stub_cuda.c")
    subprocess.run(["gcc", *options, *shared, "-o", str(library), source], check=True)
    return library


def python(script: str, *arguments: str, **variables: str) -> str:
    """Run a script of this folder in a process that does not interpret kernels."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", **variables}
    environment.pop("TRITON_INTERPRET", None)
    command = [sys.executable, "-W", "error", str(STUB / script), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


class Stub:
    """Runs scenarios on the stub driver; `log` is what the driver saw in the last one."""

    def __init__(self, folder: Path, kernels: Path) -> None:
        build_stub(folder)
        self._folder = folder
        self._kernels = kernels
        self.log: list[str] = []

    def run(self, scenario: str, **variables: str) -> Any:
        path = self._folder / "log"
        path.unlink(missing_ok=True)
        settings = {"LD_LIBRARY_PATH": str(self._folder), "STUB_CUDA_LOG": str(path)}
        settings.update(variables)
        printed = python("scenarios.py", scenario, str(self._kernels), **settings)
        self.log = path.read_text("utf-8").splitlines() if path.exists() else []
        return json.loads(printed)

    def violations(self) -> list[str]:
        return [line for line in self.log if line.startswith("VIOLATION")]
