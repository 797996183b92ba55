"""Deadlines and clocks of live streams, by clocks that are set."""

import time

import numpy as np
import pytest
from live_samples import (
    PATIENCE_S,
    FakeFactory,
    FakeTime,
    all_same,
    decode,
    frames,
    no_thread_is_left,
    notes,
    numbered,
)

from edge_codec.bitstream.live import Policy
from edge_codec.runtime.deadline import MARGIN, SLACK_NS
from edge_codec.runtime.live_options import LiveOptions
from edge_codec.runtime.packet_list import PacketList
from edge_codec.runtime.pipeline import Pipeline
from edge_codec.spec import CineInfo, Effort

__all__ = ["no_thread_is_left"]

FAST = LiveOptions(effort=Effort.FAST)
MS = 1_000_000


def test_the_wall_clock_is_noted_and_its_jumps_are():
    fake = FakeTime()
    sink, clock = PacketList(), fake.clock
    with Pipeline(clock=clock, factory=FakeFactory()) as pipeline:
        stream = pipeline.open("a", LiveOptions(), [sink])
        for jump_ns in (0, 0, 3600 * 10**9, 0, -7200 * 10**9, 10 * MS):
            fake.go_on(16 * MS)
            fake.wall_ns += jump_ns
            stream.push(numbered(1))
            stream.flush(PATIENCE_S)
    assert [note.clock_jumped for note in notes(sink)] == [0, 0, 1, 0, 1, 0]
    assert notes(sink)[1].acquired_unix_ns - notes(sink)[0].acquired_unix_ns == 16 * MS


def test_the_packet_notes_what_was_done():
    fake = FakeTime()
    sink = PacketList()
    factory = FakeFactory(lambda frame: fake.go_on(4 * MS))
    with Pipeline(clock=fake.clock, factory=factory) as pipeline:
        stream = pipeline.open("a", LiveOptions(policy=Policy.ADAPTIVE, budget_ms=5.0), [sink])
        stream.push(numbered(1), acquired_ns=fake.now_ns - 500_000)
        stream.flush(PATIENCE_S)
        stream.push(numbered(1), acquired_ns=fake.now_ns - 2 * MS)
    first, second = notes(sink)
    assert (first.policy, first.waited_us, first.coded_us) == (Policy.ADAPTIVE, 500, 4000)
    assert (first.late, second.late) == (False, True)
    assert first.acquired_unix_ns == 10**18 - 500_000
    assert second.acquired_unix_ns == 10**18 + 2 * MS


def test_the_coder_is_told_when_to_give_up():
    fake = FakeTime()
    factory = FakeFactory()
    with Pipeline(clock=fake.clock, factory=factory) as pipeline:
        geometry = CineInfo(1, 0, 4, 4, np.dtype(np.int16))
        stream = pipeline.open("a", LiveOptions(budget_ms=5.0), [], geometry=geometry)
        stream.push(numbered(1))
        stream.flush(PATIENCE_S)
        stream.push(numbered(2), acquired_ns=fake.now_ns - 20 * MS)
        stream.flush(PATIENCE_S)
        due = stream._coder.deadline.due(0)
        stream.push(numbered(3))
    give_ups = [call[3] for call in factory.calls]
    assert fake.now_ns < give_ups[0] < fake.now_ns + 4 * MS
    assert give_ups[1] == 0
    reserve_ns = round(MARGIN * due.after_ns) + round(MARGIN * due.least_ns) + SLACK_NS
    assert give_ups[2] == fake.now_ns + 5 * MS - reserve_ns


def test_frames_that_fall_back_anywhere_are_the_same():
    images, sink, events = frames(40, rows=200, columns=120), PacketList(), []
    options = LiveOptions(policy=Policy.STRICT_LOSSLESS, queue_frames=1)
    with Pipeline(listener=events.append) as pipeline:
        stream = pipeline.open("a", options, [sink])
        for i, image in enumerate(images):
            # Up to 10 ms are gone already: some give up at once, some halfway, some not at all.
            stream.push(image, acquired_ns=time.monotonic_ns() - i * 250_000)
            stream.flush(PATIENCE_S)
    assert all_same(decode(sink), images)
    assert events[-1].fast_bands == 2


@pytest.mark.parametrize(("budget_ms", "fast"), [(0.001, 1), (60_000.0, 0)])
def test_frames_without_time_are_coded_as_fast_and_are_the_same(budget_ms, fast):
    images, sink, events = frames(4, rows=200), PacketList(), []
    options = LiveOptions(policy=Policy.STRICT_LOSSLESS, budget_ms=budget_ms)
    with Pipeline(listener=events.append) as pipeline:
        stream = pipeline.open("a", options, [sink])
        for image in images:
            stream.push(image)
    assert all_same(decode(sink), images)
    assert [(event.fast_bands, event.bands) for event in events] == [(2 * fast, 2)] * 4
    assert [event.missed for event in events] == [bool(fast)] * 4
    assert all(note.policy is Policy.STRICT_LOSSLESS for note in notes(sink))
