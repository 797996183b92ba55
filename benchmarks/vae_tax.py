"""What integers cost `dwt-cal-vae`: the shipped networks against the float model they come from.

    python -m benchmarks.vae_tax --checkpoint averaged.pt --volumes EXAM.nii.gz ... [--json FILE]

Both code the middle slices of each exam, each slice as one group. The integer coder's bits are
those of its payloads, the float model's are its likelihoods' estimate. The tax is Bjontegaard's
difference of rate; times are processor time of one thread for a frame.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.record import append_record, describe_machine
from edge_codec.metrics.image import psnr
from edge_codec.metrics.rate import bjontegaard
from edge_codec.nn.dwt_cal import DwtCal
from edge_codec.runtime.base_rate import BaseRate
from edge_codec.runtime.models import decoding_hashes, load_model
from edge_codec.spec import CineInfo, ModelId, StreamSpec
from edge_codec.training import curves
from edge_codec.training.pack import CineSequence, read_volume, sequences_of
from edge_codec.training.rate_distortion import GroupOffsets

QUALITIES = (8, 18, 28, 38, 48)


@dataclass(slots=True)
class Total:
    """Sums over the frames of an exam at a quality."""

    bits: float = 0.0
    error: float = 0.0
    voxels: int = 0
    encode_s: float = 0.0
    decode_s: float = 0.0
    frames: int = 0

    def point(self, peak: int) -> tuple[float, float]:
        """Bits per voxel and PSNR in dB."""
        return self.bits / self.voxels, psnr(self.error / self.voxels, float(peak))


def code_integer(sequence: CineSequence, quality: int, total: Total) -> None:
    """Code and decode a sequence with the shipped networks."""
    phases, rows, columns = sequence.voxels.shape
    info = CineInfo(1, phases, rows, columns, np.dtype(np.uint16))
    span = sequence.peak - sequence.low
    spec = StreamSpec(
        info, 0, span, ModelId.DWT_CAL_VAE, max_error=None, window_high=sequence.width
    )
    model = load_model(ModelId.DWT_CAL_VAE, rate=BaseRate(quality))
    if model is None:
        raise SystemExit("the model is not there")
    encoder, decoder = model.coder(spec, map), model.coder(spec, map)
    for phase, voxels in enumerate(sequence.voxels):
        start = time.process_time()
        payload, _ = encoder.encode(voxels.astype(np.uint32), phase, phase == 0)
        middle = time.process_time()
        frame = decoder.decode(payload, phase, phase == 0)
        total.decode_s += time.process_time() - middle
        total.encode_s += middle - start
        total.bits += 8 * len(payload)
        total.error += float(((frame.astype(np.float64) - voxels) ** 2).sum())
        total.voxels += voxels.size
        total.frames += 1


def code_float(model: DwtCal, sequence: CineSequence, quality: int, total: Total) -> None:
    """Code a sequence with the model that was trained."""
    coded = curves.code_sequence(model, sequence, float(quality), GroupOffsets())
    total.bits += float(coded.bits.sum())
    total.error += float(coded.squared_error.sum())
    total.voxels += sequence.voxels.size


def measure(path: Path, model: DwtCal, slices: int, phases: int) -> dict[str, object]:
    """Return both curves of an exam, the tax, and times in ms."""
    chosen = sequences_of(read_volume(path), path.name, "volume")
    first = max(0, (len(chosen) - slices) // 2)
    sequences = [replace(one, voxels=one.voxels[:phases]) for one in chosen[first : first + slices]]
    points: dict[str, list[tuple[float, float]]] = {"float": [], "integer": []}
    times = Total()
    for quality in QUALITIES:
        exact, whole = Total(), Total()
        for sequence in sequences:
            code_float(model, sequence, quality, exact)
            code_integer(sequence, quality, whole)
        points["float"].append(exact.point(sequences[0].peak))
        points["integer"].append(whole.point(sequences[0].peak))
        times.encode_s += whole.encode_s
        times.decode_s += whole.decode_s
        times.frames += whole.frames
    found = bjontegaard(points["float"], points["integer"])
    return {
        "exam": path.name,
        "frame_shape": list(sequences[0].voxels.shape[1:]),
        "slices": len(sequences),
        "phases": len(sequences[0].voxels),
        "qualities": list(QUALITIES),
        "bpp_psnr_db": {k: [[round(x, 4) for x in p] for p in v] for k, v in points.items()},
        "bd_rate_percent": found.rate_percent,
        "bd_psnr_db": found.psnr_db,
        "encode_cpu_ms": 1e3 * times.encode_s / times.frames,
        "decode_cpu_ms": 1e3 * times.decode_s / times.frames,
    }


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, required=True, help="averaged.pt as exported")
    parser.add_argument("--volumes", type=Path, nargs="+", required=True, help="NIfTI exams")
    parser.add_argument("--slices", type=int, default=1, help="of each exam, the middle ones")
    parser.add_argument("--phases", type=int, default=12, help="of each slice, the first ones")
    parser.add_argument("--json", type=Path, help="JSON lines to append to")
    options = parser.parse_args()
    torch.set_num_threads(1)
    machine = describe_machine(("torch",))
    model = curves.load_model(options.checkpoint)
    weights = decoding_hashes(ModelId.DWT_CAL_VAE)[0].hex()[:16]
    for path in options.volumes:
        row = measure(path, model, options.slices, options.phases)
        print(f"{row['exam']}: BD-rate {row['bd_rate_percent']:+.2f} %, "
              f"BD-PSNR {row['bd_psnr_db']:+.3f} dB, encode {row['encode_cpu_ms']:.0f} ms, "
              f"decode {row['decode_cpu_ms']:.0f} ms of one core")  # fmt: skip
        if options.json is not None:
            append_record(options.json, "vae_tax", {**row, "weights": weights}, machine)


if __name__ == "__main__":
    main()
