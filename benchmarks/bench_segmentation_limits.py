"""Limits of the checks of a segmentation, and what other arithmetic changes: training patients.

    python -m benchmarks.bench_segmentation_limits --data DIR --splits FILE.json --float F.onnx
        [--json FILE.jsonl]

- `ring`: the smallest part of the LV's outline that borders on myocardium, over all frames of the
  training patients in which experts labeled an LV.
- `jump`: the largest jump of a cavity's volume (`segmentation_checks.jumps`), over the whole cines
  of `EXAMS` training patients as the network segments them.
- `differences`: pixels that get another label from another backend or from float weights, over the
  labeled frames of the held-out patients, as a share of all pixels, and of those that the shipped
  network calls heart.

No test patient is read. `F.onnx` is what `edge_codec.export.segmentation --float` writes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.record import append_record, describe_machine
from edge_codec.cine import Cine
from edge_codec.engine import Engine
from edge_codec.io import open_source
from edge_codec.manifest import load_manifest
from edge_codec.runtime.openvino_backend import OpenVinoEngine
from edge_codec.runtime.ort_backend import OrtEngine
from edge_codec.runtime.segmentation_checks import jumps, surrounded
from edge_codec.runtime.segmenter import LV, MODEL, NETWORK, RV, Segmenter
from edge_codec.training.segmentation_data import LabeledVolume, read_cases, read_labeled
from edge_codec.window import pad

EXAMS = 8


def ring_row(volumes: Sequence[LabeledVolume]) -> dict[str, Any]:
    """Return how closed the rings are that experts drew."""
    shares = [
        surrounded(labels) for volume in volumes for labels in volume.labels if (labels == LV).any()
    ]
    return {"metric": "ring", "frames": len(shares), "least": min(shares)}


def jump_row(data: Path, cases: Sequence[str], segmenter: Segmenter) -> dict[str, Any]:
    """Return how far volumes jump from phase to phase in exams that nothing is wrong with."""
    largest = {}
    for case in cases:
        path = data / "acdc" / case / f"{case}_4d.nii.gz"
        labels = segmenter.exam(Cine.from_source(open_source(path)).voxels)
        curves = [(labels == label).sum(axis=(0, 2, 3)) for label in (RV, LV)]
        largest[case] = max(float(jumps(curve).max()) for curve in curves)
    return {"metric": "jump", "exams": len(largest), "most": max(largest.values()),
            "by_exam": {case: round(value, 4) for case, value in largest.items()}}  # fmt: skip


def difference_rows(
    shipped: Engine, others: dict[str, Engine], volumes: Sequence[LabeledVolume]
) -> Iterator[dict[str, Any]]:
    """Yield how many pixels get another label than from the shipped network."""
    frames = [codes for volume in volumes for codes in volume.codes]
    expected = [_labels(shipped, codes) for codes in frames]
    pixels = sum(labels.size for labels in expected)
    heart = sum(int(np.count_nonzero(labels)) for labels in expected)
    for name, engine in others.items():
        pairs = zip(frames, expected, strict=True)
        other = sum(int((_labels(engine, codes) != labels).sum()) for codes, labels in pairs)
        yield {
            "metric": "differences", "variant": name, "frames": len(frames),
            "of_pixels": other / pixels, "of_heart": other / heart,
        }  # fmt: skip


def _labels(engine: Engine, codes: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the labels of a frame of window codes, not cleaned up."""
    rows, columns = codes.shape
    logits: NDArray[np.float32] = engine.run(pad(codes, 16)[None, None])
    return logits[0, :, :rows, :columns].argmax(axis=0)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder in ACDC's layout")
    parser.add_argument("--splits", type=Path, required=True, help="JSON with the list 'train'")
    parser.add_argument("--float", type=Path, required=True, help="the float network")
    parser.add_argument("--threads", type=int, default=1, help="threads for a frame")
    parser.add_argument("--json", type=Path, help="JSON lines to append to")
    options = parser.parse_args()
    manifest = load_manifest(MODEL)
    facts = json.loads((manifest.folder / "manifest.json").read_text(encoding="utf-8"))
    held_out: list[str] = facts["training"]["held_out"]
    volumes = read_labeled(options.data, read_cases(options.splits, "train"))
    shipped = OrtEngine(manifest.read(NETWORK), options.threads)
    # Patients that the network was not trained on first, then others, in order.
    cases = sorted({volume.case for volume in volumes if volume.group == "acdc"})
    chosen = [*held_out, *(case for case in cases if case not in held_out)][:EXAMS]
    others: dict[str, Engine] = {
        "int8, openvino": OpenVinoEngine(manifest.read(NETWORK), options.threads),
        "float32, onnxruntime": OrtEngine(options.float.read_bytes(), options.threads),
    }
    watched = [volume for volume in volumes if volume.case in held_out]
    rows = [
        ring_row(volumes),
        jump_row(options.data, chosen, Segmenter(shipped)),
        *difference_rows(shipped, others, watched),
    ]
    for row in rows:
        print(row)
        if options.json is not None:
            append_record(options.json, "segmentation", row, describe_machine())


if __name__ == "__main__":
    main()
