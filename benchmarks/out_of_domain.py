"""What the models do with images that they were not made for, next to JPEG 2000 at equal bits.

    python -m benchmarks.out_of_domain [--cases NAME ...] [--json FILE.jsonl]

Each model codes each case (`benchmarks.out_of_domain_data`) alone, at three qualities where it has
any, and below a lossless residual layer (`dwt-cal` with and without its fall-back). Bits are those
of the whole stream, header and index included, over the voxels. PSNR: peak = maximum of the volume,
over all its voxels; SSIM: per frame, range = maximum, averaged. JPEG 2000 codes frame by frame with
the 9/7 wavelet, by the PSNR that takes no more bits than the model's stream; only its codestreams
count.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.out_of_domain_data import CASES, OtherCase
from benchmarks.record import append_record, describe_machine
from edge_codec.cine import Cine
from edge_codec.metrics.image import psnr, squared_error, ssim
from edge_codec.runtime.arrays import compress, decompress
from edge_codec.runtime.options import USUAL_BASE_COST_PERCENT

QUALITIES = (16, 32, 48)
USUAL = 32
LOSSLESS = (  # model, quality, and what its base layer may cost in percent
    ("none", None, None),
    ("vqvae", None, None),
    ("dwt-cal", USUAL, None),
    ("dwt-cal", USUAL, USUAL_BASE_COST_PERCENT),
    ("video", USUAL, None),
)
LEVELS_DB = (1.0, 110.0)  # of JPEG 2000: from next to nothing to next to lossless
TRIALS = 12
PACKAGES = ("imagecodecs", "av", "nibabel", "pydicom", "matplotlib", "pillow")


@dataclass(frozen=True, slots=True)
class Fidelity:
    """How a decoded volume compares with its original.

    Attributes
    ----------
    bits_per_voxel : float
        Of what was decoded.
    psnr_db : float or None
        None: nothing is wrong.
    ssim : float
    """

    bits_per_voxel: float
    psnr_db: float | None
    ssim: float


def fidelity(original: NDArray[np.uint16], decoded: NDArray[Any], stream_bytes: int) -> Fidelity:
    """Compare volumes of shape (slices, phases, rows, columns)."""
    peak = float(original.max())
    decibels = psnr(squared_error(original, decoded) / original.size, peak)
    frames = zip(original.reshape(-1, *original.shape[2:]),
                 decoded.reshape(-1, *original.shape[2:]), strict=True)  # fmt: skip
    similarity = float(np.mean([ssim(before, after, peak) for before, after in frames]))
    finite = decibels if math.isfinite(decibels) else None
    return Fidelity(8 * stream_bytes / original.size, finite, similarity)


def of_model(voxels: NDArray[np.uint16], model: str, quality: int | None) -> Fidelity:
    """Code a volume by a base layer alone."""
    stream = compress(Cine.from_array(voxels), model=model, max_error=None, quality=quality)
    return fidelity(voxels, decompress(stream).voxels, len(stream))


def of_jpeg_2000(voxels: NDArray[np.uint16], bits_per_voxel: float) -> Fidelity | None:
    """Code a volume by JPEG 2000 in at most so many bits; None where that is too few."""
    import imagecodecs

    bits = max(1, int(voxels.max()).bit_length())
    flat = voxels.reshape(-1, *voxels.shape[2:])
    low, high = LEVELS_DB
    best: list[bytes] | None = None
    for _ in range(TRIALS):
        level = (low + high) / 2
        coded = [
            imagecodecs.jpeg2k_encode(
                frame, level=level, reversible=False, codecformat="J2K", bitspersample=bits
            )
            for frame in flat
        ]
        if 8 * sum(map(len, coded)) <= bits_per_voxel * voxels.size:
            best, low = coded, level
        else:
            high = level
    if best is None:
        return None
    decoded = np.stack([imagecodecs.jpeg2k_decode(data) for data in best]).reshape(voxels.shape)
    return fidelity(voxels, decoded, sum(map(len, best)))


def lossless_bits(
    voxels: NDArray[np.uint16], model: str, quality: int | None, cost: float | None
) -> float:
    """Return the bits per voxel of a lossless stream over a base layer of a price in percent.

    Raises
    ------
    ValueError
        If a voxel does not come back.
    """
    stream = compress(
        Cine.from_array(voxels), model=model, max_error=0, quality=quality, base_cost_percent=cost
    )
    if not np.array_equal(decompress(stream).voxels, voxels):
        raise ValueError(f"model {model} did not keep its promise")
    return 8 * len(stream) / voxels.size


def rows(case: OtherCase) -> Iterator[dict[str, Any]]:
    """Yield the records of a case: models alone, then below a lossless residual layer."""
    voxels = case.voxels()
    facts = {
        "case": case.name, "what": case.what, "source": case.source, "license": case.license,
        "shape": list(voxels.shape), "peak": int(voxels.max()),
    }  # fmt: skip
    rated = [(model, quality) for model in ("dwt-cal", "video") for quality in QUALITIES]
    for model, quality in [("vqvae", None), *rated]:
        found = of_model(voxels, model, quality)
        peer = of_jpeg_2000(voxels, found.bits_per_voxel)
        yield {
            **facts, "kind": "base layer alone", "model": model, "quality": quality,
            **asdict(found), "ratio_to_16_bit": 16 / found.bits_per_voxel,
            "jpeg_2000": None if peer is None else asdict(peer),
        }  # fmt: skip
    for model, quality, cost in LOSSLESS:
        yield {
            **facts, "kind": "lossless", "model": model, "quality": quality, "base_cost": cost,
            "bits_per_voxel": lossless_bits(voxels, model, quality, cost),
        }  # fmt: skip


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [case.name for case in CASES]
    parser.add_argument("--cases", nargs="*", default=names, choices=names)
    parser.add_argument("--json", type=Path, help="JSON lines to append to")
    options = parser.parse_args()
    machine = describe_machine(PACKAGES)
    for case in CASES:
        if case.name not in options.cases:
            continue
        for row in rows(case):
            quality = "" if row["quality"] is None else row["quality"]
            print(f"{case.name:<12} {row['kind']:<17} {row['model']:<8}{quality:>3} "
                  f"{row['bits_per_voxel']:9.4f} {row.get('psnr_db') or math.inf:7.2f}",
                  flush=True)  # fmt: skip
            if options.json:
                append_record(options.json, "out_of_domain", row, machine)


if __name__ == "__main__":
    main()
