"""`titok` beside x265 at as many bytes a frame, in one run: PSNR, SSIM, Dice of the segmenter.

    python -m benchmarks.titok_peer EXAM... [--scale] [--json FILE.jsonl]

EXAM is a cine that `edge-codec` reads. With `--scale` its frames are resized first, so that the
longer side has 128 pixels, as the reach of issue and README names them. Bytes are those of whole
files or streams, headers and packets too. x265 is coded at the two rate factors around our bytes,
and its figures are interpolated between them, over the logarithm of the bytes. Where all its rate
factors take more bytes than we do, or all fewer, nothing is extrapolated: the nearest one stands
with its own bytes, `equal_bytes` of its record is false, and the print says so. PSNR: peak is the
maximum of the exam, over all voxels, and in the region of the heart (expert labels where a file
beside the exam has them, else what moves); SSIM: mean of the frames; Dice: the segmentation network
on decoded against the same network on original frames, mean of the three structures over whole
slices and phases.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.record import append_record, describe_machine
from edge_codec.base.titok.canvas import canvas_of
from edge_codec.bench.rd.case import Case, load_case
from edge_codec.bench.rd.codecs import choose
from edge_codec.bench.rd.peers_video import X265_LOW_DELAY, X265_RANDOM_ACCESS, x265_trials
from edge_codec.bench.rd.trial import Coded, Trial
from edge_codec.metrics.image import psnr, ssim
from edge_codec.metrics.overlap import dice
from edge_codec.runtime.segmenter import Segmenter, load_segmenter

PEERS = {"x265-low-delay": X265_LOW_DELAY, "x265-random-access": X265_RANDOM_ACCESS}
FACTORS = range(18, 52)
"""Rate factors of x265, up to its coarsest, beyond those that `edge-codec bench rd` offers."""

STRUCTURES = {"rv": 1, "myo": 2, "lv": 3}


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("exams", type=Path, nargs="+", help="cines")
    parser.add_argument("--scale", action="store_true", help="longer side to 128 pixels first")
    parser.add_argument("--json", type=Path, help="JSON lines to append to")
    options = parser.parse_args()
    machine, segmenter = describe_machine(), load_segmenter()
    rows: dict[str, list[dict[str, Any]]] = {}
    for path in tqdm(options.exams, unit="exam"):
        case = read(path, options.scale)
        judge = Judge(case, segmenter)
        for row in figures(case, judge):
            row["frames"] = "longer side 128" if options.scale else "native"
            rows.setdefault(row["codec"], []).append(row)
            if options.json is not None:
                append_record(options.json, "titok_peer", {**case.describe(), **row}, machine)
    for codec, found in rows.items():
        print(summary(codec, found))


def summary(codec: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a line of means over exams, and in how many of them the bytes are not ours."""
    means = ", ".join(
        f"{name} {float(np.mean([row[name] for row in rows])):.3f}"
        for name, value in rows[0].items()
        if isinstance(value, float)
    )
    unequal = sum(not row.get("equal_bytes", True) for row in rows)
    note = f" (not at our bytes in {unequal} of {len(rows)})" if unequal else ""
    return f"{codec}{note} {means}"


def read(path: Path, scale: bool) -> Case:
    """Read an exam; scaled ones go through a file, whose frames are cubic convolutions."""
    case = load_case(path)
    if not scale:
        return case
    canvas = canvas_of(*case.voxels.shape[2:])
    rows, columns = (np.flatnonzero(canvas.inside.any(axis=axis)) for axis in (1, 0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]

    def fit(frame: NDArray[Any]) -> NDArray[np.float32]:
        return canvas.fit(frame.astype(np.float32))[box]

    low, high = int(case.voxels.min()), int(case.voxels.max())
    scaled = np.stack([[fit(frame) for frame in cine] for cine in case.voxels])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{case.name}.npy"
        np.save(file, np.clip(np.rint(scaled), low, high).astype(np.int16))
        found = load_case(file)
    region = np.stack([fit(mask) > 0.5 for mask in case.heart.region])
    return replace(found, heart=replace(case.heart, region=region))


class Judge:
    """Compares decoded voxels with those of a case.

    Parameters
    ----------
    case : Case
    segmenter : Segmenter
    """

    def __init__(self, case: Case, segmenter: Segmenter) -> None:
        self._case, self._segmenter = case, segmenter
        self._labels = segmenter.exam(case.voxels)

    def __call__(self, coded: Coded) -> dict[str, float]:
        """Return figures."""
        case, voxels = self._case, coded.voxels
        error = np.square(voxels.astype(np.float64) - case.voxels)
        heart = np.broadcast_to(case.heart.region[:, None], error.shape)
        similar = [
            ssim(one, other, case.peak)
            for slices in zip(case.voxels, voxels, strict=True)
            for one, other in zip(*slices, strict=True)
        ]
        labels = self._segmenter.exam(voxels)
        overlaps = {
            f"dice_{name}": dice(self._labels == label, labels == label)
            for name, label in STRUCTURES.items()
        }
        return {
            "bytes_a_frame": coded.stream_bytes / math.prod(case.voxels.shape[:2]),
            "psnr_db": psnr(float(error.mean()), case.peak),
            "heart_psnr_db": psnr(float(error[heart].mean()), case.peak),
            "ssim": float(np.mean(similar)),
            **{name: math.nan if value is None else value for name, value in overlaps.items()},
        }


def figures(case: Case, judge: Callable[[Coded], dict[str, float]]) -> Iterator[dict[str, Any]]:
    """Yield our figures, and those of the peers at our bytes."""
    ours = choose(["edge-codec-titok"])[0].trials(1)[0]
    mine = judge(ours.code(case))
    yield {"codec": "titok", **mine}
    for name, form in PEERS.items():
        ladder = x265_trials(form, None, FACTORS, 1)
        yield {"codec": name, **at_bytes(case, ladder, judge, mine["bytes_a_frame"])}


def at_bytes(
    case: Case,
    ladder: Sequence[Trial],
    judge: Callable[[Coded], dict[str, float]],
    bytes_a_frame: float,
) -> dict[str, Any]:
    """Return figures between those of the two settings whose sizes enclose another.

    Where no two do, they are those of the nearest setting, and `equal_bytes` is false.
    """
    found: dict[int, tuple[Coded, float]] = {}

    def size(place: int) -> float:
        if place not in found:
            coded = ladder[place].code(case)
            found[place] = coded, coded.stream_bytes / math.prod(case.voxels.shape[:2])
        return found[place][1]

    low, high = 0, len(ladder) - 1
    if size(high) > bytes_a_frame:  # at its coarsest
        return {**judge(found[high][0]), "equal_bytes": False}
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size(middle) >= bytes_a_frame else (low, middle)
    if size(low) < bytes_a_frame:  # at its finest
        return {**judge(found[low][0]), "equal_bytes": False}
    one, other = judge(found[low][0]), judge(found[high][0])
    span = math.log(one["bytes_a_frame"] / other["bytes_a_frame"])
    share = math.log(one["bytes_a_frame"] / bytes_a_frame) / span if span else 0.0
    between = {name: (1 - share) * one[name] + share * other[name] for name in one}
    return {**between, "equal_bytes": True}


if __name__ == "__main__":
    main()
