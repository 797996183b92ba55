"""Frames that change in the middle of a stream, or cannot be coded."""

import weakref
from dataclasses import replace

import numpy as np
import pytest
from live_samples import (
    PATIENCE_S,
    FakeCoder,
    FakeFactory,
    all_same,
    decode,
    frames,
    no_thread_is_left,
    numbered,
    phases,
)

from edge_codec.errors import FrameError
from edge_codec.runtime.frame_event import FrameOutcome
from edge_codec.runtime.live_options import LiveOptions
from edge_codec.runtime.packet_list import PacketList
from edge_codec.runtime.pipeline import Pipeline
from edge_codec.spec import CineInfo, Effort, StreamSpec

__all__ = ["no_thread_is_left"]

FAST = LiveOptions(effort=Effort.FAST)
MS = 1_000_000


def test_a_change_of_size_type_or_range_begins_a_segment():
    small, sink = frames(2), PacketList()
    series = [*small, *frames(2, rows=30), *frames(1, rows=30, dtype=np.int32), *(8 * small)]
    events = []
    with Pipeline(listener=events.append) as pipeline:
        stream = pipeline.open("a", FAST, [sink])
        for image in series:
            stream.push(image)
        stream.push(100 * small[0])
    assert [segment.number for segment, _, _ in sink.sent] == [0, 0, 1, 1, 2, 3, 3, 4]
    assert [segment.number for segment in sink.segments] == [0, 1, 2, 3, 4]
    assert [event.segment for event in events] == [0, 0, 1, 1, 2, 3, 3, 4]
    assert sink.ended == 5
    assert [p.key for _, p, _ in sink.sent] == [1, 0, 1, 0, 1, 1, 0, 1]
    assert [p.phase_index for _, p, _ in sink.sent] == [0, 1, 0, 1, 0, 0, 1, 0]
    assert all_same(decode(sink), [*series, 100 * small[0]])


def test_growing_values_begin_few_segments():
    sink = PacketList()
    with Pipeline() as pipeline:
        stream = pipeline.open("a", FAST, [sink])
        for high in range(100, 4000, 13):
            stream.push(np.full((3, 3), high, np.int16))
    assert len(sink.segments) <= 5


def test_a_fixed_description_refuses_what_does_not_fit():
    info = CineInfo(2, 3, 4, 4, np.dtype(np.int16))
    spec = StreamSpec(info, low=0, high=50, effort=Effort.FAST)
    sink = PacketList()
    with Pipeline() as pipeline:
        stream = pipeline.open("a", LiveOptions(), [sink], spec=spec)
        for wrong in (numbered(51), np.zeros((4, 5), np.int16), np.zeros((4, 4), np.uint16)):
            with pytest.raises(FrameError, match="the stream was opened for"):
                stream.push(wrong)
        for i in range(6):
            stream.push(numbered(i), i % 2)
        with pytest.raises(FrameError, match="slice 1 has all its 3 phases already"):
            stream.push(numbered(1), 1)
        with pytest.raises(FrameError, match="slice 2 of a stream of 2 slices"):
            stream.push(numbered(1), 2)
        stream.flush(PATIENCE_S)
        assert stream.counts["refused"] == 5
    assert [segment.spec for segment in sink.segments] == [spec]
    assert (len(sink.sent), sink.ended, sink.aborted) == (6, 1, 0)


def test_a_segment_without_the_frames_that_it_promises_is_left_as_a_cut_one():
    sink = PacketList()
    with Pipeline() as pipeline:
        stream = pipeline.open("a", LiveOptions(n_phases=3), [sink])
        stream.push(numbered(1))
        stream.push(numbered(2))
    assert (sink.ended, sink.aborted) == (0, 1)


def test_frames_beyond_the_promised_phases_begin_a_segment():
    sink = PacketList()
    with Pipeline() as pipeline:
        stream = pipeline.open("a", LiveOptions(n_phases=2), [sink])
        for i in range(4):
            stream.push(numbered(i))
    assert [segment.spec.info.n_phases for segment in sink.segments] == [2, 0]
    assert phases(sink, 0) == [0, 1, 0, 1]
    assert (sink.ended, sink.aborted) == (2, 0)


