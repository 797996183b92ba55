"""Peak memory of compress and decompress against the length of the file.

    python -m benchmarks.bench_memory --phases 40 2000 --results FILE.jsonl

The sample's two slices are repeated to the stated number of phases of 256x256 16-bit voxels; each
command runs in a process of its own, and its peak resident size is the kernel's VmHWM (Linux).
"""

from __future__ import annotations

import argparse
import gzip
import subprocess
import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np

from benchmarks.demo import SAMPLE
from benchmarks.record import append_record, describe_machine

PROFILES = {
    "lossless": [],
    "lossless best": ["--effort", "best"],
    "vqvae lossless": ["--model", "vqvae", "--lossless"],
}


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--phases", type=int, nargs="+", default=[40, 2000])
    parser.add_argument("--results", type=Path, help="JSON lines to append to")
    options = parser.parse_args()
    machine = describe_machine()
    for phases in options.phases:
        for profile, arguments in PROFILES.items():
            for row in measure(phases, profile, arguments):
                print(row, flush=True)
                if options.results:
                    append_record(options.results, "bench_memory", row, machine)


def measure(phases: int, profile: str, arguments: list[str]) -> list[dict[str, object]]:
    """Compress and decompress a file of so many phases; return one row for each."""
    with tempfile.TemporaryDirectory() as folder:
        source, stream, back = (Path(folder) / name for name in ("in.nii", "s.ecd", "out.nii"))
        write_long(source, phases)
        commands = (
            ["compress", str(source), str(stream), *arguments],
            ["decompress", str(stream), str(back)],
        )
        peaks = {command[0]: run(command) for command in commands}
        if not same(source, back):
            raise SystemExit(f"{profile}, {phases} phases: the file came back changed")
        return [
            {
                "profile": profile,
                "step": command,
                "phases": phases,
                "source_bytes": source.stat().st_size,
                "peak_resident_mb": peak,
            }
            for command, peak in peaks.items()
        ]


def write_long(path: Path, phases: int) -> None:
    """Write the sample repeated along time, one phase at a time."""
    voxels = np.asanyarray(nib.load(SAMPLE).dataobj)
    head = bytearray(gzip.decompress(SAMPLE.read_bytes())[:352])
    header = nib.Nifti1Header(bytes(head[:348]))
    header["dim"][4] = phases
    head[:348] = header.binaryblock
    with path.open("wb") as file:
        file.write(head)
        for phase in range(phases):
            file.write(voxels[..., phase % voxels.shape[3]].tobytes(order="F"))


def run(command: list[str]) -> float:
    """Run one command of the package; return its peak resident size in MB (10^6 bytes)."""
    # Not ru_maxrss: a child begins with its parent's.
    program = (
        "import re, sys; from edge_codec.cli import main; status = main(sys.argv[1:]);"
        "memory = open('/proc/self/status').read();"
        "print(status, re.search(r'VmHWM:\\s+(\\d+) kB', memory)[1], file=sys.stderr)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, *command, "--quiet"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    status, kibibytes = result.stderr.split()[-2:]
    if status != "0":
        raise SystemExit(result.stderr)
    return int(kibibytes) * 1024 / 1e6


def same(first: Path, second: Path) -> bool:
    """Compare two files piece by piece."""
    with first.open("rb") as a, second.open("rb") as b:
        while True:
            x, y = a.read(1 << 20), b.read(1 << 20)
            if x != y:
                return False
            if not x:
                return True


if __name__ == "__main__":
    main()
