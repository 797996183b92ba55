"""What a region of interest brings the heart, and what it costs the rest, at equal bits.

    python -m benchmarks.bench_roi FILE.nii.gz ... [--slices N ...] [--qualities Q ...]
        [--gains N ...] [--bounds N M] [--archive] [--effort NAME] [--out FILE.jsonl]

Slices of the cines are compressed by dwt-cal at several qualities, without a region and with `--roi
heart`. Decibels are those of the heart's pixels, of the rest and of all; the heart is what the
segmentation network labels in each frame, without the margin and the squares of the region. The
curves are compared at the rate of the middle quality without a region. Then the same slices are
compressed to a bound N, to N with M in the region, to M, and without loss.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import edge_codec
from benchmarks.record import append_record, describe_machine
from edge_codec.io import open_source
from edge_codec.metrics.image import psnr
from edge_codec.metrics.motion import dilated
from edge_codec.region import Region
from edge_codec.runtime.region_of_interest import HEART_MARGIN
from edge_codec.runtime.segmenter import load_segmenter

OUT = Path(__file__).parent / "results" / "roi.jsonl"
AREAS = ("heart", "rest", "all")

Point = dict[str, float]


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--slices", nargs="+", type=int, help="the middle one without it")
    parser.add_argument("--qualities", nargs="+", type=int, default=(16, 22, 28, 34))
    parser.add_argument("--gains", nargs="+", type=int, default=(3, 6, 9, 12))
    parser.add_argument("--bounds", nargs=2, type=int, default=(4, 0))
    parser.add_argument("--archive", action="store_true")
    parser.add_argument("--effort", default="default")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    command = " ".join(["python -m benchmarks.bench_roi", *map(_short, sys.argv[1:])])
    machine = {**describe_machine(), "command": command}
    for path in options.files:
        cine, labels = _load(path, options.slices)
        for row in [*_lossy(cine, labels, options), _bounded(cine, labels, options)]:
            row = {"exam": path.name.partition(".")[0], "slices": len(cine.voxels), **row}
            append_record(options.out, "bench_roi", row, machine)
            print(row, flush=True)


def _short(argument: str) -> str:
    """Leave the folders of this machine out of a command."""
    return Path(argument).name


def _load(path: Path, slices: list[int] | None) -> tuple[edge_codec.Cine, NDArray[np.uint8]]:
    """Return some slices of an exam, and the labels of the segmentation network."""
    voxels = edge_codec.Cine.from_source(open_source(path)).voxels
    middle = len(voxels) // 2
    chosen = np.ascontiguousarray(voxels[slices or [middle]])
    return edge_codec.Cine.from_array(chosen), load_segmenter().exam(chosen)


def _lossy(
    cine: edge_codec.Cine, labels: NDArray[np.uint8], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Return the curves of each gain, and what each brings at the middle rate of the first."""
    mask = dilated((labels > 0).any(axis=1), HEART_MARGIN)
    rows: list[dict[str, Any]] = []
    for gain in (0, *options.gains):
        points = []
        for quality in options.qualities:
            more = {"roi": mask, "roi_gain": gain} if gain else {}
            data = edge_codec.compress(
                cine, model="dwt-cal", max_error=None, quality=quality,
                archive=options.archive, effort=options.effort, **more,
            )  # fmt: skip
            points.append({"quality": quality, **_measured(cine, labels, data)})
        row = {"gain": gain, "archive": options.archive, "points": points}
        if rows:
            row["db_at_equal_bits"] = _gained(rows[0]["points"], points)
        rows.append(row)
    return rows


def _measured(cine: edge_codec.Cine, labels: NDArray[np.uint8], data: bytes) -> Point:
    """Return the size of a stream and the decibels of each area."""
    squares = (edge_codec.decompress(data).voxels.astype(np.float64) - cine.voxels) ** 2
    heart, peak = labels > 0, int(cine.voxels.max())
    means = (squares[heart].mean(), squares[~heart].mean(), squares.mean())
    decibels = {name: psnr(float(mean), peak) for name, mean in zip(AREAS, means, strict=True)}
    return {"bytes": len(data), "bits_per_voxel": 8 * len(data) / squares.size, **decibels}


def _gained(without: list[Point], found: list[Point]) -> Point:
    """Return decibels above those without a region, at its middle rate."""
    rate = math.log(without[len(without) // 2]["bytes"])
    rates = [[math.log(point["bytes"]) for point in curve] for curve in (without, found)]
    gained = {}
    for area in AREAS:
        first, second = (
            float(np.interp(rate, at, [point[area] for point in curve], np.nan, np.nan))
            for at, curve in zip(rates, (without, found), strict=True)
        )
        gained[area] = second - first
    return gained


def _bounded(
    cine: edge_codec.Cine, labels: NDArray[np.uint8], options: argparse.Namespace
) -> dict[str, Any]:
    """Return the bytes of streams with a bound N everywhere, M in the region, M everywhere."""
    outer, inner = options.bounds
    mask = dilated((labels > 0).any(axis=1), HEART_MARGIN)
    data = edge_codec.compress(
        cine, max_error=outer, effort=options.effort, roi=mask, roi_max_error=inner
    )
    error = np.abs(edge_codec.decompress(data).voxels.astype(np.int64) - cine.voxels)
    heart = labels > 0
    return {
        "max_error": outer,
        "roi_max_error": inner,
        "region_percent": 100 * float(_squares(mask).mean()),
        "heart_percent": 100 * float(heart.mean()),
        "bytes": len(data),
        "bytes_all_outer": len(edge_codec.compress(cine, max_error=outer, effort=options.effort)),
        "bytes_all_inner": len(edge_codec.compress(cine, max_error=inner, effort=options.effort)),
        "largest_error_heart": int(error[heart].max()),
        "largest_error_rest": int(error[~heart].max()),
    }


def _squares(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the voxels of all squares of the region."""
    return Region.of_mask(mask, 1).mask(*mask.shape)


if __name__ == "__main__":
    main()
