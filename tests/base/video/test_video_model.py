"""The base layer of model `video`: what the encoder says is what every decoder makes."""

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from video_samples import ENCODERS, coded, decode, encode, make_frames, make_model, make_spec

from edge_codec.base.video import encoders, model, player
from edge_codec.base.video.libav import load
from edge_codec.base.video.model import VideoModel
from edge_codec.bitstream.header import pack_header, unpack_header
from edge_codec.codec import Decoder, Encoder
from edge_codec.errors import BitstreamError, EngineError, SourceError, SpecError
from edge_codec.spec import Effort

SLICE, FIRST_SLICES, KEY_SLICES = range(10), range(2), range(16, 22)  # NAL unit types of H.265


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("span", [1, 255, 830, 4095, 65535, 2**32 - 1])
def test_decoder_makes_the_base_of_the_encoder(encoder, span):
    video = make_model(encoder, 50)
    spec = make_spec(video, span=span)
    frames = make_frames(3, span=span)
    payloads, bases = encode(video, spec, frames)
    np.testing.assert_array_equal(decode(spec, payloads), bases)
    error = np.array(bases).astype(np.float64) - frames
    assert np.sqrt((error**2).mean()) <= max(0.02 * span, 0.5)


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (64, 64), (63, 65), (65, 67), (40, 131)])
def test_every_size_is_coded(encoder, shape):
    video = make_model(encoder, 50)
    spec = make_spec(video, shape)
    frames = make_frames(3, shape)
    payloads, bases = encode(video, spec, frames)
    assert bases[0].shape == shape
    np.testing.assert_array_equal(decode(spec, payloads), bases)
    assert np.abs(np.array(bases).astype(int) - frames).mean() < 17


@pytest.mark.parametrize("encoder", ENCODERS)
def test_decoding_begins_again_at_any_key_frame(encoder):
    spec, payloads, bases = coded(encoder)
    np.testing.assert_array_equal(decode(spec, payloads, keys=(0, 3)), bases)
    np.testing.assert_array_equal(decode(spec, payloads[3:]), bases[3:])
    coder = VideoModel().coder(spec)
    coder.decode(payloads[0], 0, key=True)
    np.testing.assert_array_equal(coder.decode(payloads[3], 3, key=True), bases[3])
    np.testing.assert_array_equal(coder.decode(payloads[4], 4, key=False), bases[4])


@pytest.mark.parametrize("encoder", ENCODERS)
def test_groups_of_the_same_frames_have_the_same_bits(encoder):
    video = make_model(encoder)
    spec = make_spec(video)
    group = make_frames(4)
    payloads, _ = encode(video, spec, group + group, keys=(0, 4))
    assert payloads[:4] == payloads[4:]


