"""Speed of the hybrid base layer alone: milliseconds per frame, bits and quality.

    python -m benchmarks.hybrid_speed [FILE.nii.gz ...] [--quantizers Q ...] [--efforts NAME ...]
        [--threads N] [--slices N] [--json FILE.jsonl]

Slices of the cines are coded in low delay with one key frame, as the codec does with constant
quality, and decoded again; frames that differ from the encoder's are an error. Times are those of
the native coder. On a machine that does other work as well, the fastest runs tell more than the
median: the table shows the 5th percentile, the median and the 99th one.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from benchmarks.record import append_record, describe_machine, percentiles
from edge_codec.base.hybrid.depth import DepthMap
from edge_codec.base.hybrid.native import native
from edge_codec.base.hybrid.quantizer import offsets, quantizer_at
from edge_codec.base.hybrid.structure import low_delay_plan
from edge_codec.engine import Mapper
from edge_codec.runtime.band_threads import BandThreads
from edge_codec.spec import Effort

EXAMPLE = Path(__file__).parents[1] / "examples" / "sunnybrook_scd0000301_slice.nii.gz"


@dataclass(slots=True)
class Measurement:
    """What coding a cine took."""

    size: int = 0
    voxels: int = 0
    squared_error: float = 0.0
    encode_ms: list[float] = field(default_factory=list)  # of frames that are no key frames
    key_ms: list[float] = field(default_factory=list)
    decode_ms: list[float] = field(default_factory=list)

    def bits_per_voxel(self) -> float:
        """Return the bits of the payloads for each voxel."""
        return 8 * self.size / self.voxels

    def psnr(self, peak: int) -> float:
        """Return the quality in decibels, for voxels from 0 to `peak`."""
        return float(10 * np.log10(peak**2 * self.voxels / max(self.squared_error, 1e-9)))


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, default=[EXAMPLE], help="4-D NIfTI files")
    parser.add_argument(
        "--quantizers", nargs="*", type=int, default=[54, 60, 66, 72], help="of layer 1: 0 to 127"
    )
    parser.add_argument(
        "--efforts", nargs="*", default=["fast", "default", "best"], help="of the encoder"
    )
    parser.add_argument("--threads", type=int, default=2, help="threads for the rows of a frame")
    parser.add_argument("--slices", type=int, default=1, help="every n-th slice only")
    parser.add_argument("--json", type=Path, help="JSON lines to append to")
    options = parser.parse_args()
    machine = describe_machine()
    print(
        f"{machine['device']}, load {machine['load']}, {options.threads} threads, "
        f"{native.__name__}; ms per frame: p5, p50, p99"
    )
    print(
        f"{'cine':<24} {'frame':>9} {'effort':<8} {'q':>3} {'bpp':>7} {'dB':>6}"
        "   encode ms              key ms   decode ms"
    )
    mapper = BandThreads(options.threads)
    for file in options.files:
        cine = load_cine(file)[:: options.slices]
        for name, quantizer in product(options.efforts, options.quantizers):
            effort = Effort[name.upper()]
            measurement = measure(cine, quantizer, effort, mapper, options.threads)
            show(file, cine, quantizer, effort, measurement)
            for row in rows(file, cine, quantizer, effort, measurement, options.threads):
                if options.json:
                    append_record(options.json, "hybrid_speed", row, machine)
    mapper.close()


def load_cine(file: Path) -> NDArray[np.uint32]:
    """Return samples from 0 on, shape (slices, phases, rows, columns)."""
    stored = (
        np.asanyarray(nibabel.Nifti1Image.from_filename(file).dataobj)
        .transpose(2, 3, 1, 0)
        .astype(np.int64)
    )
    return np.ascontiguousarray(stored - stored.min(), np.uint32)


def measure(
    cine: NDArray[np.uint32], quantizer: int, effort: Effort, mapper: Mapper, threads: int
) -> Measurement:
    """Code and decode every frame.

    Raises
    ------
    ValueError
        If a decoded frame is not the encoder's.
    """
    result = Measurement()
    depth = DepthMap(int(cine.max()))
    shape = cine.shape[2:]
    samples, ours, theirs = (np.empty(shape, np.int16) for _ in range(3))
    restored = np.empty(shape, np.uint32)
    for phases in cine:
        encoder, decoder = native.Coder(*shape), native.Coder(*shape)
        for phase, frame in enumerate(phases):
            plan = low_delay_plan(phase)
            depth.narrow(frame, samples)
            step = quantizer_at(quantizer, offsets(archive=False)[plan.layer])
            place = (phase == 0, plan.references, plan.slot)
            start = time.perf_counter()
            payload = encoder.encode(
                samples, step, *place, int(effort), plan.layer, mapper, threads
            )
            middle = time.perf_counter()
            decoder.decode(payload, *place)
            end = time.perf_counter()
            encoder.frame(plan.slot, ours)
            decoder.frame(plan.slot, theirs)
            if not np.array_equal(ours, theirs):
                raise ValueError(f"phase {phase}: the decoder's frame is not the encoder's")
            depth.widen(ours, restored)
            result.size += len(payload)
            result.voxels += frame.size
            result.squared_error += float(((restored.astype(np.float64) - frame) ** 2).sum())
            (result.encode_ms if phase else result.key_ms).append(1e3 * (middle - start))
            result.decode_ms.append(1e3 * (end - middle))
    return result


def show(
    file: Path,
    cine: NDArray[np.uint32],
    quantizer: int,
    effort: Effort,
    measurement: Measurement,
) -> None:
    """Print a line of the table."""
    encode, decode = (
        " ".join(f"{value:6.2f}" for value in np.percentile(times, [5, 50, 99]))
        for times in (measurement.encode_ms, measurement.decode_ms)
    )
    print(
        f"{file.name.split('.')[0][:24]:<24} {cine.shape[2]:>5}x{cine.shape[3]} "
        f"{effort.name.lower():<8} {quantizer:>3} {measurement.bits_per_voxel():7.4f} "
        f"{measurement.psnr(int(cine.max())):6.2f}   {encode}   "
        f"{np.median(measurement.key_ms):6.1f}   {decode}",
        flush=True,
    )


def rows(
    file: Path,
    cine: NDArray[np.uint32],
    quantizer: int,
    effort: Effort,
    measurement: Measurement,
    threads: int,
) -> Iterator[dict[str, Any]]:
    """Return the records of a measurement: key frames, other frames, decoding."""
    for direction, times in (
        ("encode", measurement.encode_ms),
        ("encode key frames", measurement.key_ms),
        ("decode", measurement.decode_ms),
    ):
        yield {
            "variant": f"{effort.name.lower()}, quantizer {quantizer}",
            "case": file.name,
            "direction": direction,
            "metric": "time per frame",
            "unit": "ms",
            "best": min(times),
            "p99": float(np.percentile(times, 99)),
            **percentiles(times),
            "warm_up": 0,
            "threads": threads,
            "shape": list(cine.shape),
            "dtype": str(cine.dtype),
            "bits_per_voxel": measurement.bits_per_voxel(),
            "psnr": measurement.psnr(int(cine.max())),
        }


if __name__ == "__main__":
    main()
