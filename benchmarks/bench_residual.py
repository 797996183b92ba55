"""Size and speed of the residual layer alone: bits per voxel and milliseconds per frame.

    python -m benchmarks.bench_residual --data DIR [--cases NAME ...] [--threads N]
        [--json FILE.jsonl]

`DIR` holds ACDC's layout: `<group>/<case>/<case>_4d.nii.gz`. No base layer, arrays in memory. Every
frame is decoded and compared with the encoder's decoded frame and with the bound. Bits are those of
the payloads: no packet heads, no checksums. On a machine that does other work as well, the fastest
runs tell more than the median: the table shows the 5th percentile and the median.
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
from edge_codec.engine import Mapper
from edge_codec.residual import ResidualDecoder, ResidualEncoder
from edge_codec.runtime.shared import share
from edge_codec.spec import Effort

TEST_CASES = ("SCD0000301", "bivme_patient1_sax", "patient015", "patient056", "patient095")
KEY_INTERVAL = 32


@dataclass(slots=True)
class Measurement:
    """What coding a cine took."""

    size: int = 0
    voxels: int = 0
    worst: int = 0
    encode_ms: list[float] = field(default_factory=list)
    decode_ms: list[float] = field(default_factory=list)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of unpacked cases")
    parser.add_argument("--cases", nargs="*", default=TEST_CASES, help="names of cases")
    parser.add_argument("--bounds", nargs="*", type=int, default=[0, 1, 2, 4], help="max_error")
    parser.add_argument(
        "--efforts", nargs="*", default=["fast", "default", "best"], help="of the coder"
    )
    parser.add_argument("--threads", type=int, default=1, help="threads for the bands of a frame")
    parser.add_argument("--slices", type=int, default=1, help="every n-th slice only")
    parser.add_argument("--json", type=Path, help="JSON lines to append to")
    options = parser.parse_args()
    machine = describe_machine()
    print(
        f"{machine['device']}, load {machine['load']}, {options.threads} threads; "
        "ms per frame: p5, p50"
    )
    print(
        f"{'case':<20} {'frame':>9} {'effort':<8}{'bound':>5} {'worst':>5} {'bpp':>7}   encode ms"
        "     decode ms"
    )
    mapper = share(options.threads)
    for case in options.cases:
        cine = load_cine(options.data, case)[:: options.slices]
        for name, bound in product(options.efforts, options.bounds):
            effort = Effort[name.upper()]
            measurement = measure(cine, bound, effort, mapper)
            show(case, cine, bound, effort, measurement)
            for row in rows(case, cine, bound, effort, measurement, options.threads):
                if options.json:
                    append_record(options.json, "bench_residual", row, machine)


def show(
    case: str, cine: NDArray[np.uint32], bound: int, effort: Effort, measurement: Measurement
) -> None:
    """Print a line of the table."""
    encode, decode = (
        " ".join(f"{value:6.2f}" for value in np.percentile(times, [5, 50]))
        for times in (measurement.encode_ms, measurement.decode_ms)
    )
    print(
        f"{case:<20} {cine.shape[2]:>5}x{cine.shape[3]} {effort.name.lower():<8}{bound:>5} "
        f"{measurement.worst:>5} {8 * measurement.size / measurement.voxels:7.4f} "
        f"{encode} {decode}",
        flush=True,
    )


def load_cine(data: Path, case: str) -> NDArray[np.uint32]:
    """Return samples from 0 on, shape (slices, phases, rows, columns).

    Raises
    ------
    FileNotFoundError
        If no group of `data` has the case.
    """
    found = sorted(data.glob(f"*/{case}/{case}_4d.nii.gz"))
    if not found:
        raise FileNotFoundError(f"no {case}_4d.nii.gz in any group of {data}")
    stored = (
        np.asanyarray(nibabel.Nifti1Image.from_filename(found[0]).dataobj)
        .transpose(2, 3, 1, 0)
        .astype(np.int64)
    )
    return np.ascontiguousarray(stored - stored.min(), np.uint32)


def measure(cine: NDArray[np.uint32], bound: int, effort: Effort, mapper: Mapper) -> Measurement:
    """Code and decode every frame.

    Raises
    ------
    ValueError
        If a decoded frame is not the encoder's, or a voxel is further off than the bound.
    """
    result, span = Measurement(), int(cine.max())
    rows, columns = cine.shape[2:]
    for phases in cine:
        encoder = ResidualEncoder(rows, columns, span, bound, False, mapper, effort)
        decoder = ResidualDecoder(rows, columns, span, bound, False, mapper, effort)
        for phase, frame in enumerate(phases):
            key = phase % KEY_INTERVAL == 0
            start = time.perf_counter()
            payload, expected = encoder.encode(frame, None, key)
            encoder.commit()
            middle = time.perf_counter()
            decoded = decoder.decode(payload, None, key)
            end = time.perf_counter()
            worst = int(np.abs(decoded.astype(np.int64) - frame.astype(np.int64)).max())
            if worst > bound or not np.array_equal(decoded, expected):
                raise ValueError(f"phase {phase}: error {worst} with a bound of {bound}")
            result.size += len(payload)
            result.voxels += frame.size
            result.worst = max(result.worst, worst)
            result.encode_ms.append(1e3 * (middle - start))
            result.decode_ms.append(1e3 * (end - middle))
    return result


def rows(
    case: str,
    cine: NDArray[np.uint32],
    bound: int,
    effort: Effort,
    measurement: Measurement,
    threads: int,
) -> Iterator[dict[str, Any]]:
    """Return the records of a measurement: one for each direction."""
    for direction, times in (("encode", measurement.encode_ms), ("decode", measurement.decode_ms)):
        yield {
            "variant": f"{effort.name.lower()}, max_error {bound}",
            "case": case,
            "direction": direction,
            "metric": "time per frame",
            "unit": "ms",
            "best": min(times),
            **percentiles(times),
            "warm_up": 0,
            "threads": threads,
            "shape": list(cine.shape),
            "dtype": str(cine.dtype),
            "max_error": measurement.worst,
            "bits_per_voxel": 8 * measurement.size / measurement.voxels,
        }


if __name__ == "__main__":
    main()
