"""Size, quality and speed of the base layers of standard video encoders (model `video`).

    python -m benchmarks.bench_video FILE [--encoders NAME ...] [--efforts NAME ...]
        [--qualities N ...] [--json FILE.jsonl]

`FILE` is a cine. Times are CPU times of all threads, in milliseconds: they change little where the
machine does other work as well. Encoding contains its own decoding, which proves the frame. Every
frame is decoded a second time and compared. Bits are those of the payloads: no packet heads, no
checksums.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.record import append_record, describe_machine, percentiles
from edge_codec.base.video.encoders import ENCODERS
from edge_codec.base.video.model import VideoModel
from edge_codec.cine import Cine
from edge_codec.io import open_source
from edge_codec.spec import CineInfo, Effort, ModelId, StreamSpec

KEY_INTERVAL = 32


@dataclass(slots=True)
class Measurement:
    """What coding a cine took."""

    size: int = 0
    squares: float = 0.0
    times: dict[str, list[float]] = field(default_factory=dict)

    def run(self, name: str, step: Callable[..., Any], *arguments: Any) -> Any:
        """Do a step and keep its CPU time."""
        start = time.process_time()
        result = step(*arguments)
        self.times.setdefault(name, []).append(1e3 * (time.process_time() - start))
        return result


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--encoders", nargs="*", default=["x265", "x265-main10", "svt-av1"],
                        choices=ENCODERS)  # fmt: skip
    parser.add_argument("--efforts", nargs="*", default=["fast", "default", "best"])
    parser.add_argument("--qualities", nargs="*", type=int, default=[16, 32, 48])
    parser.add_argument("--json", type=Path, help="JSON lines to append to")
    options = parser.parse_args()
    stored = Cine.from_source(open_source(options.file)).voxels.astype(np.int64)
    cine = np.ascontiguousarray(stored - stored.min(), np.uint32)
    machine = describe_machine()
    print(f"{machine['device']}, load {machine['load']}; medians of CPU ms per frame")
    print(f"{'encoder':<12} effort  quality     bpp   PSNR    key  other  decode")
    for encoder, name, quality in product(options.encoders, options.efforts, options.qualities):
        measurement = measure(cine, VideoModel(encoder, quality, Effort[name.upper()]))
        bits, psnr = 8 * measurement.size / cine.size, psnr_of(cine, measurement)
        shown = (np.median(measurement.times[step]) for step in ("key", "other", "decode"))
        print(
            f"{encoder:<12} {name:<7}{quality:>8} {bits:7.4f} {psnr:6.2f} "
            + " ".join(f"{value:6.1f}" for value in shown),
            flush=True,
        )
        for row in rows(measurement):
            row |= {"variant": f"{encoder}, {name}, quality {quality}", "bits_per_voxel": bits}
            row |= {"psnr_db": psnr, "shape": list(cine.shape), "case": options.file.name}
            if options.json:
                append_record(options.json, "bench_video", row, machine)


def measure(cine: NDArray[np.uint32], model: VideoModel) -> Measurement:
    """Code and decode every frame.

    Raises
    ------
    ValueError
        If a decoded frame is not the encoder's.
    """
    result, shape = Measurement(), cine.shape
    spec = StreamSpec(
        CineInfo(*shape, np.dtype(np.int64)), 0, int(cine.max()), ModelId.VIDEO, max_error=None,
        model_data=model.model_data(shape[2:]),
    )  # fmt: skip
    for phases in cine:
        coder, other = model.coder(spec), VideoModel().coder(spec)
        for phase, frame in enumerate(phases):
            key = phase % KEY_INTERVAL == 0
            step = "key" if key else "other"
            payload, base = result.run(step, coder.encode, frame, phase, key)
            decoded = result.run("decode", other.decode, payload, phase, key)
            if not np.array_equal(decoded, base):
                raise ValueError(f"phase {phase}: the decoded frame is not the encoder's")
            result.size += len(payload)
            result.squares += float(np.square(base.astype(np.float64) - frame).sum())
    return result


def psnr_of(cine: NDArray[np.uint32], measurement: Measurement) -> float:
    """Return decibels over the whole cine, peak its maximum."""
    return 10 * math.log10(float(cine.max()) ** 2 * cine.size / measurement.squares)


def rows(measurement: Measurement) -> Iterator[dict[str, Any]]:
    """Return the records of a measurement: one for each kind of step."""
    for step, times in measurement.times.items():
        yield {
            "step": step, "metric": "CPU time per frame", "unit": "ms", "best": min(times),
            **percentiles(times), "warm_up": 0,
        }  # fmt: skip


if __name__ == "__main__":
    main()
