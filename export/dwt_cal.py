"""Make the shipped files of `dwt-cal-vae`: an exactly integer twin of a trained DWT-CAL.

`python -m edge_codec.export.dwt_cal --checkpoint averaged.pt --volumes EXAM.nii.gz --out DIR`
writes `decoder.npz`, `encoder.npz`, `manifest.json` and `MODEL_CARD.md`. The model codes the exams,
which should be of the training's, to see how large its activations become.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edge_codec.base.dwt_cal_vae.networks import load_networks
from edge_codec.errors import CalibrationError
from edge_codec.export.dwt_cal_card import manifest_fields, model_card, write_manifest
from edge_codec.export.dwt_cal_layers import LayerFile
from edge_codec.export.dwt_cal_network import IntegerTwin
from edge_codec.export.dwt_cal_ranges import Ranges
from edge_codec.nn.dwt_cal import DwtCal
from edge_codec.training.curves import load_model
from edge_codec.training.pack import CineSequence, read_volume, sequences_of

log = logging.getLogger(__name__)

QUALITIES = (0, 24, 44, 60)


def read_sequences(volumes: Sequence[Path], slices: int, phases: int) -> list[CineSequence]:
    """Read the middle slices of exams, some phases of each.

    Raises
    ------
    CalibrationError
        If there are no frames after a key frame in them.
    """
    chosen = []
    for path in volumes:
        voxels = read_volume(path)[:, :phases]
        first = max(0, (len(voxels) - slices) // 2)
        chosen += sequences_of(voxels, path.name, "volume")[first : first + slices]
    if not any(len(one.voxels) > 1 for one in chosen):
        raise CalibrationError("no exam has several phases; give cine exams as --volumes")
    return chosen


def integer_twin(model: DwtCal, sequences: Sequence[CineSequence]) -> IntegerTwin:
    """Observe a model on exams and make its integer twin."""
    ranges = Ranges(model)
    ranges.observe(sequences, QUALITIES)
    return IntegerTwin(model, ranges)


def write_networks(twin: IntegerTwin, out: Path) -> None:
    """Write both files, and read them back as the codec would."""
    out.mkdir(parents=True, exist_ok=True)
    for name, file in (("decoder", twin.decoder), ("encoder", twin.encoder)):
        arrays: dict[str, Any] = dict(file.arrays)
        np.savez_compressed(out / f"{name}.npz", **arrays)
    load_networks((out / "decoder.npz").read_bytes(), (out / "encoder.npz").read_bytes())


def largest_sum(*files: LayerFile) -> int:
    """Bound of all sums, proven from the weights alone."""
    return max(bound for file in files for bound in file.sums.values())


def main(argv: list[str] | None = None) -> None:
    """Parse options, make the twin, write its files."""
    parser = argparse.ArgumentParser(prog="edge_codec.export.dwt_cal", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="averaged.pt of a training")
    parser.add_argument("--out", type=Path, required=True, help="folder of the zoo's files")
    parser.add_argument("--volumes", type=Path, nargs="+", required=True, help="NIfTI exams")
    parser.add_argument("--slices", type=int, default=2, help="of each exam, the middle ones")
    parser.add_argument("--phases", type=int, default=10, help="of each slice, the first ones")
    parser.add_argument("--version", default="1.0.0", help="version of the weights")
    parser.add_argument("--note", default="", help="how the weights were trained, for the records")
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(options.threads)
    model = load_model(options.checkpoint)
    twin = integer_twin(model, read_sequences(options.volumes, options.slices, options.phases))
    write_networks(twin, options.out)
    bound = largest_sum(twin.decoder, twin.encoder)
    fields = manifest_fields(options.version, model.config, bound, options.note)
    write_manifest(options.out, fields)
    (options.out / "MODEL_CARD.md").write_text(model_card(fields), encoding="utf-8")
    log.info("%s", json.dumps({"largest_sum": bound, "version": options.version}))


if __name__ == "__main__":
    main()
