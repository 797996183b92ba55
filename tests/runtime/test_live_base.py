"""Live streams over the base layers that a stream has for itself: `dwt-cal` and `video`."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from live_samples import no_thread_is_left, phases

from edge_codec.bitstream.packet import LayerId
from edge_codec.cli import Console, main
from edge_codec.codec import BASE_CHECK, Decoder
from edge_codec.engine import no_mark
from edge_codec.runtime import coder_factory
from edge_codec.runtime.base_rate import USUAL, BaseRate
from edge_codec.runtime.coder_factory import CoderFactory
from edge_codec.runtime.live_options import LiveOptions
from edge_codec.runtime.live_spec import is_like
from edge_codec.runtime.models import load_model, make_model_data
from edge_codec.runtime.packet_list import PacketList
from edge_codec.runtime.phantom import heart
from edge_codec.runtime.pipeline import Pipeline
from edge_codec.spec import CineInfo, Effort, ModelId, StreamSpec

__all__ = ["no_thread_is_left"]

ROWS, COLUMNS = 48, 40
IMAGES = heart(9, ROWS, COLUMNS, np.dtype(np.int16))


def decode(sink: PacketList) -> list[np.ndarray]:
    decoders = {
        segment.number: Decoder(segment.spec, load_model(segment.spec.model, decode_only=True))
        for segment in sink.segments
    }
    return [decoders[segment.number].push(packet) for segment, packet, _ in sink.sent]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("model", [ModelId.DWT_CAL, ModelId.VIDEO, ModelId.DWT_CAL_VAE])
def test_streams_come_back_bit_by_bit(model, workers):
    sinks = [PacketList() for _ in range(2)]
    options = LiveOptions(model, 0, n_slices=2, key_interval=4, queue_frames=3, budget_ms=0)
    with Pipeline(workers=workers) as pipeline:
        streams = [pipeline.open(f"s{i}", options, [sink]) for i, sink in enumerate(sinks)]
        for number, image in enumerate(IMAGES):
            for i, stream in enumerate(streams):
                stream.push(image + np.int16(i), slice_index=number % 2)
    for i, sink in enumerate(sinks):
        for image, found in zip(IMAGES, decode(sink), strict=True):
            np.testing.assert_array_equal(found, image + i)
        assert phases(sink, 0) == [0, 1, 2, 3, 4]
        assert [p.phase_index for _, p, _ in sink.sent if p.key] == [0, 0, 4]


@pytest.mark.parametrize("model", [ModelId.DWT_CAL, ModelId.VIDEO, ModelId.DWT_CAL_VAE])
def test_a_base_alone_is_near_and_small(model):
    sink = PacketList()
    options = LiveOptions(model, None, budget_ms=0, rate=BaseRate(40))
    with Pipeline() as pipeline:
        stream = pipeline.open("s", options, [sink])
        for image in IMAGES:
            stream.push(image)
    error = np.stack(decode(sink)).astype(float) - IMAGES
    assert 0 < np.sqrt((error**2).mean()) < 30
    for _, packet, _ in sink.sent:
        assert set(packet.layers) == {LayerId.BASE, LayerId.LIVE}
        assert len(packet.layers[LayerId.BASE]) < ROWS * COLUMNS


@pytest.mark.parametrize("model", [ModelId.DWT_CAL, ModelId.VIDEO, ModelId.DWT_CAL_VAE])
def test_other_frames_begin_a_segment_and_receivers_ask_for_key_frames(model):
    sink = PacketList()
    with Pipeline() as pipeline:
        stream = pipeline.open("s", LiveOptions(model, 0, budget_ms=0), [sink])
        for image in IMAGES[:2]:
            stream.push(image)
        stream.flush()
        stream.request_key()
        stream.push(IMAGES[2])
        stream.push(IMAGES[3] * np.int16(8))  # beyond the bounds
        stream.push(IMAGES[4, :-3])  # of another size
    assert [(s.number, p.key) for s, p, _ in sink.sent] == [
        (0, True), (0, False), (0, True), (1, True), (2, True),
    ]  # fmt: skip
    expected = [*IMAGES[:3], IMAGES[3] * 8, IMAGES[4, :-3]]
    for image, found in zip(expected, decode(sink), strict=True):
        np.testing.assert_array_equal(found, image)
    bounds, size = (segment.spec for segment in sink.segments[1:])
    assert is_like(sink.segments[0].spec, bounds)
    assert not is_like(bounds, size)


def test_bits_per_frame_are_kept_to_and_each_segment_begins_anew():
    sink = PacketList()
    options = LiveOptions(ModelId.DWT_CAL, None, budget_ms=0, rate=BaseRate(bits_per_frame=2000))
    with Pipeline() as pipeline:
        stream = pipeline.open("s", options, [sink])
        for image in np.concatenate([IMAGES] * 4):
            stream.push(image)
    sizes = [len(p.layers[LayerId.BASE]) - BASE_CHECK.size for _, p, _ in sink.sent]
    assert 0.5 * 2000 < 8 * np.mean(sizes) < 1.5 * 2000


@pytest.mark.parametrize("model", [ModelId.DWT_CAL, ModelId.VIDEO, ModelId.DWT_CAL_VAE])
def test_the_base_is_searched_for_fast_whatever_the_effort(model):
    """The effort is that of the residual layer, which is given up where time is short."""
    bases, residuals = [], []
    for effort in (Effort.FAST, Effort.BEST):
        sink = PacketList()
        with Pipeline() as pipeline:
            stream = pipeline.open("s", LiveOptions(model, 0, effort, budget_ms=0), [sink])
            for image in IMAGES[:3]:
                stream.push(image)
        bases.append([packet.layers[LayerId.BASE] for _, packet, _ in sink.sent])
        residuals.append([packet.layers[LayerId.RESIDUAL] for _, packet, _ in sink.sent])
    assert bases[0] == bases[1]
    assert residuals[0] != residuals[1]


def test_a_fixed_description_gets_the_model_data_of_the_live_encoder():
    data = make_model_data(ModelId.VIDEO, (ROWS, COLUMNS), USUAL, Effort.DEFAULT)
    info = CineInfo(1, 0, ROWS, COLUMNS, IMAGES.dtype)
    spec = StreamSpec(info, 0, 2047, ModelId.VIDEO, model_data=data)
    sink = PacketList()
    with Pipeline() as pipeline:
        pipeline.open("s", LiveOptions(budget_ms=0), [sink], spec=spec).push(IMAGES[0])
    found = sink.segments[0].spec
    assert found.model_data != data
    assert replace(found, model_data=data) == spec
    np.testing.assert_array_equal(decode(sink)[0], IMAGES[0])


def test_models_of_a_stream_are_loaded_for_each_segment_with_its_choices(monkeypatch):
    calls = []

    def load(model, **options):
        calls.append(options)
        return load_model(model, **options)

    monkeypatch.setattr(coder_factory, "load_model", load)
    factory, rate = CoderFactory(workers=1), BaseRate(7)
    make_coder = factory.prepare(LiveOptions(ModelId.DWT_CAL, None, rate=rate))
    assert not factory._models
    spec = StreamSpec(
        CineInfo(1, 0, ROWS, COLUMNS, IMAGES.dtype), 0, 2047, ModelId.DWT_CAL, max_error=None
    )
    payloads = [
        make_coder(spec, no_mark).push(IMAGES[0]).layers[LayerId.BASE] for _ in range(2)
    ]  # fmt: skip
    assert payloads[0] == payloads[1]
    assert len(calls) == 3  # once to see that it is there
    assert all(options["rate"] is rate for options in calls)
    assert all(options["effort"] is Effort.FAST for options in calls[1:])
    factory.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--quality", "3"], "no choice of quality"),
        (["--model", "video", "--bits-per-frame", "900"], "does not keep to bits per frame"),
        (["--model", "dwt-cal", "--quality", "99"], "integer of 0 to 63"),
    ],
)
def test_serving_with_options_that_make_no_sense(options, message):
    console = Console(io.StringIO(), io.StringIO())
    assert main(["serve", "--listen", "127.0.0.1:0", "--once", *options], console) != 0
    assert message in console.err.getvalue()
