"""Frame <-> packet: round trips, bounds, order, and tampered streams."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edge_codec.codec.encoder
import edge_codec.codec.samples
from edge_codec.bitstream.packet import LayerId
from edge_codec.codec import Decoder, Encoder, coded_dtype
from edge_codec.errors import BitstreamError, EngineError, FrameError, SpecError
from edge_codec.runtime.models import load_model
from edge_codec.spec import CineInfo, Effort, ModelId, SampleFormat, StreamSpec

DTYPES = [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.uint64, np.int64]


def beating(rng, phases, rows, columns, dtype=np.int16, peak=1000):
    """Return smooth moving frames with noise, shape (phases, rows, columns)."""
    y, x = np.mgrid[:rows, :columns]
    frames = [
        peak / 2 * (1 + np.sin(x / 7 + phase / 3) * np.cos(y / 5)) + rng.normal(0, 4, y.shape)
        for phase in range(phases)
    ]
    return np.clip(np.array(frames), 0, peak).astype(dtype)


def spec_for(frames, **options):
    info = CineInfo(1, len(frames), *frames.shape[1:], dtype=frames.dtype)
    low, high = int(frames.min()), int(frames.max())
    options = {"window_low": low, "window_high": max(high, low + 1)} | options
    return StreamSpec(info, low=low, high=high, **options)


def round_trip(frames, spec, model=None):
    encoder, decoder = Encoder(spec, model), Decoder(spec, model)
    return np.stack([decoder.push(encoder.push(frame)) for frame in frames])


@pytest.fixture(scope="module")
def vqvae():
    return load_model(ModelId.VQVAE, backend="onnxruntime", threads=1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_lossless_for_every_integer_dtype(dtype):
    frames = beating(np.random.default_rng(0), 3, 17, 13, peak=100).astype(dtype)
    if np.dtype(dtype).kind == "i":
        frames -= 50
    back = round_trip(frames, spec_for(frames))
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, frames)


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        (np.uint64, 2**64 - 2**32, 2**64 - 1),
        (np.int64, -(2**63), -(2**63) + 2**32 - 1),
        (np.uint32, 0, 2**32 - 1),
        (np.int32, -(2**31), 2**31 - 1),
    ],
)
def test_the_widest_values(dtype, low, high):
    frames = np.array([[[low, high], [high, low]], [[high, high], [low, low]]], dtype)
    np.testing.assert_array_equal(round_trip(frames, spec_for(frames)), frames)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.integers(1, 20), st.integers(1, 20), st.integers(1, 5), st.integers(0, 9), st.integers(1, 4),
    st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_every_voxel_keeps_the_bound(rows, columns, phases, bound, key_interval, seed):
    rng = np.random.default_rng(seed)
    frames = rng.integers(-300, 300, (phases, rows, columns)).astype(np.int16)
    back = round_trip(frames, spec_for(frames, max_error=bound, key_interval=key_interval))
    assert np.abs(back.astype(int) - frames).max() <= bound


@pytest.mark.parametrize("bound", [0, 3, None])
@pytest.mark.parametrize("shape", [(64, 64), (61, 50), (1, 1), (8, 9)])
def test_with_the_model_of_the_zoo(vqvae, bound, shape):
    frames = beating(np.random.default_rng(3), 3, *shape)
    spec = spec_for(frames, model=ModelId.VQVAE, max_error=bound, key_interval=2)
    back = round_trip(frames, spec, vqvae)
    if bound is not None:
        assert np.abs(back.astype(int) - frames).max() <= bound


def test_preview_decodes_the_base_alone(vqvae):
    frames = beating(np.random.default_rng(3), 2, 64, 64)
    both = spec_for(frames, model=ModelId.VQVAE, max_error=0)
    alone = replace(both, max_error=None)
    packets = [(Encoder(spec, vqvae)).push(frames[0]) for spec in (both, alone)]
    assert packets[0].layers[LayerId.BASE] == packets[1].layers[LayerId.BASE]
    preview = Decoder(both, vqvae, preview=True).push(packets[0])
    np.testing.assert_array_equal(preview, Decoder(alone, vqvae).push(packets[1]))


def test_interleaved_slices_do_not_touch_each_other():
    rng = np.random.default_rng(5)
    frames = beating(rng, 4, 16, 16)
    spec = replace(spec_for(frames), info=CineInfo(2, 4, 16, 16, dtype=frames.dtype))
    encoder, decoder = Encoder(spec), Decoder(spec)
    for phase, slice_index in [(0, 1), (0, 0), (1, 1), (2, 1), (1, 0)]:
        frame = frames[phase][:: 1 - 2 * slice_index]
        packet = encoder.push(frame, slice_index)
        assert (packet.slice_index, packet.phase_index) == (slice_index, phase)
        np.testing.assert_array_equal(decoder.push(packet), frame)


class TestRefusals:
    frames = beating(np.random.default_rng(7), 4, 16, 16)

    @pytest.mark.parametrize(
        ("frame", "message"),
        [
            (frames[0][:15], "frame is .15, 16."),
            (frames[0].astype(np.float32), "float32"),
            (frames[0] + np.int16(2000), "opened for"),
        ],
    )
    def test_frames_that_do_not_fit(self, frame, message):
        with pytest.raises(FrameError, match=message):
            Encoder(spec_for(self.frames)).push(frame)

    def test_a_slice_or_phase_too_many(self):
        encoder = Encoder(spec_for(self.frames[:1]))
        with pytest.raises(FrameError, match="slice 1"):
            encoder.push(self.frames[0], slice_index=1)
        encoder.push(self.frames[0])
        with pytest.raises(FrameError, match="all its phases"):
            encoder.push(self.frames[0])

    def test_a_slice_that_failed_halfway(self, monkeypatch):
        encoder = Encoder(spec_for(self.frames))
        encoder.push(self.frames[0])
        monkeypatch.setattr(edge_codec.codec.encoder, "frame_check", lambda frame: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            encoder.push(self.frames[1])
        monkeypatch.undo()
        with pytest.raises(FrameError, match="failed"):
            encoder.push(self.frames[1])

    def test_too_many_large_slices_at_once(self, monkeypatch):
        monkeypatch.setattr(edge_codec.codec.samples, "MAX_OPEN_VOXELS", 3 * 48 * 48)
        info = CineInfo(5, 2, 16, 16, dtype=self.frames.dtype)
        spec = replace(spec_for(self.frames), info=info)
        encoder, decoder = Encoder(spec), Decoder(spec)
        for slice_index in range(3):
            packet = encoder.push(self.frames[0], slice_index)
            decoder.push(packet)
        with pytest.raises(SpecError, match="in work at once"):
            encoder.push(self.frames[0], slice_index=3)
        with pytest.raises(BitstreamError, match="in work at once"):
            decoder.push(replace(packet, slice_index=3))
        encoder.push(self.frames[1], slice_index=0)  # ends slice 0 and makes room
        assert encoder.push(self.frames[0], slice_index=3).slice_index == 3

    @pytest.mark.parametrize("bound", [1.5, True, "2"])
    def test_bounds_that_are_no_integers(self, bound):
        with pytest.raises(SpecError, match="max_error"):
            spec_for(self.frames, max_error=bound)

    def test_a_missing_model(self):
        spec = spec_for(self.frames, model=ModelId.VQVAE)
        with pytest.raises(SpecError, match="vqvae"):
            Encoder(spec).push(self.frames[0])

    def test_floats_with_a_bound(self):
        info = CineInfo(
            1, 1, 4, 4, np.dtype(np.float32), sample_format=SampleFormat.FLOAT32_ORDERED
        )
        with pytest.raises(SpecError, match="lossless"):
            StreamSpec(info, low=0, high=1, max_error=1)
        assert coded_dtype(StreamSpec(info, low=0, high=1)) == np.int32


class TestBrokenOnPurpose:
    """Each of these was made to happen once; the codec must notice, not show a wrong heart."""

    frames = beating(np.random.default_rng(11), 4, 32, 32)

    def packets(self, **options):
        spec = spec_for(self.frames, key_interval=3, **options)
        encoder = Encoder(spec)
        return spec, [encoder.push(frame) for frame in self.frames]

    def test_one_packet_missing(self):
        spec, packets = self.packets()
        decoder = Decoder(spec)
        decoder.push(packets[0])
        with pytest.raises(BitstreamError, match="missing"):
            decoder.push(packets[2])
        np.testing.assert_array_equal(decoder.push(packets[3]), self.frames[3])

    def test_predicted_frame_first(self):
        spec, packets = self.packets()
        with pytest.raises(BitstreamError, match="missing"):
            Decoder(spec).push(packets[1])

    def test_no_flipped_byte_of_a_layer_changes_a_voxel(self):
        spec, packets = self.packets()
        payload = packets[0].layers[LayerId.RESIDUAL]
        refused = 0
        for position in range(len(payload)):
            damaged = bytearray(payload)
            damaged[position] ^= 0x10
            packet = replace(packets[0], layers={LayerId.RESIDUAL: bytes(damaged)})
            try:
                frame = Decoder(spec).push(packet)
            except (BitstreamError, EngineError):
                refused += 1
            else:  # a level beyond the range of voxels is clamped to the same voxel
                np.testing.assert_array_equal(frame, self.frames[0])
        assert refused > 0.99 * len(payload)

    def test_a_wrong_window_scale_is_noticed(self, vqvae):
        spec = spec_for(self.frames, model=ModelId.VQVAE, max_error=None)
        packet = Encoder(spec, vqvae).push(self.frames[0])
        wrong = replace(spec, window_high=2 * spec.window_high)
        with pytest.raises(EngineError, match="not the one that was encoded"):
            Decoder(wrong, vqvae).push(packet)


@pytest.mark.parametrize("effort", list(Effort))
@pytest.mark.parametrize(
    "model", [ModelId.NONE, ModelId.VQVAE, ModelId.DWT_CAL, ModelId.DWT_CAL_VAE]
)
def test_a_restarted_encoder_makes_what_a_new_one_would(effort, model, vqvae):
    frames = beating(np.random.default_rng(5), 6, 40, 33)
    spec = spec_for(frames, effort=effort, model=model)
    spec = replace(spec, info=replace(spec.info, n_phases=0, n_slices=2), key_interval=3)
    loaded = vqvae if model is ModelId.VQVAE else load_model(model, effort=Effort.FAST)
    used = Encoder(spec, loaded)
    for i, frame in enumerate(frames[::-1]):
        used.push(frame, i % 2)
    used.restart()
    new = Encoder(spec, loaded)
    for i, frame in enumerate(frames):
        packet = used.push(frame, 1 - i // 5)
        assert packet == new.push(frame, 1 - i // 5)
    assert packet.sequence == 5


def test_a_finished_slice_begins_again_after_a_restart():
    frames = beating(np.random.default_rng(5), 2, 8, 9)
    encoder = Encoder(spec_for(frames))
    for _ in range(2):
        packets = [encoder.push(frame) for frame in frames]
        assert [(packet.phase_index, packet.key) for packet in packets] == [(0, True), (1, False)]
        with pytest.raises(FrameError, match="all its phases"):
            encoder.push(frames[0])
        encoder.restart()


def test_an_encoder_that_failed_halfway_does_not_restart(monkeypatch):
    frames = beating(np.random.default_rng(5), 2, 8, 9)
    encoder = Encoder(spec_for(frames))
    with monkeypatch.context() as patch:
        patch.setattr(edge_codec.codec.encoder, "frame_check", lambda frame: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            encoder.push(frames[0])
    with pytest.raises(FrameError, match="failed; begin a new stream"):
        encoder.restart()
