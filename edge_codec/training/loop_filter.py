"""The weights of the hybrid layer's loop filter, by least squares.

`python -m edge_codec.training.loop_filter --exams A.nii.gz B.nii.gz --out HEADER.h` codes slices of
the exams, collects what the filter saw of each frame (`Coder.unfiltered`) beside the frame that it
should have been, and solves for the weights of each class of activity: of frames without
references, and of all others. Frames are predicted from filtered ones, so the header that is there
when the module is built has a share in what is seen. Begin with one of zeros
(`--zeros`), and run this and build in turn; the third header is the one that is kept.

The pixels of a pair, minus the one in the middle, are added up as they are and clipped, both in
units of the quantizer's step; each frame has the same say, whatever its error. Weights are in
1/256.
The filter is in `edge_codec/base/hybrid/loop_filter.h`; Tsai et al., "Adaptive loop filtering for
video coding", IEEE Journal of Selected Topics in Signal Processing 7(6), 2013.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_codec.base.hybrid.native import native
from edge_codec.base.hybrid.quantizer import offsets, quantizer_at
from edge_codec.base.hybrid.structure import low_delay_plan
from edge_codec.errors import SourceError
from edge_codec.spec import Effort

PAIRS = (
    *((0, 1), (0, 2), (0, 3), (1, -2), (1, -1), (1, 0)),
    *((1, 1), (1, 2), (2, -1), (2, 0), (2, 1), (3, 0)),
)
"""Row and column of one pixel of each pair; the other one is opposite."""

CLASSES = 5
LEVELS = (46, 52, 58, 64, 70, 76)
"""Of quality: about 0.3 to 0.01 bits per voxel."""

SLICES = 5
PHASES = 12
LEAST_SHARE = 0.05
"""Of a frame that is not SKIP: frames with less say little."""

RIDGE = 1e-3
MOST_WEIGHT = 1023
"""Sum of the magnitudes of a class in 1/256: keeps the filter's sums within its integers."""

Sums = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True, slots=True, eq=False)
class SeenFrame:
    """What the filter saw of a frame, and what it should have made of it.

    Attributes
    ----------
    source, pixels : ndarray, shape (rows, columns), float32
        Pixels of 12 bits; rows and columns are multiples of 8.
    classes : ndarray, shape (rows, columns), uint8
        0 to 4, and 5 where nothing is filtered.
    step : float
        Of the quantizer, in pixel values.
    key : bool
    """

    source: NDArray[np.float32]
    pixels: NDArray[np.float32]
    classes: NDArray[np.uint8]
    step: float
    key: bool


def read_pixels(path: Path, slices: int = SLICES) -> NDArray[np.int16]:
    """Read slices of a NIfTI exam as pixels of 12 bits.

    Returns
    -------
    ndarray, shape (slices, phases, rows, columns), int16

    Raises
    ------
    SourceError
        If it is not a sequence of at most 12 bits.
    """
    import nibabel  # a file reader of the training extra, not needed to import this module

    voxels = np.asanyarray(nibabel.Nifti1Image.from_filename(path).dataobj)
    if voxels.ndim != 4:
        raise SourceError(f"{path} has {voxels.ndim} dimensions; expected x, y, slice and phase")
    voxels = np.rint(voxels).astype(np.int64).transpose(2, 3, 1, 0)
    voxels -= voxels.min()
    up = 12 - int(voxels.max()).bit_length()
    if up < 0:
        raise SourceError(f"{path} has {12 - up} bits; expected 12 at most")
    chosen = np.linspace(0, len(voxels) - 1, slices + 2).round().astype(int)[1:-1]
    return np.ascontiguousarray(voxels[chosen] << up, dtype=np.int16)


