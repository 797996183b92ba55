"""Time and memory of `edge-codec data`: converting, resuming, checking and reading shards.

    python -m benchmarks.bench_data ACDC --splits splits.json --workers 1 2 --results FILE.jsonl

Each command runs in a process of its own. Shards of every number of workers are compared byte by
byte. Memory is the kernel's VmHWM of the parent process (Linux), all of it with one worker; what is
read was written just before and lies in the page cache.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.record import append_record, describe_machine
from edge_codec.training.shards.patient import hash_file
from edge_codec.training.shards.reading import ShardFolder, read_shards

KEPT = ("patients", "samples", "labeled_samples", "frames", "shards", "bytes")


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="folder of patients")
    parser.add_argument("--splits", type=Path, help="JSON file; its list 'train' is converted")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--partial", action="store_true", help="as of the command")
    parser.add_argument("--dataset", default="acdc", help="as of the command")
    parser.add_argument("--results", type=Path, help="JSON lines to append to")
    options = parser.parse_args()
    for row in measure(options):
        print(row, flush=True)
        if options.results:
            append_record(options.results, "bench_data", row, describe_machine())


def measure(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield one row for each step."""
    arguments = ["--dataset", options.dataset, *(["--partial"] if options.partial else [])]
    if options.splits:
        arguments += ["--split", f"{options.splits}:train"]
    common = {"dataset": options.dataset}
    with tempfile.TemporaryDirectory() as temporary:
        folders = [Path(temporary) / f"workers-{workers}" for workers in options.workers]
        for workers, out in zip(options.workers, folders, strict=True):
            command = ["convert", options.source, out, *arguments, "--workers", workers]
            fields = run(command)
            if contents(out) != contents(folders[0]):
                raise SystemExit(f"{workers} workers made other shards")
            yield {**common, "step": "convert", "workers": workers, **fields}
        fields = run([*command, "--resume"])
        if fields["kept_shards"] != fields["shards"]:
            raise SystemExit("whole shards were made again")
        yield {**common, "step": "resume of whole shards", "workers": workers, **fields}
        yield {**common, "step": "check", "workers": 1, **run(["check", folders[0]])}
        yield {**common, "step": "read", "workers": 1, **read(folders[0])}


def run(arguments: list[Any]) -> dict[str, Any]:
    """Run a command of `edge-codec data`; return what it counted, its time and its memory."""
    program = (
        "import sys; from edge_codec.cli import main; status = main(sys.argv[1:]);"
        "print(open('/proc/self/status').read(), file=sys.stderr); sys.exit(status)"
    )
    start, before = time.perf_counter(), processor_seconds(resource.RUSAGE_CHILDREN)
    result = subprocess.run(
        [sys.executable, "-c", program, "data", *map(str, arguments), "--json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    busy = processor_seconds(resource.RUSAGE_CHILDREN) - before
    if result.returncode:
        raise SystemExit(result.stderr)
    fields = json.loads(result.stdout)
    [peak] = re.findall(r"VmHWM:\s+(\d+) kB", result.stderr)
    kept = {name: fields[name] for name in (*KEPT, "kept_shards") if name in fields}
    return {
        **kept,
        "seconds": round(seconds, 2),
        "cpu_seconds": round(busy, 2),
        "peak_resident_mb": int(peak) * 1024 / 1e6,
    }


def read(folder: Path) -> dict[str, Any]:
    """Read every sample once in a shuffled order."""
    shards = ShardFolder(folder)
    start, before = time.perf_counter(), processor_seconds(resource.RUSAGE_SELF)
    samples, size = 0, 0
    for cine in read_shards(shards, seed=0):
        samples, size = samples + 1, size + cine.voxels.nbytes
    seconds = time.perf_counter() - start
    if samples != len(shards):
        raise SystemExit(f"{samples} samples came of {len(shards)}")
    return {
        "samples": samples,
        "voxel_bytes": size,
        "seconds": round(seconds, 3),
        "cpu_seconds": round(processor_seconds(resource.RUSAGE_SELF) - before, 3),
        "samples_per_second": samples / seconds,
    }


def processor_seconds(who: int) -> float:
    """Return the time that processors spent, which a busy machine disturbs less than a clock."""
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def contents(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of a folder."""
    return {path.name: hash_file(path) for path in sorted(folder.iterdir())}


if __name__ == "__main__":
    main()
