"""What is left of cines in 32 tokens a frame, a cine and an exam: bytes, PSNR, SSIM, motion.

python -m benchmarks.bench_titok_groups --json benchmarks/results/titok_groups.jsonl EXAM_4D...
"""

from __future__ import annotations

import argparse
import io
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.record import append_record, describe_machine
from edge_codec.bitstream.container import StreamReader
from edge_codec.bitstream.packet import LayerId
from edge_codec.io import open_source
from edge_codec.manifest import load_manifest
from edge_codec.metrics.image import psnr, ssim
from edge_codec.metrics.temporal import temporal_ratio
from edge_codec.runtime.memory_sink import MemorySink
from edge_codec.runtime.options import CompressOptions, DecompressOptions, parse_tokens_per
from edge_codec.runtime.stream_decoding import decode_stream
from edge_codec.runtime.stream_encoding import encode_stream
from edge_codec.spec import ModelId, TokensPer


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("exams", type=Path, nargs="+", help="4D NIfTI files")
    parser.add_argument(
        "--per", nargs="*", default=[per.label for per in TokensPer], help="of frame, cine, exam"
    )
    parser.add_argument("--threads", type=int, default=1, help="threads of the networks")
    parser.add_argument("--json", type=Path, help="JSON lines to append to")
    options = parser.parse_args()
    machine = describe_machine()
    for path in tqdm(options.exams, unit="exam"):
        source = open_source(path)
        frames = np.stack([frame.samples for frame in source.frames()])
        shape = (source.info.n_phases, source.info.n_slices, *source.info.frame_shape)
        voxels = np.ascontiguousarray(frames.reshape(shape).swapaxes(0, 1))
        for per in map(parse_tokens_per, options.per):
            row = {
                "exam": path.name,
                "tokens_per": per.label,
                **measure(path, voxels, per, options),
            }
            tqdm.write(", ".join(f"{key} {_text(value)}" for key, value in row.items()))
            if options.json is not None:
                append_record(options.json, "titok_groups", row, machine)


def measure(
    path: Path, voxels: NDArray[Any], per: TokensPer, options: argparse.Namespace
) -> dict[str, object]:
    """Code an exam and compare what comes back with its voxels (slices, phases, rows, columns).

    Frames are decoded one by one, without a network that refines whole slices afterwards.
    """
    choice = CompressOptions(ModelId.TITOK, None, threads=options.threads, tokens_per=per)
    file, start = io.BytesIO(), time.perf_counter()
    report = encode_stream(open_source(path), file, choice)
    encode_s, start = time.perf_counter() - start, time.perf_counter()
    sink, how = MemorySink(), DecompressOptions(preview=True, threads=options.threads)
    decode_stream(file, lambda _: sink, how)
    decode_s = time.perf_counter() - start
    decoded = sink.cine(report.spec.info).voxels
    peak = float(voxels.max())
    error = float(np.mean((voxels.astype(np.float64) - decoded) ** 2))
    shape = (-1, *voxels.shape[2:])
    frames = zip(voxels.reshape(shape), decoded.reshape(shape), strict=True)
    size = file.seek(0, io.SEEK_END)
    return {
        "version": load_manifest(report.spec.model).version,
        "slices_phases_rows_columns": list(voxels.shape),
        "file_bytes": size,
        "token_bytes": _token_bytes(file, per, len(voxels)),
        "ratio_to_16_bit": 2 * voxels.size / size,
        "psnr_db": psnr(error, peak),
        "ssim": float(np.mean([ssim(one, other, peak) for one, other in frames])),
        "motion_ratio": temporal_ratio(voxels, decoded),
        "encode_s": encode_s,
        "decode_s": decode_s,
        "threads": options.threads,
    }


def _token_bytes(file: io.BytesIO, per: TokensPer, n_slices: int) -> int:
    """Return the bytes of the file that are tokens."""
    if per is TokensPer.FRAME:
        return sum(len(p.layers[LayerId.BASE]) for p in StreamReader(file).packets())
    return 48 * (n_slices if per is TokensPer.CINE else 1)


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
