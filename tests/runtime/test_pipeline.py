"""Live streams through the whole pipeline."""

import threading
from collections import Counter

import numpy as np
import pytest
from live_samples import (
    PATIENCE_S,
    FakeFactory,
    all_same,
    decode,
    frames,
    no_thread_is_left,
    notes,
    phases,
)

from edge_codec.bitstream.packet import LayerId
from edge_codec.errors import SpecError, StreamError
from edge_codec.io.samples import to_voxels
from edge_codec.runtime.frame_event import FrameEvent, FrameOutcome
from edge_codec.runtime.live_options import LiveOptions
from edge_codec.runtime.packet_list import PacketList
from edge_codec.runtime.pipeline import Pipeline
from edge_codec.spec import Effort, ModelId

__all__ = ["no_thread_is_left"]

FAST = LiveOptions(effort=Effort.FAST)
MS = 1_000_000


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("effort", [Effort.FAST, Effort.DEFAULT])
def test_several_streams_come_back_in_order_and_bit_by_bit(workers, effort):
    images = frames(10, rows=200, columns=24)  # two bands
    sinks = [PacketList() for _ in range(4)]
    events: list[FrameEvent] = []
    options = LiveOptions(effort=effort, n_slices=2, queue_frames=3, key_interval=4)
    with Pipeline(workers=workers, listener=events.append) as pipeline:
        streams = [pipeline.open(f"s{i}", options, [sink]) for i, sink in enumerate(sinks)]

        def produce(stream, shift):
            for i, image in enumerate(images):
                stream.push(image + shift, slice_index=i % 2, metadata=b"x%d" % i)

        producers = [
            threading.Thread(target=produce, args=(stream, i)) for i, stream in enumerate(streams)
        ]
        for producer in producers:
            producer.start()
        for producer in producers:
            producer.join(PATIENCE_S)
    for i, (stream, sink) in enumerate(zip(streams, sinks, strict=True)):
        assert all_same(decode(sink), images + i)
        assert [p.sequence for _, p, _ in sink.sent] == list(range(10))
        assert phases(sink, 0) == phases(sink, 1) == list(range(5))
        assert [p.layers[LayerId.METADATA] for _, p, _ in sink.sent] == [
            b"x%d" % n for n in range(10)
        ]
        assert all(packet.pack() == data for _, packet, data in sink.sent)
        assert (sink.ended, sink.aborted) == (1, 0)
        assert stream.counts == {
            "pushed": 10,
            "sent": 10,
            "dropped": 0,
            "refused": 0,
            "failed": 0,
        }
    assert Counter(event.stream for event in events) == {f"s{i}": 10 for i in range(4)}


def test_a_frame_may_be_used_again_once_it_is_pushed():
    sink, image = PacketList(), np.zeros((9, 9), np.int16)
    with Pipeline() as pipeline:
        stream = pipeline.open("a", FAST, [sink])
        for i in range(20):
            image[:] = i
            stream.push(image)
    assert [int(frame[0, 0]) for frame in decode(sink)] == list(range(20))


def test_an_event_tells_where_the_time_went():
    sink, events = PacketList(), []
    with Pipeline(listener=events.append) as pipeline:
        stream = pipeline.open("a", LiveOptions(budget_ms=7.0, effort=Effort.FAST), [sink])
        for image in frames(3):
            stream.push(image)
        stream.push(frames(1)[0], acquired_ns=1)
    for i, event in enumerate(events):
        assert list(event.steps_ns) == ["wait", "normalize", "code", "pack", "hand_over", "send"]
        assert sum(event.steps_ns.values()) == event.latency_ns
        assert (event.sequence, event.phase_index, event.key) == (i, i, i == 0)
        assert event.outcome is FrameOutcome.SENT
        assert event.packet_bytes == len(sink.sent[i][2])
        assert event.frame_bytes == 24 * 20 * 2
        assert (event.deadline_ns, event.bands, event.fast_bands) == (7 * MS, 1, 0)
    assert events[-1].missed
    assert notes(sink)[-1].late


def test_every_sink_gets_every_packet():
    sinks = [PacketList(), PacketList()]
    with Pipeline() as pipeline:
        stream = pipeline.open("a", FAST, sinks)
        for image in frames(3):
            stream.push(image)
    assert sinks[0].sent == sinks[1].sent
    assert len(sinks[0].sent) == 3


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int32, np.uint32, np.int64])
def test_integers_of_every_size(dtype):
    sink, images = PacketList(), frames(3, dtype=dtype)
    with Pipeline() as pipeline:
        stream = pipeline.open("a", FAST, [sink])
        for image in images:
            stream.push(image)
    assert all_same(decode(sink), images)
    assert sink.segments[0].spec.info.dtype == dtype


