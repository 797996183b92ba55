from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_codec.base.hybrid import coder as coder_module
from edge_codec.base.hybrid.coder import HybridCoder
from edge_codec.base.hybrid.model import HybridModel, HybridSettings
from edge_codec.base.hybrid.quantizer import FILTERED_OFFSET, offsets, quantizer_at
from edge_codec.base.hybrid.rate_control import BufferedRate, ConstantQuality
from edge_codec.base.hybrid.rate_model import RateModel
from edge_codec.base.hybrid.structure import LAYERS, GroupPlace
from edge_codec.bitstream.phases import PhaseOrder
from edge_codec.errors import SpecError
from edge_codec.io import open_source
from edge_codec.spec import CineInfo, Effort, ModelId, StreamSpec

EXAM = Path(__file__).parents[2] / "examples" / "sunnybrook_scd0000301_slice.nii.gz"
VOXELS = 256 * 256


@lru_cache
def exam(side: int = 64) -> NDArray[np.uint32]:
    """Both slices of the example around the heart: (2, 20, side, side)."""
    out = np.empty((2, 20, side, side), np.uint32)
    for frame in open_source(EXAM).frames():
        crop = frame.samples[96 : 96 + side, 96 : 96 + side]
        out[frame.slice_index, frame.phase_index] = crop
    return out


def spec_of(frames: NDArray[np.uint32], archive: bool = False, interval: int = 32) -> StreamSpec:
    info = CineInfo(*frames.shape, np.dtype(np.int16))  # type: ignore[arg-type]
    return StreamSpec(
        info,
        0,
        int(frames.max()),
        ModelId.DWT_CAL,
        max_error=None,
        key_interval=interval,
        archive=archive,
    )


def coded(coder: HybridCoder, frames: NDArray[np.uint32], spec: StreamSpec) -> list[int]:
    """Bits of each frame of a slice."""
    order = PhaseOrder(spec)
    out = []
    for turn in range(len(frames)):
        phase = order.phase_at(turn)
        payload, _ = coder.encode(frames[phase], phase, phase % spec.key_interval == 0)
        out.append(8 * len(payload))
    return out


def fullest(bits: list[int], target: float, size: float) -> tuple[float, int]:
    """The most that waits in a buffer that begins at a quarter, and how often it is too much."""
    level = most = size / 4
    too_much = 0
    for count in bits:
        level = max(0.0, level + count - target)
        most = max(most, level)
        too_much += level > size
    return most, too_much


@pytest.mark.parametrize("archive", [False, True])
@pytest.mark.parametrize("target", [400, 1500, 6000])
def test_real_frames_take_the_bits_that_were_asked_for(archive: bool, target: int) -> None:
    frames = exam()
    spec = spec_of(frames, archive)
    coder = HybridModel(HybridSettings(bits_per_frame=target, effort=Effort.FAST)).coder(spec)
    bits = coded(coder, frames[0], spec)
    report = coder.control.report
    assert sum(bits) == pytest.approx(20 * target, rel=0.1)
    assert (report.frames, report.bits, report.overflows) == (20, sum(bits), 0)
    assert (report.mean, report.largest) == (sum(bits) / 20, max(bits))
    assert report.fullest == pytest.approx(fullest(bits, target, 32 * target)[0])
    assert bits[0] == max(bits)


def simulated(
    control: BufferedRate, shift: float, noise: float, seed: int, groups: int, length: int
) -> list[int]:
    """Bits of frames that obey the model's curves at another place, and scatter."""
    rng = np.random.default_rng(seed)
    truth = RateModel(VOXELS)
    for layer in range(LAYERS):
        truth.believe(layer, round(60 + shift), round(RateModel(VOXELS).bits(layer, 60)))
    out = []
    for _ in range(groups):
        for position in range(length):
            place = GroupPlace(False, position, length - position)
            layer, scatter = place.plan.layer, math.exp(noise * rng.standard_normal())
            quantizer = control.choose(layer, place.layers_ahead)
            while True:
                bits = max(8, round(truth.bits(layer, quantizer) * scatter))
                other = control.again(quantizer, bits) if layer == 0 else None
                if other is None:
                    break
                quantizer = other
            control.spend(layer, quantizer, bits)
            out.append(bits)
    return out