@pytest.mark.parametrize("encoder", ENCODERS)
def test_no_key_frame_but_those_asked_for(encoder):
    """Neither where the picture changes altogether nor after so many frames."""
    video = make_model(encoder, 10)
    spec = make_spec(video)
    frames = [make_frames(1, seed=i // 9)[0] ^ (0x1FF * (i // 9 % 2)) for i in range(270)]
    frames = [np.minimum(frame, 830) for frame in frames]
    payloads, _ = encode(video, spec, frames)
    for index, payload in enumerate(payloads):
        kind = payload[0] >> 1 if "x265" in encoder else payload[0] >> 3
        keys = KEY_SLICES if "x265" in encoder else (1,)  # AV1: a sequence header
        assert (kind in keys) == (index == 0), index


def test_quality_is_better_and_larger():
    size, error = [], []
    for quality in (0, 20, 40, 63):
        video = make_model(quality=quality)
        frames = make_frames()
        payloads, bases = encode(video, make_spec(video), frames)
        size.append(sum(map(len, payloads)))
        error.append(((np.array(bases).astype(float) - frames) ** 2).mean())
    assert size == sorted(size)
    assert error == sorted(error, reverse=True)


def test_quality_may_change_at_a_key_frame():
    video = make_model(quality=10)
    spec = make_spec(video)
    coder = video.coder(spec)
    frame = make_frames(1)[0]
    poor, _ = coder.encode(frame, 0, key=True)
    video.quality = 50
    good, base = coder.encode(frame, 1, key=True)
    assert len(good) > len(poor)
    np.testing.assert_array_equal(decode(spec, [good]), [base])


@pytest.mark.parametrize("encoder", ENCODERS)
def test_slices_together_are_the_slices_alone(encoder):
    video = make_model(encoder)
    spec = make_spec(video)
    with ThreadPoolExecutor(2) as pool:
        coders = [video.coder(spec, pool.map) for _ in range(3)]
        slices = [make_frames(3, seed=seed) for seed in range(3)]
        payloads = [[], [], []]
        for time, frames in enumerate(zip(*slices, strict=True)):
            pairs = video.encode_frames(coders, frames, [time] * 3, [time == 0] * 3)
            for parts, (payload, _) in zip(payloads, pairs, strict=True):
                parts.append(payload)
    for parts, frames in zip(payloads, slices, strict=True):
        assert parts == encode(video, spec, frames)[0]


@pytest.mark.parametrize("max_error", [None, 0, 3])
def test_whole_streams(max_error):
    video = make_model()
    spec = make_spec(video, max_error=max_error, key_interval=2)
    frames = [frame.astype(np.int64) - 5 for frame in make_frames(5)]
    encoder = Encoder(spec, video)
    packets = [encoder.push(frame) for frame in frames]
    decoder = Decoder(unpack_header(pack_header(spec)), VideoModel())
    decoded = [decoder.push(packet) for packet in packets]
    if max_error is not None:
        assert np.abs(np.array(decoded) - frames).max() <= max_error
    encoder.restart()
    assert [encoder.push(frame).layers for frame in frames] == [p.layers for p in packets]


def test_other_encoders_than_the_header_says_are_refused():
    video = make_model("x265")
    spec = make_spec(video)
    with pytest.raises(EngineError, match="header says"):
        make_model("svt-av1").coder(spec).encode(make_frames(1)[0], 0, key=True)


def test_encoders_that_are_not_there(monkeypatch):
    with pytest.raises(SpecError, match="svt-av1"):
        make_spec(make_model("h264"))
    with pytest.raises(SpecError, match="0 to 63"):
        make_spec(make_model(quality=64))
    setup = encoders.encoder_setup("nvenc", 0, 32, (64, 64))
    absent = replace(setup, library="nonesuch")
    monkeypatch.setattr(model, "encoder_setup", lambda *_: absent)
    with pytest.raises(EngineError, match="nonesuch"):
        make_spec(make_model("nvenc"))


def test_frames_that_are_held_back_are_an_error(monkeypatch):
    def with_lookahead(*arguments):
        setup = encoders.encoder_setup(*arguments)
        options = {k: v for k, v in setup.options.items() if k != "tune"}
        return replace(setup, options=options)

    monkeypatch.setattr(model, "encoder_setup", with_lookahead)
    video = make_model("x265")
    with pytest.raises(EngineError, match="0 packets"):
        encode(video, make_spec(video), make_frames(1))


@pytest.mark.parametrize("error", [ValueError, "FFmpegError"])
def test_frames_that_an_encoder_refuses_are_an_error_of_ours(monkeypatch, error):
    """PyAV raises either, as FFmpeg's number of the error has a name in Python or not."""
    kind = error if isinstance(error, type) else getattr(load(), error)
    fault = kind("refused") if kind is ValueError else kind(22, "refused")
    video = make_model()
    coder = video.coder(make_spec(video))
    frame = make_frames(1)[0]
    coder.encode(frame, 0, key=True)

    class Context:
        def encode(self, frame):
            raise fault

    monkeypatch.setattr(coder._encoder, "_context", Context())
    with pytest.raises(EngineError, match="libx265 failed on frame 1: refused"):
        coder.encode(frame, 1, key=False)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_an_effort_is_that_of_the_encoder_whatever_the_stream_says(encoder):
    frames = make_frames(3)
    payloads = []
    for effort in (Effort.FAST, Effort.DEFAULT):
        video = VideoModel(encoder, 32, effort)
        fast, best = (encode(video, make_spec(video, effort=e), frames)[0] for e in
                      (Effort.FAST, Effort.BEST))  # fmt: skip
        assert fast == best
        payloads.append(fast)
    assert payloads[0] != payloads[1]


def test_sizes_that_an_encoder_refuses_are_named():
    with pytest.raises(EngineError, match=r"frames of 64x60000"):
        make_spec(make_model("svt-av1"), (1, 60000))


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(EngineError, match="edge-codec\\[video\\]"):
        VideoModel()


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_players_see_the_base_layer(tmp_path, encoder, suffix):
    spec, payloads, bases = coded(encoder)
    path = tmp_path / f"slice{suffix}"
    player.write_player_file(spec, payloads, path)
    with load().open(str(path)) as file:
        shown = list(file.decode(video=0))
    assert [frame.key_frame for frame in shown] == [True, False, False, True, False, False]
    up = (10 if encoder != "x265" else 12) - (830).bit_length()
    for frame, base in zip(shown, bases, strict=True):
        plane = np.frombuffer(frame.planes[0], np.uint16).reshape(frame.height, -1)
        levels = plane[:, : frame.width].astype(int)
        np.testing.assert_array_equal(np.minimum((levels + (1 << up >> 1)) >> up, 830), base)


def test_player_times_are_those_of_the_phases(tmp_path):
    spec, payloads, _ = coded("x265")
    times = tuple(30.5 * i for i in range(6))
    timed = replace(spec, info=replace(spec.info, trigger_time_ms=times))
    for one, due in ((timed, 0.0305), (spec, 0.04)):
        player.write_player_file(one, payloads, tmp_path / "slice.mkv", force=True)
        with load().open(str(tmp_path / "slice.mkv")) as file:
            shown = [frame.time for frame in file.decode(video=0)]
        np.testing.assert_allclose(np.diff(shown), due, atol=0.001)


@pytest.mark.parametrize("last", [-1.0, 0.0, 1e6, 1e300])
def test_times_that_no_player_can_show_count_as_unknown(tmp_path, last):
    spec, payloads, _ = coded("x265")
    odd = replace(spec, info=replace(spec.info, trigger_time_ms=(0.0, last)))
    for one in (odd, spec):
        player.write_player_file(one, payloads, tmp_path / f"{one is odd}.mp4")
    assert (tmp_path / "True.mp4").read_bytes() == (tmp_path / "False.mp4").read_bytes()


def test_player_files_that_cannot_be(tmp_path):
    spec, payloads, _ = coded("x265")
    with pytest.raises(SourceError, match="mkv"):
        player.write_player_file(spec, payloads, tmp_path / "slice.nii")
    with pytest.raises(SourceError, match="cannot be written"):
        player.write_player_file(spec, payloads, tmp_path / "none" / "slice.mp4")
    with pytest.raises(BitstreamError):
        player.write_player_file(spec, [b"", *payloads], tmp_path / "slice.mp4")


def of_another_layer(payload):
    """Return an access unit whose slice is of layer 1, which its demuxer leaves out."""
    return payload[:1] + bytes([payload[1] ^ 8]) + payload[2:]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_players_get_no_video_of_another_kind_than_the_stream(tmp_path, suffix):
    spec, payloads, _ = coded("x265")
    larger = replace(spec, info=replace(spec.info, rows=66))
    broken = replace(spec, model_data=spec.model_data[:1] + bytes(40))
    lost = [payloads[0], of_another_layer(payloads[1]), *payloads[2:]]
    for one, data, message in (
        (larger, payloads, "frames of 64x72 instead of 66x72"),
        (broken, payloads, "the stream's video is damaged"),
        (spec, lost, "6 video payloads give 5 frames"),
    ):
        with pytest.raises(BitstreamError, match=message):
            player.write_player_file(one, data, tmp_path / f"slice{suffix}")
    assert not list(tmp_path.iterdir())
