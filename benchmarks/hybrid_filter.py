"""What the filter of key frames over time brings: Bjontegaard's differences against none.

    python -m benchmarks.hybrid_filter [FILE.nii.gz ...] [--slices N ...] [--look-ahead N ...]
        [--key-offset N] [--qualities Q ...] [--effort NAME]

Slices of the cines are compressed at several qualities in either structure, without the filter and
with it, and compared by the bits of whole streams at equal PSNR: of all voxels and of the region of
the heart.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import edge_codec
from edge_codec.base.hybrid import coder
from edge_codec.base.hybrid.quantizer import FILTERED_OFFSET
from edge_codec.bench.rd.difference import Curve
from edge_codec.io import open_source
from edge_codec.metrics.image import psnr
from edge_codec.metrics.motion import heart_region
from edge_codec.metrics.rate import bjontegaard

EXAMPLE = Path(__file__).parents[1] / "examples" / "sunnybrook_scd0000301_slice.nii.gz"
QUALITIES = (18, 24, 30, 36)


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, default=[EXAMPLE])
    parser.add_argument("--slices", nargs="+", type=int, default=[0])
    parser.add_argument("--look-ahead", nargs="+", type=int, default=[6, 16])
    parser.add_argument("--key-offset", type=int, default=FILTERED_OFFSET)
    parser.add_argument("--qualities", nargs="+", type=int, default=QUALITIES)
    parser.add_argument("--effort", default="default")
    options = parser.parse_args()
    vars(coder)["FILTERED_OFFSET"] = options.key_offset
    for path in options.files:
        voxels = _voxels(path)
        heart = heart_region(voxels)[options.slices]
        cine = edge_codec.Cine.from_array(voxels[options.slices])
        for archive in (False, True):
            none, *others = (
                [
                    _points(cine, heart, quality, archive, look_ahead, options.effort)
                    for quality in options.qualities
                ]
                for look_ahead in (0, *options.look_ahead)
            )
            for look_ahead, found in zip(options.look_ahead, others, strict=True):
                cells = (_difference(none, found, which) for which in (0, 1))
                structure = "archive" if archive else "low delay"
                print(f"{path.name}, {structure}, {look_ahead} phases:", *cells, flush=True)


def _voxels(path: Path) -> np.ndarray:
    """Return a whole exam, (slices, phases, rows, columns)."""
    source = open_source(path)
    info = source.info
    voxels = np.zeros((info.n_slices, info.n_phases, *info.frame_shape), info.dtype)
    for frame in source.frames():
        voxels[frame.slice_index, frame.phase_index] = frame.samples
    return voxels


def _points(
    cine: edge_codec.Cine,
    heart: np.ndarray,
    quality: int,
    archive: bool,
    look_ahead: int,
    effort: str,
) -> Curve:
    """Return (bits per voxel, decibels) of all voxels and of the heart's."""
    data = edge_codec.compress(
        cine, model="dwt-cal", max_error=None, quality=quality, archive=archive,
        look_ahead=look_ahead, effort=effort,
    )  # fmt: skip
    squares = (edge_codec.decompress(data).voxels.astype(np.float64) - cine.voxels) ** 2
    peak, rate = int(cine.voxels.max()), 8 * len(data) / cine.voxels.size
    of_heart = squares.mean(axis=1)[heart]
    return [(rate, psnr(float(mean), peak)) for mean in (squares.mean(), of_heart.mean())]


def _difference(none: list[Curve], found: list[Curve], which: int) -> str:
    """Return the bits at equal quality against no filter, of one of the two regions."""
    first, second = ([points[which] for points in curve] for curve in (none, found))
    percent = bjontegaard(first, second).rate_percent
    name = ("all voxels", "heart")[which]
    return f"{name} -" if percent is None else f"{name} {percent:+.1f} %"


if __name__ == "__main__":
    main()