@given(
    shift=st.floats(-15, 15),
    noise=st.floats(0, 0.3),
    seed=st.integers(0, 2**32 - 1),
    target=st.integers(500, 60_000),
)
@settings(deadline=None, max_examples=10)
def test_exams_unlike_the_training_exams_keep_to_the_channel(
    shift: float, noise: float, seed: int, target: int
) -> None:
    control = BufferedRate(target, VOXELS)
    bits = simulated(control, shift, noise, seed, 3, 25)
    most, too_much = fullest(bits, target, 32 * target)
    assert control.report.fullest == pytest.approx(most)
    assert control.report.overflows == too_much == 0
    assert np.mean(bits) == pytest.approx(target, rel=0.15)


def test_a_quiet_exam_has_a_steady_quality() -> None:
    control = BufferedRate(9000, VOXELS)
    chosen = []
    for position in range(40):
        place = GroupPlace(False, position, 60_000 - position)
        quantizer = control.choose(place.plan.layer, place.layers_ahead)
        chosen.append(quantizer - offsets(False)[place.plan.layer])
        control.spend(
            place.plan.layer, quantizer, round(RateModel(VOXELS).bits(place.plan.layer, quantizer))
        )
    assert max(chosen) - min(chosen) <= 3


def test_what_does_not_fit_is_said() -> None:
    control = BufferedRate(1000, VOXELS, buffer_frames=4)
    for layer, bits in ((0, 2000), (3, 5000), (3, 200)):
        control.spend(layer, control.choose(layer, lambda: [3, 3, 3]), bits)
    assert control.report.overflows == 2  # it takes its time to run dry
    assert control.report.fullest == 1000 + 1000 + 4000


def test_a_key_frame_that_overflows_is_coded_again_more_coarsely() -> None:
    control = BufferedRate(1000, VOXELS, buffer_frames=16)
    control.spend(0, control.choose(0, lambda: [0, 3, 2, 3]), 4_000)
    first = control.choose(0, lambda: [0, 3, 2, 3])
    again = control.again(first, 40_000)
    assert again is not None
    assert again > first
    assert control.again(again, 9_000) is None


def test_a_first_key_frame_unlike_what_was_planned_is_coded_again() -> None:
    control = BufferedRate(10_000, VOXELS)
    first = control.choose(0, lambda: [0, *[3] * 20])
    again = control.again(first, 9_000)
    assert again is not None
    assert again < first
    control.spend(0, again, 20_000)
    later = control.choose(0, lambda: [0, *[3] * 20])
    assert control.again(later, 1_000) is None


def test_tries_come_to_an_end() -> None:
    control = BufferedRate(100, VOXELS, buffer_frames=2)
    quantizer: int | None = control.choose(0, lambda: [0])
    for _ in range(2):
        assert quantizer is not None
        quantizer = control.again(quantizer, 100_000)
    assert quantizer is None


@pytest.mark.parametrize("layer", [0, 3])
@pytest.mark.parametrize("bits", [100, 5_000, 400_000])
def test_a_model_gives_back_what_it_was_told(layer: int, bits: int) -> None:
    model = RateModel(VOXELS)
    model.believe(layer, 60, bits)
    assert model.bits(layer, 60) == pytest.approx(bits)
    assert model.bits(layer, 50) > bits > model.bits(layer, 70)
    near = RateModel(VOXELS)
    near.learn(layer, 60, bits)
    assert near.bits(layer, 60) == pytest.approx(bits)


def test_layers_that_were_not_seen_are_like_the_nearest_one_that_was() -> None:
    model = RateModel(VOXELS)
    before = model.bits(2, 50)
    model.believe(0, 50, round(3 * model.bits(0, 50)))
    assert model.bits(2, 50) > 1.5 * before


def test_constant_quality_reports_what_it_took() -> None:
    control = ConstantQuality(40)
    control.spend(0, control.choose(0, list), 800)
    control.spend(1, control.choose(1, list), 16)
    assert (control.report.frames, control.report.bits, control.report.overflows) == (2, 816, 0)
    assert control.again(50, 10**9) is None