def test_floats_come_back_bit_by_bit():
    whole, fraction = frames(1)[0].astype(np.float32), frames(1)[0].astype(np.float32) + 0.25
    sink = PacketList()
    with Pipeline() as pipeline:
        stream = pipeline.open("a", FAST, [sink])
        for image in (whole, fraction, whole):
            stream.push(image)
    assert len(sink.segments) == 2  # whole numbers are ordered floats, too
    back = [
        to_voxels(samples, segment.spec.info)
        for samples, (segment, _, _) in zip(decode(sink), sink.sent, strict=True)
    ]
    same = zip(back, (whole, fraction, whole), strict=True)
    assert all(a.tobytes() == b.tobytes() for a, b in same)


def test_floats_of_all_kinds_in_turn_come_back_bit_by_bit():
    values = (0.5, 2.0**24 + 1, -0.0, 3.0, 2.0**24 + 1, 0.25)  # the odd one is no float32
    images = [np.array([[value, 7.0]]) for value in values]
    sink = PacketList()
    with Pipeline() as pipeline:
        stream = pipeline.open("a", FAST, [sink])
        for image in images:
            stream.push(image)
    back = [
        to_voxels(samples, segment.spec.info)
        for samples, (segment, _, _) in zip(decode(sink), sink.sent, strict=True)
    ]
    assert [a.tobytes() for a in back] == [b.tobytes() for b in images]


@pytest.mark.parametrize("name", ["", ".", "..", ".a", "a/b", "a b", "ä", "x" * 65, "a\n"])
def test_names_that_are_no_names_of_folders_are_refused(name):
    with Pipeline(factory=FakeFactory()) as pipeline, pytest.raises(SpecError, match="stream name"):
        pipeline.open(name, LiveOptions(), [])


def test_a_name_is_free_again_once_its_stream_is_closed():
    with Pipeline(factory=FakeFactory()) as pipeline:
        stream = pipeline.open("a", LiveOptions(), [])
        with pytest.raises(StreamError, match="a stream 'a' is open already"):
            pipeline.open("a", LiveOptions(), [])
        stream.close()
        assert pipeline.depths() == {}
        pipeline.open("a", LiveOptions(), [])


def test_a_name_that_is_taken_meanwhile_lets_go_of_the_file_to_be_gone_on_with():
    class Slow(FakeFactory):
        def warm_up(self, make_coder, options, spec):
            if options.n_slices == 2:
                pipeline.open("a", LiveOptions(), [])
            return super().warm_up(make_coder, options, spec)

    class Nothing(PacketList):
        def last_spec(self, stream):
            return None

    resume = Nothing()
    with Pipeline(factory=Slow()) as pipeline:
        with pytest.raises(StreamError, match="open already"):
            pipeline.open("a", LiveOptions(n_slices=2), [resume], resume=resume)
        assert resume.aborted == 1


@pytest.mark.parametrize("workers", [0, -1, 1000])
def test_workers_are_a_number_of_threads(workers):
    with pytest.raises(SpecError, match="workers"):
        Pipeline(workers=workers)


def test_streams_of_one_pipeline_share_a_model():
    images = frames(3, rows=16, columns=16)
    sinks = [PacketList(), PacketList()]
    options = LiveOptions(
        model=ModelId.VQVAE, max_error=4, backend="onnxruntime", threads=1, budget_ms=0.0
    )
    with Pipeline() as pipeline:
        streams = [pipeline.open(f"s{i}", options, [sink]) for i, sink in enumerate(sinks)]
        assert len(pipeline._factory._models) == 1
        for image in images:
            for stream in streams:
                stream.push(image)
    assert sinks[0].sent[0][1].layers.keys() == {
        LayerId.BASE,
        LayerId.RESIDUAL,
        LayerId.LIVE,
    }
    codec_layers = [
        [
            (packet.layers[LayerId.BASE], packet.layers[LayerId.RESIDUAL])
            for _, packet, _ in sink.sent
        ]
        for sink in sinks
    ]
    assert codec_layers[0] == codec_layers[1]
