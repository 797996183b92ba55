"""The benchmarks of the parts run, each once and untimed."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PARTS = ("rans_static", "rans_adaptive", "residual_encode", "residual_decode", "packet_pack",
         "network_encoder", "lookup", "tokens_encode", "histogram_record", "telemetry_record",
         "pipeline_hand_over")  # fmt: skip


def test_every_part_has_a_benchmark_that_runs():
    command = [sys.executable, "-m", "pytest", "benchmarks/suite", "-v", "-p", "no:cacheprovider",
               "-o", "python_files=bench_*.py", "-o", "python_functions=bench_*",
               "--benchmark-disable"]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    found = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stdout[-3000:]
    assert [part for part in PARTS if f"::bench_{part}" not in found.stdout] == []
