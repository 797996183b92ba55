"""Frames of several slices coded at once give the packets of one after the other."""

from dataclasses import replace

import numpy as np
import pytest

from edge_codec.base.vqvae import VqvaeModel
from edge_codec.codec import Decoder, Encoder
from edge_codec.errors import FrameError
from edge_codec.runtime.models import load_model
from edge_codec.spec import CineInfo, Effort, ModelId, StreamSpec

SLICES, PHASES = 3, 5


@pytest.fixture(scope="module")
def model():
    return load_model(ModelId.VQVAE, threads=2)


def load(model, spec):
    return model if spec.model is ModelId.VQVAE else load_model(spec.model, effort=Effort.FAST)


def make_spec(rows=21, columns=37, **options):
    info = CineInfo(SLICES, PHASES, rows, columns, np.dtype(np.int16))
    return StreamSpec(info, low=-40, high=900, window_low=0, window_high=700, **options)


def make_frames(spec, seed=1):
    """Slices with an edge that moves, (phases, slices, rows, columns)."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(-40, 300, (PHASES, SLICES, *spec.info.frame_shape))
    for phase in range(PHASES):
        frames[phase, :, :, phase : 9 + 2 * phase] += 500
    return frames.astype(np.int16)


OPTIONS = {
    "base": {"model": ModelId.VQVAE, "max_error": None},
    "lossless on base": {"model": ModelId.VQVAE, "max_error": 0},
    "bounded": {"max_error": 2},
    "dwt-cal": {"model": ModelId.DWT_CAL, "max_error": None},
    "bounded on dwt-cal": {"model": ModelId.DWT_CAL, "max_error": 2},
    "bounded on dwt-cal-vae": {"model": ModelId.DWT_CAL_VAE, "max_error": 2},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_packets_are_those_of_one_after_the_other(model, options):
    spec = make_spec(key_interval=2, **options)
    loaded = load(model, spec)
    single, many = Encoder(spec, loaded), Encoder(spec, loaded)
    decoder = Decoder(spec, loaded)
    for phase, frames in enumerate(make_frames(spec)):
        order = [2, 0, 1][: 1 + phase] if phase < 2 else [1, 2, 0]
        headers = [b"header %d" % index for index in order] if phase % 2 else []
        batch = [(index, frames[index]) for index in order]
        packets = many.push_many(batch, headers, keys={2} if phase == 3 else ())
        expected = [
            single.push(frame, index, header, key=phase == 3 and index == 2)
            for (index, frame), header in zip(batch, headers or [b""] * len(batch), strict=True)
        ]
        assert packets == expected
        for packet, (_, frame) in zip(packets, batch, strict=True):
            error = np.abs(decoder.push(packet).astype(int) - frame)
            assert spec.max_error is None or error.max() <= spec.max_error


def test_calls_of_both_kinds_take_turns(model):
    spec = make_spec(model=ModelId.VQVAE, max_error=None)
    single, mixed = Encoder(spec, model), Encoder(spec, model)
    for phase, frames in enumerate(make_frames(spec)):
        expected = [single.push(frame, index) for index, frame in enumerate(frames)]
        if phase % 2:
            assert [mixed.push(frame, index) for index, frame in enumerate(frames)] == expected
        else:
            assert mixed.push_many(list(enumerate(frames))) == expected
    with pytest.raises(FrameError, match="all its phases"):
        mixed.push_many([(1, frames[1])])


def test_networks_run_once_for_all_frames(model):
    spec = make_spec(model=ModelId.VQVAE, max_error=None)
    sizes = []

    class Counting:
        name = "counting"

        def __init__(self, engine):
            self.run = lambda tensor: (sizes.append(len(tensor)), engine.run(tensor))[1]

    counted = replace(model, encoder=Counting(model.encoder), decoder=Counting(model.decoder))
    Encoder(spec, counted).push_many(list(enumerate(make_frames(spec)[0])))
    assert sizes == [SLICES, SLICES]


def test_nothing_is_coded_if_a_frame_is_wrong(model):
    spec = make_spec(model=ModelId.VQVAE, max_error=None)
    good = make_frames(spec)[0]
    encoder = Encoder(spec, model)
    wrong = [(0, good[0]), (1, good[1] + np.int16(900))]
    with pytest.raises(FrameError, match="voxels"):
        encoder.push_many(wrong)
    with pytest.raises(FrameError, match="slice 3 of a stream of 3"):
        encoder.push_many([(0, good[0]), (3, good[1])])
    with pytest.raises(FrameError, match=r"frames of slices \[0, 0\]"):
        encoder.push_many([(0, good[0]), (0, good[1])])
    with pytest.raises(FrameError, match="1 headers for 2 frames"):
        encoder.push_many(list(enumerate(good[:2])), [b"x"])
    assert encoder.push_many([]) == []
    packets = encoder.push_many(list(enumerate(good)))
    assert [packet.sequence for packet in packets] == [0, 1, 2]
    assert packets == [Encoder(spec, model).push_many(list(enumerate(good)))[i] for i in range(3)]


def test_a_frame_that_fails_halfway_fails_its_slices(model, monkeypatch):
    spec = make_spec(model=ModelId.VQVAE, max_error=None)
    encoder, frames = Encoder(spec, model), make_frames(spec)[0]
    with monkeypatch.context() as patch:
        patch.setattr(VqvaeModel, "encode_frames", lambda *_: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            encoder.push_many([(0, frames[0]), (2, frames[2])])
    with pytest.raises(FrameError, match="slice 2 failed"):
        encoder.push(frames[2], 2)
    assert encoder.push(frames[1], 1).slice_index == 1
