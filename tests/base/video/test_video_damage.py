"""Headers and payloads of model `video` from outside: an error of ours, or a frame of its size."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from video_samples import ENCODERS, coded, decode, encode, make_frames, make_model, make_spec

from edge_codec.base.video.formats import FORMATS
from edge_codec.base.video.model import VideoModel
from edge_codec.errors import BitstreamError


@pytest.mark.parametrize("encoder", ENCODERS)
@settings(max_examples=120, deadline=None, derandomize=True)
@given(st.data())
def test_damage_is_an_error_or_a_frame(encoder, data):
    spec, payloads, bases = coded(encoder)
    payloads = list(payloads[:3])
    which = data.draw(st.integers(0, 2))
    damaged = bytearray(payloads[which])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(damaged)))
        cut = data.draw(st.integers(0, 9))
        damaged[at : at + cut] = data.draw(st.binary(max_size=9))
    payloads[which] = bytes(damaged)
    coder = VideoModel().coder(spec)
    for index, payload in enumerate(payloads):
        try:
            frame = coder.decode(payload, index, key=index == 0)
        except BitstreamError:
            continue
        assert frame.shape == spec.info.frame_shape
        assert frame.max() <= spec.high - spec.low
        if index < which:
            np.testing.assert_array_equal(frame, bases[index])
    # And nothing of it is left at the next key frame.
    np.testing.assert_array_equal(coder.decode(coded(encoder)[1][3], 3, key=True), bases[3])


@pytest.mark.parametrize("encoder", ENCODERS)
def test_payloads_that_are_not_one_frame(encoder):
    """They are refused before a decoder sees them."""
    spec, payloads, _ = coded(encoder)
    form = FORMATS[spec.model_data[0]]
    prefix = form.prefix
    sets = spec.model_data[1:]
    for payload in (
        b"",
        payloads[0] + prefix + payloads[1],
        payloads[0] + prefix + payloads[0],
        payloads[0] + sets if sets else payloads[0] + b"\x0a\x01\x00\x12\x01",
        sets[4:] + prefix + payloads[0] if sets else payloads[0] + b"\x2a\x00",
    ):
        with pytest.raises(BitstreamError):
            form.frame_data(payload)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_predicted_frame_needs_its_group(encoder):
    spec, payloads, _ = coded(encoder)
    with pytest.raises(BitstreamError, match="before any key frame"):
        decode(spec, payloads[1:2], keys=())
    with pytest.raises(BitstreamError):
        decode(spec, payloads[1:2])
    coder = VideoModel().coder(spec)
    coder.decode(payloads[0], 0, key=True)
    with pytest.raises(BitstreamError):
        coder.decode(b"", 1, key=False)
    with pytest.raises(BitstreamError, match="before any key frame"):
        coder.decode(payloads[1], 1, key=False)


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("shape", [(64, 73), (72, 64), (64, 64), (1024, 1024)])
def test_frames_of_another_size_are_refused(encoder, shape):
    spec, _, _ = coded(encoder)
    video = make_model(encoder, 5)
    other = make_spec(video, shape)
    payloads, _ = encode(video, other, make_frames(1, shape))
    forged = replace(spec, model_data=other.model_data)
    # What is much larger is not even decoded.
    reason = "cannot be decoded" if shape == (1024, 1024) else "64x72 expected"
    with pytest.raises(BitstreamError, match=reason):
        decode(forged, payloads)


def test_frames_of_another_format_are_refused():
    spec, payloads, _ = coded("x265")
    forged = replace(spec, model_data=b"\2" + spec.model_data[1:])
    with pytest.raises(BitstreamError, match="gray12le 64x72"):
        decode(forged, payloads)


def test_headers_of_unknown_formats_are_refused():
    spec, payloads, _ = coded("x265")
    for data in (b"\3", b"\xff" + spec.model_data[1:]):
        with pytest.raises(BitstreamError, match="video format"):
            VideoModel().coder(replace(spec, model_data=data))
    with pytest.raises(BitstreamError):
        decode(replace(spec, model_data=b"\0"), payloads[:1])


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.integers(0, 200), st.binary(max_size=9), st.integers(0, 9))
def test_damaged_parameter_sets_are_an_error_or_frames(at, patch, cut):
    spec, payloads, _ = coded("x265")
    sets = bytearray(spec.model_data[1:])
    sets[at : at + cut] = patch
    try:
        frames = decode(replace(spec, model_data=b"\0" + bytes(sets)), payloads[:2])
    except BitstreamError:
        return
    assert all(frame.shape == spec.info.frame_shape for frame in frames)