def test_a_frame_that_cannot_be_coded_is_refused_and_the_stream_lives_on():
    sink, events = PacketList(), []
    with Pipeline(listener=events.append) as pipeline:
        stream = pipeline.open("a", FAST, [sink])
        stream.push(np.ones((4, 4)))
        with pytest.raises(FrameError, match="NaN"):
            stream.push(np.full((4, 4), np.nan))
        stream.push(np.ones((4, 4)))
        stream.flush(PATIENCE_S)
        assert stream.counts == {
            "pushed": 3,
            "sent": 2,
            "dropped": 0,
            "refused": 1,
            "failed": 0,
        }
    refused = [event for event in events if event.outcome is FrameOutcome.REFUSED]
    assert len(refused) == 1
    assert "NaN" in refused[0].detail
    assert phases(sink, 0) == [0, 1]


def test_a_key_frame_is_made_on_request():
    sink = PacketList()
    with Pipeline() as pipeline:
        stream = pipeline.open("a", LiveOptions(n_slices=2), [sink])

        def both():
            stream.push(numbered(1), 0)
            stream.push(numbered(2), 1)
            stream.flush(PATIENCE_S)

        both()
        both()
        stream.request_key(1)
        both()
        stream.request_key()
        both()
        both()
    assert [p.key for _, p, _ in sink.sent] == [1, 1, 0, 0, 0, 1, 1, 1, 0, 0]
    assert len(decode(sink)) == 10


def test_a_stream_without_an_end_goes_on_in_another_segment(monkeypatch):
    monkeypatch.setattr("edge_codec.runtime.live_coder.MAX_SEGMENT_FRAMES", 5)
    sink, series = PacketList(), frames(12)
    with Pipeline() as pipeline:
        stream = pipeline.open("a", FAST, [sink])
        for image in series:
            stream.push(image)
    assert [segment.number for segment, _, _ in sink.sent] == [0] * 5 + [1] * 5 + [2] * 2
    assert sink.segments[0].spec == sink.segments[1].spec
    assert all_same(decode(sink), series)


def test_a_segment_of_a_known_length_is_as_long_as_that(monkeypatch):
    monkeypatch.setattr("edge_codec.runtime.live_coder.MAX_SEGMENT_FRAMES", 5)
    sink, series = PacketList(), frames(8)
    with Pipeline() as pipeline:
        stream = pipeline.open("a", replace(FAST, n_phases=8), [sink])
        for image in series:
            stream.push(image)
    assert [segment.number for segment, _, _ in sink.sent] == [0] * 8


@pytest.fixture
def made():
    """Weak references to the coders of `MakingFactory`, and how many lived when each was made."""
    return [], []


class MakingFactory(FakeFactory):
    def __init__(self, made):
        super().__init__()
        self.made, self.alive = made

    def prepare(self, options):
        def make(spec, mark, resume=None):
            self.alive.append(sum(coder() is not None for coder in self.made))
            coder = FakeCoder(self, spec, mark)
            self.made.append(weakref.ref(coder))
            return coder

        return make


def test_the_coder_of_a_segment_is_freed_before_the_next_is_made(made):
    with Pipeline(factory=MakingFactory(made)) as pipeline:
        stream = pipeline.open("a", FAST, [PacketList()])
        for side in (4, 5, 6):
            stream.push(np.full((side, side), 1, np.int16))
            stream.flush(PATIENCE_S)
    assert made[1] == [0, 0, 0]


def test_a_coder_goes_on_where_only_the_segment_is_full(made, monkeypatch):
    monkeypatch.setattr("edge_codec.runtime.live_coder.MAX_SEGMENT_FRAMES", 2)
    sink = PacketList()
    with Pipeline(factory=MakingFactory(made)) as pipeline:
        stream = pipeline.open("a", FAST, [sink])
        for i in range(5):
            stream.push(numbered(i))
    assert len(made[0]) == 1
    assert [packet.sequence for _, packet, _ in sink.sent] == [0, 1, 0, 1, 0]
    assert [packet.key for _, packet, _ in sink.sent] == [True, False, True, False, True]
