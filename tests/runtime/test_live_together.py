"""Frames of several slices that are coded together."""

import threading
from dataclasses import replace

import numpy as np
import pytest
from live_samples import (
    PATIENCE_S,
    FakeCoder,
    FakeFactory,
    Gate,
    frames,
    no_thread_is_left,
    notes,
    numbered,
    phases,
    wait_for,
)

from edge_codec.bitstream.packet import LayerId
from edge_codec.codec import Encoder
from edge_codec.errors import StreamError
from edge_codec.runtime import warm_up as module
from edge_codec.runtime.coder_factory import CoderFactory
from edge_codec.runtime.live_options import LiveOptions
from edge_codec.runtime.models import load_model
from edge_codec.runtime.pipeline import Pipeline
from edge_codec.runtime.warm_up import TOGETHER, WarmTimes, warm_up
from edge_codec.spec import CineInfo, ModelId, StreamSpec

__all__ = ["no_thread_is_left"]
TIMES = WarmTimes(before_ns=0, fast_ns=0, n_voxels=0, together=3)
OPTIONS = LiveOptions(n_slices=4, queue_frames=12, budget_ms=0.0)


class TogetherCoder(FakeCoder):
    def push_many(self, frames, metadata=(), *, keys=(), give_up_ns=None):
        self.factory.runs.append([slice_index for slice_index, _ in frames])
        headers = metadata or [b""] * len(frames)
        return [
            self.push(frame, index, header, key=index in keys, give_up_ns=give_up_ns)
            for (index, frame), header in zip(frames, headers, strict=True)
        ]


class TogetherFactory(FakeFactory):
    def __init__(self, script=lambda frame: None):
        super().__init__(script, TIMES)
        self.runs = []

    def prepare(self, options):
        return lambda spec, mark, resume=None: TogetherCoder(self, spec, mark)


@pytest.fixture
def script():
    """Keep the worker busy with frame 0 until it is told to go on."""
    go_on = threading.Event()

    def wait(frame):
        if frame[0, 0] == 0:
            assert go_on.wait(PATIENCE_S)

    wait.go_on = go_on
    return wait


def test_as_many_as_pay_are_coded_together_where_they_are_of_different_slices(script):
    gate, events, factory = Gate(), [], TogetherFactory(script)
    gate.open.set()
    with Pipeline(factory=factory, listener=events.append) as pipeline:
        stream = pipeline.open("a", replace(OPTIONS, budget_ms=60_000.0), [gate])
        stream.push(numbered(0), 0)
        wait_for(stream._changed, lambda: stream._working == 1)
        # 1 2 3 together, 0 alone as 0 comes again, then 0 1 2, and two are too few.
        order = [1, 2, 3, 0, 0, 1, 2, 3, 1]
        for i, slice_index in enumerate(order):
            stream.push(numbered(i + 1), slice_index)
        stream.request_key(1)
        script.go_on.set()
        stream.flush(PATIENCE_S)
    assert factory.runs == [[1, 2, 3], [0, 1, 2]]
    assert all(give_up_ns is not None for _, _, _, give_up_ns in factory.calls)
    assert [packet.slice_index for _, packet, _ in gate.sent] == [0, *order]
    assert [packet.layers[LayerId.METADATA] for _, packet, _ in gate.sent] == [
        b"frame %d" % i for i in range(10)
    ]
    assert phases(gate, 1) == [0, 1, 2]
    assert [packet.key for _, packet, _ in gate.sent] == [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    for event in events:
        assert sum(event.steps_ns.values()) == event.latency_ns
        assert min(event.steps_ns.values()) >= 0
    assert len(notes(gate)) == 10
    assert stream._queue.pool.lent == 0
    assert stream._queue.pool.made <= 12 + 3


def test_frames_of_another_kind_are_not_coded_together(script):
    gate, factory = Gate(), TogetherFactory(script)
    gate.open.set()
    wide = np.full((4, 5), 7, np.int16)
    with Pipeline(factory=factory) as pipeline:
        stream = pipeline.open("a", OPTIONS, [gate])
        stream.push(numbered(0), 0)
        wait_for(stream._changed, lambda: stream._working == 1)
        for slice_index, frame in ((1, numbered(1)), (2, wide), (3, wide)):
            stream.push(frame, slice_index)
        script.go_on.set()
        stream.flush(PATIENCE_S)
    assert factory.runs == [[2, 3]]
    assert [segment.number for segment, _, _ in gate.sent] == [0, 0, 1, 1]


def test_a_failure_loses_all_that_were_coded_together(script):
    def fail(frame):
        script(frame)
        if frame[0, 0] == 2:
            raise ValueError("defect")

    gate = Gate()
    gate.open.set()
    with Pipeline(factory=TogetherFactory(fail)) as pipeline:
        stream = pipeline.open("a", OPTIONS, [gate])
        stream.push(numbered(0), 0)
        wait_for(stream._changed, lambda: stream._working == 1)
        for i in (1, 2, 3):
            stream.push(numbered(i), i)
        script.go_on.set()
        with pytest.raises(StreamError, match="defect"):
            stream.flush(PATIENCE_S)
    counts = stream.counts
    assert counts["failed"] >= 3
    assert counts["sent"] + counts["failed"] == counts["pushed"] == 4
    assert stream._queue.pool.lent == 0


def test_packets_are_those_of_frames_coded_one_by_one():
    options = replace(
        OPTIONS, model=ModelId.VQVAE, max_error=2, backend="onnxruntime", threads=1, queue_frames=16
    )
    images = frames(12, rows=16, columns=16)

    class Factory(CoderFactory):
        def warm_up(self, make_coder, options, spec):
            return replace(TIMES, together=4)

    gate = Gate()
    gate.open.set()
    with Pipeline(factory=Factory(1)) as pipeline:
        stream = pipeline.open("a", options, [gate])
        for i, image in enumerate(images):
            stream.push(image, i % 4)
    model = load_model(ModelId.VQVAE, backend="onnxruntime", threads=1)
    encoder = Encoder(gate.segments[0].spec, model)
    for i, (image, (_, packet, _)) in enumerate(zip(images, gate.sent, strict=True)):
        expected = encoder.push(image, i % 4)
        layers = {layer: data for layer, data in packet.layers.items() if layer != LayerId.LIVE}
        assert layers == expected.layers
        assert packet.key == expected.key


@pytest.mark.parametrize(
    ("taken_ns", "n_slices", "together"), [(1, 4, TOGETHER), (10**12, 4, 1), (1, 3, 1)]
)
def test_what_pays_is_measured(monkeypatch, taken_ns, n_slices, together):
    monkeypatch.setattr(module, "_time_together", lambda *_: taken_ns)
    info = CineInfo(n_slices, 0, 4, 4, np.dtype(np.int16))
    spec = StreamSpec(info, 0, 99, model=ModelId.VQVAE, max_error=1)
    factory = TogetherFactory()
    assert warm_up(factory.prepare(None), spec).together == together
