"""Make the shipped files of the segmentation network.

    python -m edge_codec.export.segmentation --checkpoint averaged.pt --data D --splits S
        --config C --out DIR [--float F.onnx]

writes `segmentation.onnx`, `manifest.json` and `MODEL_CARD.md`. Activations are observed on some
training frames; on the held-out cases the integer network must be as good as the float one, or
nothing is written. `--float` keeps the float network as well, for comparison.
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import Dim

from edge_codec.calibration.observers import RULES
from edge_codec.errors import CalibrationError, EdgeCodecError
from edge_codec.export.float_zoo import Network
from edge_codec.export.graph import export_network
from edge_codec.export.segmentation_card import manifest_fields, model_card, write_manifest
from edge_codec.export.segmentation_integer import IntegerSegmentation, exponents_of, observe
from edge_codec.nn.segmentation import STRIDE, SegmentationNetwork, frame_of_codes
from edge_codec.runtime.ort_backend import OrtEngine
from edge_codec.runtime.segmenter import NETWORK
from edge_codec.training.segmentation import load_network, read_config
from edge_codec.training.segmentation_augment import frames_of
from edge_codec.training.segmentation_data import LabeledVolume, read_cases, read_labeled
from edge_codec.training.segmentation_measure import mean_dice
from edge_codec.window import pad

log = logging.getLogger(__name__)

FRAMES = {"acdc": 48, "fullfov": 16}
"""Training frames that the scales come from, by data set; fewer where there are fewer."""

LARGEST_LOSS = 0.003
"""Of Dice, mean over the classes of a data set, that integers may cost."""


class FloatSegmentation(nn.Module):
    """Window codes to logits: what is exported of the float network."""

    def __init__(self, network: SegmentationNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, frame: Tensor) -> Tensor:
        """Logits of a frame: (n, 1, 16 h, 16 w) uint8 to (n, 4, 16 h, 16 w) float."""
        return self.network.logits(frame_of_codes(frame))


def float_model(network: SegmentationNetwork) -> onnx.ModelProto:
    """Export the float network, for any number of frames whose sides are multiples of 16."""
    example = torch.zeros(2, 1, 3 * STRIDE, 5 * STRIDE, dtype=torch.uint8)
    axes = {0: Dim("n"), 2: STRIDE * Dim("h"), 3: STRIDE * Dim("w")}
    module = FloatSegmentation(network).eval()
    return export_network(
        Network("segmentation", module, {"frame": example}, {"frame": axes}, ("logits",))
    )


def calibration_frames(volumes: list[LabeledVolume], seed: int = 0) -> list[NDArray[np.uint8]]:
    """Draw frames of each data set and extend them to multiples of 16."""
    rng = np.random.default_rng(seed)
    chosen: list[NDArray[np.uint8]] = []
    for group, count in FRAMES.items():
        frames = frames_of([volume for volume in volumes if volume.group == group])
        picks = rng.choice(len(frames), min(count, len(frames)), replace=False)
        chosen.extend(pad(frames[index].codes, STRIDE) for index in picks)
    return chosen


def measure(model: bytes, volumes: list[LabeledVolume]) -> dict[str, list[float]]:
    """Return the mean Dice of volumes by data set, of the network's labels as they are."""
    engine = OrtEngine(model, threads=1)

    def segment(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
        rows, columns = codes.shape
        logits = engine.run(pad(codes, STRIDE)[None, None])[0, :, :rows, :columns]
        labels: NDArray[np.uint8] = logits.argmax(axis=0).astype(np.uint8)
        return labels

    scores = mean_dice(segment, volumes)
    return {group: [round(score, 4) for score in each] for group, each in scores.items()}


def check_loss(reference: dict[str, list[float]], found: dict[str, list[float]]) -> None:
    """Refuse an integer network that is worse than the float one.

    Raises
    ------
    CalibrationError
        If the mean Dice of a data set falls by more than `LARGEST_LOSS`.
    """
    for group, scores in reference.items():
        loss = float(np.mean(scores) - np.mean(found[group]))
        if loss > LARGEST_LOSS:
            raise CalibrationError(
                f"{group}: the integer network loses {loss:.4f} Dice, at most {LARGEST_LOSS} is "
                f"allowed; try another --observer ({', '.join(RULES)})"
            )


def main(argv: list[str] | None = None) -> None:
    """Parse options, make the integer network, gate it, write its files."""
    options = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(options.threads)
    try:
        _export(options)
    except EdgeCodecError as error:
        raise SystemExit(f"error: {error}") from error


def _export(options: argparse.Namespace) -> None:
    config, network = read_config(options.config), load_network(options.checkpoint)
    volumes = read_labeled(options.data, read_cases(options.splits, "train"))
    held_out = [volume for volume in volumes if volume.case in config.held_out]
    trained_on = [volume for volume in volumes if volume.case not in config.held_out]
    frames = calibration_frames(trained_on)
    exponents = exponents_of(network, observe(network, frames), options.observer)
    graph = IntegerSegmentation(network, exponents)
    integers = graph.model().SerializeToString(deterministic=True)
    floats = float_model(network).SerializeToString(deterministic=True)
    metrics = {"float": measure(floats, held_out), "int8": measure(integers, held_out)}
    log.info("%s", json.dumps(metrics))
    check_loss(metrics["float"], metrics["int8"])
    options.out.mkdir(parents=True, exist_ok=True)
    if options.float:
        options.float.write_bytes(floats)
    (options.out / NETWORK).write_bytes(integers)
    cases = len({volume.case for volume in trained_on})
    fields = manifest_fields(options.version, cases, config.held_out, options.note)
    fields["calibration"] = {
        "frames": len(frames),
        "observer": options.observer,
        "largest_sum": max(graph.bounds.values()),
    }
    fields["metrics"] = {"dice_held_out": metrics}
    write_manifest(options.out, fields)
    (options.out / "MODEL_CARD.md").write_text(model_card(fields), encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edge_codec.export.segmentation", description="Make the segmentation's shipped files."
    )
    parser.add_argument("--checkpoint", type=Path, required=True, help="averaged.pt of a training")
    parser.add_argument("--config", type=Path, required=True, help="YAML of the training")
    parser.add_argument("--data", type=Path, required=True, help="folder in ACDC's layout")
    parser.add_argument("--splits", type=Path, required=True, help="JSON of train and test cases")
    parser.add_argument("--out", type=Path, required=True, help="folder of the zoo's files")
    parser.add_argument("--float", type=Path, help="file for the float network")
    parser.add_argument("--observer", choices=sorted(RULES), default="mse", help="rule of scales")
    parser.add_argument("--version", default="1.0.0", help="version of the weights")
    parser.add_argument("--note", default="", help="how the weights were trained, for the records")
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    return parser


if __name__ == "__main__":
    main()
