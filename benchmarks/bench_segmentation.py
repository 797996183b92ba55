"""The segmentation network on the test split: Dice against the experts, and time on the CPU.

    python -m benchmarks.bench_segmentation --data DIR --splits FILE.json --float F.onnx
        [--threads N] [--json FILE.jsonl]

Dice is that of one phase's slices as one object, mean over the volumes of a data set; crops and
full fields of view are never mixed. `as is`: the network's labels; `frame`: cleaned up frame by
frame; `exam`: over slices and, where the file has them, phases. `F.onnx` is the float network, as
`edge_codec.export.segmentation --float` wrote it.

Times are of one frame at a time, the variants taking turns; `frame()` is everything from samples to
labels and probabilities. `processor_time_p50` is what all threads together used, which a busy
machine disturbs less than the time that passed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.record import append_record, describe_machine, percentiles
from edge_codec.cine import Cine
from edge_codec.engine import Engine
from edge_codec.io import open_source
from edge_codec.manifest import load_manifest
from edge_codec.metrics.overlap import dice
from edge_codec.runtime.openvino_backend import OpenVinoEngine
from edge_codec.runtime.ort_backend import OrtEngine
from edge_codec.runtime.phantom import heart
from edge_codec.runtime.segmenter import MODEL, NETWORK, Segmenter, clean, exam_window
from edge_codec.training.segmentation_data import LabeledVolume, read_cases, read_labeled
from edge_codec.window import pad

SIZES = ((256, 256), (95, 100))
RUNS = 60
WARM_UP = 10
CLASSES = ("rv", "myocardium", "lv")


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder in ACDC's layout")
    parser.add_argument("--splits", type=Path, required=True, help="JSON of train and test cases")
    parser.add_argument("--float", type=Path, required=True, help="the float network")
    parser.add_argument("--threads", type=int, default=2, help="threads for a frame")
    parser.add_argument("--json", type=Path, help="JSON lines to append to")
    parser.add_argument("--only", choices=("dice", "time"), help="one of the two")
    options = parser.parse_args()
    machine = describe_machine()
    networks = {
        "int8": load_manifest(MODEL).read(NETWORK),
        "float32": options.float.read_bytes(),
    }
    rows: list[dict[str, Any]] = []
    if options.only != "time":
        volumes = read_labeled(options.data, read_cases(options.splits, "test"))
        for name, network in networks.items():
            rows += measure_dice(name, Segmenter(OrtEngine(network, options.threads)), volumes,
                                 options.data)  # fmt: skip
    if options.only != "dice":
        for size in SIZES:
            rows += measure_time(networks, size, options.threads)
    for row in rows:
        print(", ".join(f"{key} {_text(value)}" for key, value in row.items()))
        if options.json is not None:
            append_record(options.json, "segmentation", row, machine)


def measure_dice(
    network: str, segmenter: Segmenter, volumes: list[LabeledVolume], data: Path
) -> list[dict[str, Any]]:
    """Return the mean Dice by data set and clean-up."""
    scores: dict[tuple[str, str], list[list[float]]] = {}
    exams: dict[str, NDArray[np.uint8]] = {}
    for volume in volumes:
        raw = np.stack([_raw(segmenter, codes) for codes in volume.codes])
        found = {"as is": raw, "frame": np.stack([clean(labels) for labels in raw])}
        if volume.group == "acdc":
            if volume.case not in exams:
                path = data / "acdc" / volume.case / f"{volume.case}_4d.nii.gz"
                exams[volume.case] = segmenter.exam(Cine.from_source(open_source(path)).voxels)
            found["exam"] = exams[volume.case][:, int(volume.name.split("_frame")[1]) - 1]
        else:
            found["exam"] = clean(raw)
        for name, labels in found.items():
            each = [dice(labels == label, volume.labels == label) for label in (1, 2, 3)]
            plain = [1.0 if one is None else one for one in each]
            scores.setdefault((volume.group, name), []).append(plain)
    return [
        {
            "metric": "dice",
            "network": network,
            "data_set": group,
            "clean_up": name,
            "volumes": len(values),
            **dict(zip(CLASSES, np.mean(values, axis=0).round(4).tolist(), strict=True)),
            "mean": round(float(np.mean(values)), 4),
            "worst_volume": round(float(np.mean(values, axis=1).min()), 4),
        }
        for (group, name), values in scores.items()
    ]


def _raw(segmenter: Segmenter, codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the labels of window codes as the network says."""
    # Codes are samples of a window from 0 to 192.
    probabilities = segmenter.frame(codes, (0, 192)).probabilities
    labels: NDArray[np.uint8] = probabilities.argmax(axis=0).astype(np.uint8)
    return labels


def measure_time(
    networks: dict[str, bytes], size: tuple[int, int], threads: int
) -> list[dict[str, Any]]:
    """Return the times of the networks on each backend, and of `frame()`, taking turns."""
    samples = heart(1, *size, np.dtype(np.int16))[0]
    window = exam_window(samples)
    tensor = pad(np.clip(samples // 5, 0, 255).astype(np.uint8), 16)[None, None]
    engines: dict[str, Engine] = {}
    for name, network in networks.items():
        engines[f"{name}, onnxruntime"] = OrtEngine(network, threads)
        engines[f"{name}, openvino"] = OpenVinoEngine(network, threads)
    calls: dict[str, Callable[[], object]] = {
        name: lambda engine=engine: engine.run(tensor)  # type: ignore[misc]
        for name, engine in engines.items()
    }
    segmenter = Segmenter(engines["int8, onnxruntime"])
    calls["frame(), int8, onnxruntime"] = lambda: segmenter.frame(samples, window)
    times: dict[str, list[float]] = {name: [] for name in calls}
    used: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(WARM_UP + RUNS):
        for name, call in calls.items():
            start, start_cpu = time.perf_counter(), time.process_time()
            call()
            if number >= WARM_UP:
                used[name].append(1e3 * (time.process_time() - start_cpu))
                times[name].append(1e3 * (time.perf_counter() - start))
    shape = "x".join(map(str, size))
    return [
        {"metric": "time", "variant": name, "frame": shape, "threads": threads, "unit": "ms"}
        | percentiles(found)
        | {"processor_time_p50": float(np.median(used[name]))}
        for name, found in times.items()
    ]


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
