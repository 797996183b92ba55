"""What 8 bits cost: every way of quantizing the VQ-VAE against its float model, on test cases.

    python -m benchmarks.bench_calibration --data DIR --splits splits.json
        [--results FILE.jsonl] [--cases NAME ...] [--variants NAME ...] [--frames N]

`DIR` holds ACDC's layout: `<group>/<case>/<case>_4d.nii.gz`. The float model is the checkpoint that
the shipped one was fine-tuned from, exported by `edge_codec.export.graph`. Post-training variants
are calibrated on frames of the training split, then all variants code the whole test cases:

- `plain`, `+ equalization`, `+ bias correction`, `+ both`: `edge_codec.calibration`, mean squared
  error as the observer; `as it helps` is what `edge-codec calibrate` does. The observers' names:
  plain with another observer. Latents are rounded to int8 and looked up in an int8 codebook.
- `onnxruntime minmax`: `onnxruntime.quantization.quantize_static` of the
  convolutions, its own scales and zero points, float latents and codebook.
- `shipped`: the zoo's network, fine-tuned with quantization, with the codec's own codebook lookup.

Fidelity is that of whole volumes in stored units through the codec's window (peak = maximum of the
exam). Bits are those of the tokens by the shipped token model, which was learned from the shipped
network's tokens: the float codes are renumbered as the shipped ones are. For the loss at equal bits
both models choose their tokens with a price on bits (`benchmarks.priced_tokens`), so that both
spend the same: 97 % of what the thriftier one spends without. One JSON line per case and variant.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.calibration_variants import (
    VARIANTS,
    Codec,
    VariantFactory,
    float_model,
)
from benchmarks.priced_tokens import (
    Candidates,
    Replay,
    TokenPrices,
    candidates,
    tokens_within,
)
from benchmarks.record import append_record, describe_machine
from edge_codec.base.token_model import TokenModel, load_token_model
from edge_codec.base.tokens import TokenCoder
from edge_codec.calibration.chain import token_rate
from edge_codec.calibration.gate import Gate, GateExam, Verdict
from edge_codec.calibration.sampler import Sample, draw
from edge_codec.io import open_source
from edge_codec.io.statistics import scan
from edge_codec.manifest import load_manifest
from edge_codec.spec import ModelId, StreamSpec
from edge_codec.window import Window, pad

TEST_CASES = ("SCD0000301", "bivme_patient1_sax", "patient015", "patient056", "patient095")
CHECKPOINTS = Path(__file__).resolve().parent.parent / "checkpoints"
FRAMES = 64
EQUAL_SHARE = 0.97
DEFINITIONS = (
    "psnr: peak = exam maximum, MSE over all voxels; ssim: 7x7 uniform, range = exam maximum, mean "
    "over frames; bpp: rANS payloads of the tokens, key frame every 32 phases; losses: against the "
    "float model of the same case; at equal bits: both choose tokens with a price on bits, so that "
    "both spend 97 % of what the thriftier of the two spends without"
)


def main() -> None:
    """Calibrate, measure, report."""
    options = _parser().parse_args()
    torch.set_num_threads(1)
    machine = describe_machine(("torch", "onnx"))
    splits = json.loads(options.splits.read_text())
    sample = training_sample(options.data, splits["train"], options.frames)
    factory = VariantFactory(float_model(CHECKPOINTS), sample)
    tables = load_token_model(load_manifest(ModelId.VQVAE).read("token_model.npz"))
    judges = [
        Judge(factory.reference, read_exam(options.data, case), tables) for case in options.cases
    ]
    print(f"{len(sample.frames)} frames of {len(sample.strata())} strata to calibrate on")
    for variant in options.variants:
        codec, details = factory.make(variant)
        rows = []
        for judge in judges:
            rows.append(judge.row(variant, codec, sample))
            show(rows[-1])
            if options.results:
                append_record(options.results, "bench_calibration", rows[-1] | details, machine)
        show_mean(variant, rows)


class Judge:
    """Compares codecs with the float model on one exam.

    Parameters
    ----------
    reference : Codec
        The float model.
    exam : GateExam
    tables : TokenModel
    """

    def __init__(self, reference: Codec, exam: GateExam, tables: TokenModel) -> None:
        self._exam, self._reference = exam, reference
        self._places = (exam.samples.shape[0], exam.samples.shape[1])
        self._rate, self._prices = token_rate(TokenCoder(tables)), TokenPrices(tables)
        self._gate = Gate(reference, [exam], self._rate)
        codes = [exam.window.normalize(exam.samples[place]) for place in np.ndindex(self._places)]
        self._frames = [pad(frame, 8)[None, None] for frame in codes]
        self._nearest = self._candidates(reference)

    def row(self, variant: str, codec: Codec, sample: Sample) -> dict[str, Any]:
        """Return one record."""
        verdict = self._gate.judge(codec)
        bpp = [quality[0].bpp or 0.0 for quality in (verdict.reference, verdict.calibrated)]
        equal = self._at_equal_bits(codec, EQUAL_SHARE * min(bpp) * self._exam.samples.size)
        return {
            "case": self._exam.name,
            "variant": variant,
            "float": asdict(verdict.reference[0]),
            "quantized": asdict(verdict.calibrated[0]),
            **verdict.losses(),
            "at_equal_bits": {
                "float": asdict(equal.reference[0]),
                "quantized": asdict(equal.calibrated[0]),
                **equal.losses(),
            },
            "calibration_frames": len(sample.frames),
            "calibration_sha256": sample.sha256,
            "definitions": DEFINITIONS,
        }

    def _at_equal_bits(self, codec: Codec, target: float) -> Verdict:
        """Compare with both held to the same number of bits."""
        reference = self._replay(self._reference, self._nearest, target)
        gate = Gate(reference, [self._exam], self._rate)
        return gate.judge(self._replay(codec, self._candidates(codec), target))

    def _replay(self, codec: Codec, nearest: list[Candidates], target: float) -> Replay:
        tokens = tokens_within(nearest, self._places, self._prices, self._rate, target)
        return Replay(codec, tokens)

    def _candidates(self, codec: Codec) -> list[Candidates]:
        return [candidates(codec, frame) for frame in self._frames]


def training_sample(data: Path, cases: list[str], frames: int) -> Sample:
    """Draw frames of the training split, from a folder of links to its files alone."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for case in cases:
            for path in sorted(data.resolve().glob(f"*/{case}/*.nii.gz")):
                group = path.parent.parent.name
                if path.name.endswith("_4d.nii.gz") or group == "fullfov":
                    (folder / group).mkdir(exist_ok=True)
                    (folder / group / path.name).symlink_to(path)
        return draw(folder, frames)