@pytest.mark.parametrize(
    ("bits", "buffer"), [(7, 32), (math.nan, 32), (math.inf, 32), (1000, 0.5), (1000, math.nan)]
)
def test_impossible_channels_are_refused(bits: float, buffer: float) -> None:
    model = HybridModel(HybridSettings(bits_per_frame=bits, buffer_frames=buffer))
    with pytest.raises(SpecError, match=r"bits_per_frame|buffer_frames"):
        model.coder(spec_of(exam()))


def test_a_key_frame_is_planned_to_fit_the_buffer() -> None:
    control = BufferedRate(3000, VOXELS, buffer_frames=8)
    quantizer = control.choose(0, lambda: [0, *[3] * 63])
    roomy = BufferedRate(3000, VOXELS, buffer_frames=64).choose(0, lambda: [0, *[3] * 63])
    space = 8 * 3000 * 3 / 4 + 3000
    assert RateModel(VOXELS).bits(0, quantizer) <= space < RateModel(VOXELS).bits(0, roomy)


def test_quality_moves_in_small_steps_whatever_a_frame_takes() -> None:
    control = BufferedRate(3000, VOXELS)
    control.spend(0, control.choose(0, lambda: [0, *[3] * 30]), 30_000)
    levels = []
    for bits in (9000, 9000, 40, 40, 40, 9000, 40):
        levels.append(control.choose(3, lambda: [3] * 20))
        control.spend(3, levels[-1], bits)
    steps = np.abs(np.diff(levels))
    assert steps.max() == 3


def test_a_model_reports_of_all_its_slices() -> None:
    frames = exam()[:, :6]
    spec = spec_of(frames)
    model = HybridModel(HybridSettings(bits_per_frame=900, buffer_frames=1, effort=Effort.FAST))
    assert (model.report.frames, model.report.mean) == (0, 0.0)
    coders = [model.coder(spec) for _ in frames]
    bits = []
    for phase in range(6):
        coded = model.encode_frames(coders, list(frames[:, phase]), [phase] * 2, [phase == 0] * 2)
        bits += [8 * len(payload) for payload, _ in coded]
    report, each = model.report, [coder.control.report for coder in coders]
    assert (report.frames, report.bits, report.largest) == (12, sum(bits), max(bits))
    assert report.fullest == max(slice_report.fullest for slice_report in each)
    assert report.overflows == sum(slice_report.overflows for slice_report in each) > 0


class SecondTry(ConstantQuality):
    """Begins key frames with another quantizer than the one that it wants."""

    first = 20

    def choose(self, layer: int, ahead: Callable[[], Sequence[int]]) -> int:
        wanted = super().choose(layer, ahead)
        return self.first if layer == 0 else wanted

    def again(self, quantizer: int, bits: int) -> int | None:
        return super().choose(0, list) if quantizer == self.first else None


def test_a_key_frame_is_filtered_for_the_quantizer_that_it_ends_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A coarser one takes a stronger filter, of the frame as it came."""
    frames, filtered = exam()[0], []
    filter_over_time = coder_module.native.filter_over_time

    def watch(
        frame: NDArray[np.int16],
        others: Sequence[NDArray[np.int16]],
        quantizer: int,
        out: NDArray[np.int16],
    ) -> None:
        filter_over_time(frame, others, quantizer, out)
        filtered.append((quantizer, frame.copy(), out.copy(), len(others)))

    monkeypatch.setattr(coder_module.native, "filter_over_time", watch)
    control = SecondTry(20)
    coder = HybridCoder(spec_of(exam()), control, Effort.FAST)
    payload, _ = coder.encode(frames[0], 0, True, list(frames[1:7]))
    tried, wanted = (
        quantizer_at(chosen, FILTERED_OFFSET)
        for chosen in (control.first, ConstantQuality(20).choose(0, list))
    )
    assert payload[0] == wanted
    assert [(quantizer, n) for quantizer, _, _, n in filtered] == [(tried, 6), (wanted, 6)]
    np.testing.assert_array_equal(filtered[0][1], filtered[1][1])
    assert (filtered[0][2] != filtered[1][2]).any()
