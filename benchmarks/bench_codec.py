"""Every profile on every test case: rate, fidelity, and milliseconds per frame.

    python -m benchmarks.bench_codec --data DIR --splits splits.json --results FILE.jsonl

`DIR` holds ACDC's layout: `<group>/<case>/<case>_4d.nii.gz`. One JSON line per case, profile,
backend and number of threads; a table on stdout. Times are of the codec alone, frame by frame:
analysis, entropy coding and packing; reading and writing files is left out. Every number comes
from streams that were decoded and compared in the same run.
"""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import append_record, describe_machine
from edge_codec.cine import Cine
from edge_codec.io import open_source
from edge_codec.metrics.image import psnr, squared_error, ssim
from edge_codec.runtime.memory_sink import MemorySink
from edge_codec.runtime.options import CompressOptions, DecompressOptions
from edge_codec.runtime.stream_decoding import decode_stream
from edge_codec.runtime.stream_encoding import encode_stream
from edge_codec.spec import Effort, ModelId

PROFILES: dict[str, tuple[ModelId, int | None, Effort]] = {
    "vqvae": (ModelId.VQVAE, None, Effort.DEFAULT),
    "vqvae lossless fast": (ModelId.VQVAE, 0, Effort.FAST),
    "vqvae lossless": (ModelId.VQVAE, 0, Effort.DEFAULT),
    "lossless fast": (ModelId.NONE, 0, Effort.FAST),
    "lossless": (ModelId.NONE, 0, Effort.DEFAULT),
    "lossless best": (ModelId.NONE, 0, Effort.BEST),
    "max error 1": (ModelId.NONE, 1, Effort.DEFAULT),
    "max error 2": (ModelId.NONE, 2, Effort.DEFAULT),
    "max error 4": (ModelId.NONE, 4, Effort.DEFAULT),
}
COLUMNS = ("case", "profile", "backend", "threads", "bpp", "psnr_db", "ssim", "max_error",
           "encode_ms_p50", "encode_ms_p99", "decode_ms_p50", "decode_ms_p99")  # fmt: skip


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of unpacked cases")
    parser.add_argument("--splits", type=Path, required=True, help="JSON with a list 'test'")
    parser.add_argument("--results", type=Path, help="JSON lines to append to")
    parser.add_argument("--cases", nargs="*", help="these cases instead of the split's")
    parser.add_argument("--profiles", nargs="*", choices=PROFILES, default=list(PROFILES))
    parser.add_argument("--backends", nargs="*", default=["onnxruntime", "openvino"])
    parser.add_argument("--threads", nargs="*", type=int, default=[1, 2])
    options = parser.parse_args()
    cases = options.cases or json.loads(options.splits.read_text())["test"]
    machine = describe_machine()
    print("  ".join(f"{name:>14}" for name in COLUMNS))
    for case in cases:
        cine = Cine.from_source(open_source(find_case(options.data, case)))
        for profile in options.profiles:
            for backend, threads in engines(profile, options.backends, options.threads):
                row = measure(cine, profile, backend, threads) | {"case": case}
                print("  ".join(f"{_cell(row[name]):>14}" for name in COLUMNS), flush=True)
                if options.results:
                    append_record(options.results, "bench_codec", row, machine)


def find_case(data: Path, case: str) -> Path:
    """Return the 4D file of a case."""
    found = sorted(data.glob(f"*/{case}/{case}_4d.nii.gz"))
    if not found:
        raise SystemExit(f"{data} has no */{case}/{case}_4d.nii.gz")
    return found[0]


def engines(profile: str, backends: list[str], threads: list[int]) -> list[tuple[str, int]]:
    """Return the (backend, threads) that make a difference to a profile."""
    if PROFILES[profile][0] is ModelId.NONE:
        return [("none", count) for count in threads]
    return [(backend, count) for backend in backends for count in threads]


def measure(cine: Cine, profile: str, backend: str, threads: int) -> dict[str, Any]:
    """Compress, decompress, compare; return one row."""
    model, bound, effort = PROFILES[profile]
    chosen = "auto" if backend == "none" else backend
    file = io.BytesIO()
    options = CompressOptions(model, bound, backend=chosen, threads=threads, effort=effort)
    encoded = encode_stream(cine, file, options)
    sink = MemorySink()
    restored = decode_stream(
        file, lambda _: sink, DecompressOptions(backend=chosen, threads=threads)
    )
    voxels = sink.cine(restored.spec.info).voxels
    largest = int(np.abs(voxels.astype(np.int64) - cine.voxels).max())
    if bound is not None and largest > bound:
        raise SystemExit(f"{profile}: a voxel is off by {largest}")
    peak = float(cine.voxels.max())
    noise = squared_error(cine.voxels, voxels) / voxels.size
    shape = cine.voxels.shape
    pairs = zip(cine.voxels.reshape(-1, *shape[2:]), voxels.reshape(-1, *shape[2:]), strict=True)
    return {
        "profile": profile,
        "backend": backend,
        "threads": threads,
        "shape_slice_phase_row_column": list(shape),
        "stream_bytes": encoded.stream_bytes,
        "bpp": encoded.bits_per_voxel,
        "ratio_to_16_bit": 16 / encoded.bits_per_voxel,
        "psnr_db": psnr(noise, peak),
        "psnr_p995_db": psnr(noise, float(np.percentile(cine.voxels, 99.5))),
        "ssim": float(np.mean([ssim(a, b, peak) for a, b in pairs])),
        "max_error": largest,
        **_percentiles("encode_ms", encoded.frame_ms),
        **_percentiles("decode_ms", restored.frame_ms),
        "frames_timed": len(encoded.frame_ms),
        "definitions": "psnr: peak = exam maximum (p995: 99.5th percentile), MSE over all voxels; "
        "ssim: 7x7 uniform, range = exam maximum, mean over frames; bpp: every stream byte",
    }


def _percentiles(name: str, times: list[float]) -> dict[str, float]:
    return {
        f"{name}_p50": float(np.percentile(times, 50)),
        f"{name}_p99": float(np.percentile(times, 99)),
        f"{name}_max": float(np.max(times)),
    }


def _cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