def read_exam(data: Path, case: str) -> GateExam:
    """Read a whole test case, with the codec's window."""
    (path, *_) = sorted(data.glob(f"*/{case}/{case}_4d.nii.gz"))
    source = open_source(path)
    values, info = scan(source), source.info
    spec = StreamSpec(
        info,
        low=values.low,
        high=values.high,
        window_low=values.p001,
        window_high=max(values.p999, values.p001 + 1),
    )
    samples = np.empty((info.n_slices, info.n_phases, *info.frame_shape), np.uint32)
    for frame in source.frames():
        samples[frame.slice_index, frame.phase_index] = frame.samples.astype(np.int64) - values.low
    return GateExam(case, samples, Window(spec), float(values.high))


def show(row: dict[str, Any]) -> None:
    """Print a line of the table."""
    before, after = row["float"], row["quantized"]
    print(
        f"{row['case']:<20} {row['variant']:<20} PSNR {before['psnr_db']:.3f} -> "
        f"{after['psnr_db']:.3f} dB, loss {row['psnr_loss_db']:+.3f}, at equal bits "
        f"{row['at_equal_bits']['psnr_loss_db']:+.3f}; SSIM loss {row['ssim_loss']:+.4f}; "
        f"bpp {before['bpp']:.5f} {row['bpp_increase']:+.2%}",
        flush=True,
    )


def show_mean(variant: str, rows: list[dict[str, Any]]) -> None:
    """Print the mean over the cases."""
    mean = {
        name: float(np.mean([row[name] for row in rows]))
        for name in ("psnr_loss_db", "ssim_loss", "bpp_increase")
    }
    equal = float(np.mean([row["at_equal_bits"]["psnr_loss_db"] for row in rows]))
    print(
        f"{'mean':<20} {variant:<20} loss {mean['psnr_loss_db']:+.3f} dB, "
        f"at equal bits {equal:+.3f}; SSIM loss {mean['ssim_loss']:+.4f}; "
        f"bpp {mean['bpp_increase']:+.2%}",
        flush=True,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of unpacked cases")
    parser.add_argument("--splits", type=Path, required=True, help="JSON of train and test cases")
    parser.add_argument("--results", type=Path, help="JSON lines to append to")
    parser.add_argument("--cases", nargs="*", default=TEST_CASES, help="names of test cases")
    parser.add_argument("--variants", nargs="*", choices=VARIANTS, default=VARIANTS)
    parser.add_argument("--frames", type=int, default=FRAMES, help="frames to calibrate on")
    return parser


if __name__ == "__main__":
    main()