def seen_frames(frames: NDArray[np.int16], level: int) -> Iterator[SeenFrame]:
    """Code a slice, in low delay, and yield what the loop filter sees of each frame.

    Parameters
    ----------
    frames : ndarray, shape (phases, rows, columns), int16
        Pixels of 12 bits.
    level : int
        Quantizer of a frame whose layer has offset 0.
    """
    rows, columns = frames.shape[1:]
    coder = native.Coder(rows, columns)
    shape = (-rows % 8 + rows, -columns % 8 + columns)
    pixels, classes = np.empty(shape, np.int16), np.empty((shape[0] // 4, shape[1] // 4), np.uint8)
    for phase, samples in enumerate(frames):
        plan = low_delay_plan(phase)
        key = plan.layer == 0
        quantizer = quantizer_at(level, offsets(archive=False)[plan.layer])
        effort = int(Effort.DEFAULT)
        coder.encode(
            samples, quantizer, key, plan.references, plan.slot, effort, plan.layer, None, 1
        )
        coder.unfiltered(pixels, classes)
        padding = [(0, shape[0] - rows), (0, shape[1] - columns)]
        yield SeenFrame(
            np.pad(samples, padding, mode="edge").astype(np.float32),
            pixels.astype(np.float32),
            classes.repeat(4, axis=0).repeat(4, axis=1),
            2.0 ** ((quantizer - 24) / 6),
            key,
        )


def features(frame: SeenFrame, where: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the sums of each pair, and of the same clipped, in steps: (pixels, 24)."""
    rows, columns = frame.pixels.shape
    padded = np.pad(frame.pixels, 3, mode="edge")
    most = np.float32(5 / 16 * frame.step)

    def difference(row: int, column: int) -> NDArray[np.float32]:
        moved = padded[3 + row : 3 + row + rows, 3 + column : 3 + column + columns]
        return (moved - frame.pixels)[where]

    found = []
    for row, column in PAIRS:
        a, b = difference(row, column), difference(-row, -column)
        found += [a + b, np.clip(a, -most, most) + np.clip(b, -most, most)]
    return (np.stack(found, axis=-1) / frame.step).astype(np.float32)


def add_frame(frame: SeenFrame, sums: Sequence[Sums]) -> None:
    """Add a frame to the normal equations of each class."""
    filtered = frame.classes < CLASSES
    if filtered.mean() < LEAST_SHARE:
        return
    missing = ((frame.source - frame.pixels) / np.float32(frame.step))[filtered]
    weight = 1 / max(0.01, float(np.mean(missing**2)))
    found, classes = features(frame, filtered), frame.classes[filtered]
    for k, (products, targets) in enumerate(sums):
        x = found[classes == k]
        products += weight * (x.T @ x)
        targets += weight * (x.T @ missing[classes == k])


def solve(sums: Sequence[Sums]) -> NDArray[np.int64]:
    """Return weights in 1/256, (classes, pairs, 2); classes that saw little lean to 0."""
    size = 2 * len(PAIRS)
    ridge = RIDGE / len(sums) * sum((products for products, _ in sums), np.zeros((size, size)))
    ridge = ridge + 1e-6 * np.eye(size)
    found = [np.linalg.solve(products + ridge, targets) for products, targets in sums]
    weights: NDArray[np.int64] = np.rint(256 * np.stack(found)).astype(np.int64)
    weights = weights.reshape(len(sums), len(PAIRS), 2)
    total = np.abs(weights).sum(axis=(1, 2)).max()
    if total > MOST_WEIGHT:
        raise SourceError(f"weights add up to {total}, at most {MOST_WEIGHT} fit; use more exams")
    return weights


def train(exams: Sequence[NDArray[np.int16]]) -> NDArray[np.int64]:
    """Return the weights for exams of (slices, phases, rows, columns): (2, 5, 12, 2), key first."""
    size = 2 * len(PAIRS)
    sums = [[(np.zeros((size, size)), np.zeros(size)) for _ in range(CLASSES)] for _ in range(2)]
    for exam in exams:
        for frames in exam:
            for level in LEVELS:
                for frame in seen_frames(frames[:PHASES], level):
                    add_frame(frame, sums[not frame.key])
    return np.stack([solve(own) for own in sums])


def header(weights: NDArray[np.int64]) -> str:
    """Return the C header of the weights."""
    kinds = []
    for kind in weights.tolist():
        classes = []
        for pairs in kind:
            numbers = [f"{{{a}, {b}}}" for a, b in pairs]
            half = len(numbers) // 2
            lines = (", ".join(numbers[:half]), ", ".join(numbers[half:]))
            classes.append("{" + ",\n      ".join(lines) + "}")
        kinds.append("{" + ",\n     ".join(classes) + "}")
    return (
        "/* Weights of the loop filter, in 1/256: of key frames and others, by class, of each\n"
        " * pair of pixels: of their differences, and of these clipped. NORMATIVE.\n"
        " *\n"
        " * Made from exams of the Sunnybrook Cardiac Data (CC0), SCD0000101 and SCD0000201, by\n"
        " * edge_codec/training/loop_filter.py, which says how.\n"
        " */\n"
        "static const int16_t LOOP_WEIGHTS[2][ACTIVITY_CLASSES + 1][TAP_PAIRS][2] = {\n    "
        + ",\n    ".join(kinds)
        + "};\n"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, and write the header."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--exams", nargs="*", type=Path, default=[], help="NIfTI sequences")
    parser.add_argument("--zeros", action="store_true", help="begin: weights that change nothing")
    parser.add_argument("--out", type=Path, required=True, help="the header")
    options = parser.parse_args(arguments)
    weights = np.zeros((2, CLASSES, len(PAIRS), 2), np.int64)
    if not options.zeros:
        weights = train([read_pixels(path) for path in options.exams])
    options.out.write_text(header(weights))


if __name__ == "__main__":
    main()
