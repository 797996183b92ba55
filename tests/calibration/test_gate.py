"""The gate, and the chain of networks that it judges."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from float_networks import DECODED, FRAME, Builder, autoencoder, feeds, frames  # noqa: E402
from onnx import TensorProto, numpy_helper  # noqa: E402

from edge_codec.base.token_model import load_token_model  # noqa: E402
from edge_codec.base.tokens import TokenCoder  # noqa: E402
from edge_codec.calibration.chain import Chain, LookupStage, Passed, token_rate  # noqa: E402
from edge_codec.calibration.gate import (  # noqa: E402
    Gate,
    GateExam,
    Limits,
    dice_of,
    ejection_fraction,
)
from edge_codec.calibration.job import exams_of  # noqa: E402
from edge_codec.calibration.pipeline import calibrate  # noqa: E402
from edge_codec.calibration.sampler import draw  # noqa: E402
from edge_codec.errors import CalibrationError  # noqa: E402
from edge_codec.metrics.image import psnr, ssim  # noqa: E402
from edge_codec.spec import CineInfo, StreamSpec  # noqa: E402
from edge_codec.window import Window  # noqa: E402

ROOT = Path(__file__).parents[2]
TINY = ROOT / "examples" / "tiny.nii.gz"


def exam(slices: int = 2, phases: int = 2, size: int = 18) -> GateExam:
    """Frames that are no multiple of eight, with codes that are their samples."""
    samples = np.stack([frame[0, 0] for frame in frames(slices * phases, size)]).astype(np.uint32)
    info = CineInfo(slices, phases, size, size, dtype=np.dtype(np.int16))
    spec = StreamSpec(info, low=0, high=255, window_low=0, window_high=192)
    return GateExam("exam", samples.reshape(slices, phases, size, size), Window(spec), 250.0)


class Shift:
    """A codec that adds to every voxel, and spends tokens."""

    def __init__(self, shift: int, tokens: int | None = None) -> None:
        self.shift, self.count = shift, tokens

    def run(self, frames: np.ndarray) -> Passed:
        decoded = np.clip(frames.astype(int) + self.shift, 0, 255).astype(np.uint8)
        tokens = None if self.count is None else np.zeros((1, 2, self.count), np.int32)
        return Passed(decoded, tokens)


def test_figures_are_those_of_the_codec_s_metrics() -> None:
    one = exam()
    verdict = Gate(Shift(1), [one]).judge(Shift(2))
    assert verdict.reference[0].psnr_db == pytest.approx(psnr(1, 250), abs=0.05)
    decoded = np.clip(one.samples.astype(int) + 2, 0, 255)
    mse = float(np.square(decoded - one.samples.astype(int)).mean())
    assert verdict.calibrated[0].psnr_db == pytest.approx(psnr(mse, 250))
    pairs = zip(one.samples.reshape(-1, 18, 18), decoded.reshape(-1, 18, 18), strict=True)
    expected = np.mean([ssim(a, b, 250.0) for a, b in pairs])
    assert verdict.calibrated[0].ssim == pytest.approx(expected)
    assert verdict.losses()["psnr_loss_db"] == pytest.approx(6.02, abs=0.1)


def test_a_worse_model_is_refused_and_an_equal_one_is_not() -> None:
    gate = Gate(Shift(1), [exam()])
    gate.judge(Shift(1)).require()
    with pytest.raises(CalibrationError, match=r"psnr loss db is 6\.\d+, at most 0.2 is allowed"):
        gate.judge(Shift(2)).require()
    assert not gate.judge(Shift(2)).record()["passed"]
    Gate(Shift(1), [exam()], limits=Limits(psnr_loss_db=7)).judge(Shift(2)).require()


def test_a_perfect_reference_is_no_excuse() -> None:
    gate = Gate(Shift(0), [exam()])
    gate.judge(Shift(0)).require()
    with pytest.raises(CalibrationError, match="psnr loss db is inf"):
        gate.judge(Shift(1)).require()


def test_bits_count() -> None:
    def rate(tokens: np.ndarray) -> float:
        assert tokens.shape[:2] == (2, 2)
        return float(tokens.size)

    gate = Gate(Shift(1, tokens=100), [exam()], rate)
    verdict = gate.judge(Shift(1, tokens=103))
    assert verdict.losses()["bpp_increase"] == pytest.approx(0.03)
    assert verdict.reference[0].bpp == pytest.approx(800 / (4 * 18 * 18))
    with pytest.raises(CalibrationError, match=r"bpp increase is 0\.03, at most 0\.02"):
        verdict.require()
    gate.judge(Shift(1, tokens=90)).require()


def test_structure_counts_for_itself() -> None:
    verdict = Gate(Shift(0), [exam()], limits=Limits(psnr_loss_db=math.inf)).judge(Shift(60))
    with pytest.raises(CalibrationError, match="refused: ssim loss is"):
        verdict.require()


def threshold(samples: np.ndarray) -> np.ndarray:
    """Segment by brightness: a ventricle that is bright in most phases."""
    return np.where(samples > 120, 3, np.where(samples > 80, 1, 0))


def test_a_segmenter_adds_dice_and_ejection_fraction() -> None:
    gate = Gate(Shift(0), [exam()], segmenter=threshold, limits=Limits(math.inf, math.inf))
    verdict = gate.judge(Shift(0))
    assert verdict.calibrated[0].dice == 1.0
    assert verdict.losses()["ef_difference"] == 0.0
    worse = gate.judge(Shift(20))
    labels = [threshold(exam().samples + shift) for shift in (0, 20)]
    assert worse.calibrated[0].dice == pytest.approx(dice_of(*labels))
    assert worse.calibrated[0].ef_percent == pytest.approx(ejection_fraction(labels[1]))
    with pytest.raises(CalibrationError, match="dice loss is"):
        worse.require()


def test_dice_and_ejection_fraction_by_hand() -> None:
    wanted = np.zeros((1, 2, 4, 4), int)
    wanted[0, 0, :2] = 3  # 8 voxels in diastole
    wanted[0, 1, :1] = 3  # 4 in systole
    assert ejection_fraction(wanted) == 50.0
    found = wanted.copy()
    found[0, 0, 1, :] = 0
    found[0, 0, 3, :2] = 1
    # Label 3: 2 * 8 / (12 + 8); label 1: nothing in common.
    assert dice_of(wanted, found) == pytest.approx((16 / 20 + 0) / 2)
    assert dice_of(np.zeros(3), np.zeros(3)) is None
    assert ejection_fraction(np.zeros((1, 1, 2, 2))) is None


def test_there_must_be_an_exam() -> None:
    with pytest.raises(CalibrationError, match="no exam"):
        Gate(Shift(0), [])


def test_gate_passes_a_calibrated_network_and_refuses_a_broken_one() -> None:
    model = autoencoder()
    exams = exams_of(draw(TINY))
    gate = Gate(Chain([model]), exams, limits=Limits(psnr_loss_db=6, ssim_loss=0.02))
    found = calibrate(model, "0" * 64, feeds()).model
    gate.judge(Chain([found])).require()
    proto = onnx.load_model_from_string(found)
    for item in proto.graph.initializer:
        if item.name == "b.scale":
            item.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(item) * 1.1, item.name))
    with pytest.raises(CalibrationError, match="the calibrated model is refused"):
        gate.judge(Chain([proto.SerializeToString()])).require()


def encoder() -> bytes:
    """Frames to latents of two numbers per voxel: the value and its half."""
    builder = Builder()
    weight = np.array([1.0, 0.5]).reshape(2, 1, 1, 1)
    x = builder.conv(builder.frame_values(), "a", weight, relu=False)
    builder.node("Transpose", x, perm=[0, 2, 3, 1], output="latents")
    return builder.model(FRAME, ("latents", TensorProto.FLOAT, ["n", "h", "w", 2]))


def decoder(dtype: int = TensorProto.INT32) -> bytes:
    """Tokens to frames: token i is window code 16 i."""
    builder = Builder()
    levels = builder.constant("levels", np.arange(16).reshape(16, 1) / 8)
    x = builder.node("Gather", levels, "tokens")
    builder.frame_codes(builder.node("Transpose", x, perm=[0, 3, 1, 2]))
    return builder.model(("tokens", dtype, ["n", "h", "w"]), DECODED)


CODEBOOK = np.stack([np.arange(16) / 8, np.arange(16) / 16], axis=1)


@pytest.mark.parametrize("dtype", [TensorProto.INT32, TensorProto.INT64])
def test_a_chain_goes_through_the_codebook(dtype: int) -> None:
    chain = Chain([encoder(), decoder(dtype)], CODEBOOK)
    frame = frames(1)[0]
    passed = chain.run(frame)
    expected = np.clip(np.rint(frame / 16), 0, 15)
    assert passed.tokens is not None
    near = np.abs(passed.tokens[0] - expected[0, 0])
    assert near.max() <= 1  # halves may go either way
    assert np.abs(passed.frames.astype(int) - frame)[frame < 240].max() <= 8
    assert chain.closed
    assert chain.inputs(frame, 0) is frame
    assert np.array_equal(chain.inputs(frame, 1), passed.tokens)


def test_lookup_takes_the_lowest_of_equals() -> None:
    stage = LookupStage(np.array([[1.0, 0], [0, 1.0], [1.0, 0]]))
    assert stage.run(np.array([[[[1.0, 0]], [[0, 1.0]], [[1.0, 1.0]]]])).tolist() == [
        [[0], [1], [0]]
    ]
    with pytest.raises(CalibrationError, match="latents of 3 numbers do not fit a codebook of 2"):
        stage.run(np.zeros((1, 1, 1, 3)))
    with pytest.raises(CalibrationError, match="the codebook is"):
        LookupStage(np.zeros(4))


def test_networks_that_form_no_chain_are_refused() -> None:
    with pytest.raises(CalibrationError, match="name the codebook between them"):
        Chain([encoder(), decoder()])
    with pytest.raises(CalibrationError, match="they do not form a chain"):
        Chain([encoder(), autoencoder()])
    with pytest.raises(CalibrationError, match="the first network takes tensor"):
        Chain([decoder()])
    with pytest.raises(CalibrationError, match="Name the network behind it with --after"):
        Chain([encoder()]).run(frames(1)[0])
    assert not Chain([encoder()]).closed


def test_token_rate_is_that_of_the_token_coder() -> None:
    zoo = ROOT / "edge_codec" / "zoo" / "vqvae"
    coder = TokenCoder(load_token_model((zoo / "token_model.npz").read_bytes()))
    tokens = np.random.default_rng(0).integers(0, 2048, (2, 34, 3, 4)).astype(np.int32)
    expected = 0
    for phases in tokens.astype(np.uint16):
        for phase, frame in enumerate(phases):
            before = None if phase in (0, 32) else phases[phase - 1]
            expected += 8 * len(coder.encode(frame, before))
    assert token_rate(coder)(tokens) == expected
