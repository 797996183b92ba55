"""Time of the zoo's integer networks against the float networks they come from, on the CPU.

    python -m benchmarks.bench_networks --float DIR [--threads N] [--json FILE.jsonl]

`DIR` is what `python -m edge_codec.export.graph` wrote. One 256x256 frame at a time, ONNX Runtime.
The two networks take turns, so that a machine whose speed wanders is as slow to one as to the
other; the ratio is that of their medians.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from benchmarks.record import append_record, describe_machine, percentiles
from edge_codec.engine import Engine
from edge_codec.manifest import load_manifest
from edge_codec.runtime.ort_backend import OrtEngine
from edge_codec.spec import ModelId

RUNS = 300
WARM_UP = 20


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--float", type=Path, required=True, help="folder of float ONNX files")
    parser.add_argument("--threads", type=int, default=2, help="threads for a frame")
    parser.add_argument("--json", type=Path, help="JSON lines to append to")
    options = parser.parse_args()
    machine = describe_machine()
    manifest = load_manifest(ModelId.VQVAE)
    for network in ("encoder", "decoder"):
        engines = {
            "float32": OrtEngine((options.float / f"{network}.onnx").read_bytes(), options.threads),
            "int8": OrtEngine(manifest.read(f"{network}.onnx"), options.threads),
        }
        times = measure(network, engines)
        rows = {name: percentiles(found) for name, found in times.items()}
        ratio = rows["int8"]["p50"] / rows["float32"]["p50"]
        print(f"{network}: {rows['float32']['p50']:.2f} ms float32, {rows['int8']['p50']:.2f} ms "
              f"int8, x{ratio:.2f}")  # fmt: skip
        if options.json is not None:
            row = {"network": network, "threads": options.threads, "unit": "ms", **rows}
            append_record(options.json, "networks", {**row, "int8_over_float": ratio}, machine)


def measure(network: str, engines: dict[str, Engine]) -> dict[str, list[float]]:
    """Return the times of each engine in ms, taking turns."""
    rng = np.random.default_rng(0)
    if network == "encoder":
        tensor = rng.integers(0, 256, (1, 1, 256, 256)).astype(np.uint8)
    else:
        tensor = rng.integers(0, 2048, (1, 32, 32)).astype(np.int32)
    times: dict[str, list[float]] = {name: [] for name in engines}
    for number in range(WARM_UP + RUNS):
        for name, engine in engines.items():
            start = time.perf_counter()
            engine.run(tensor)
            if number >= WARM_UP:
                times[name].append(1e3 * (time.perf_counter() - start))
    return times


if __name__ == "__main__":
    main()
