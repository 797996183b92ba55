"""Full queues, and what becomes of every frame."""

import contextlib
import threading
from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from live_samples import (
    PATIENCE_S,
    FakeFactory,
    FakeTime,
    Gate,
    no_thread_is_left,
    notes,
    numbered,
    phases,
    wait_for,
)

from edge_codec.bitstream.live import Policy
from edge_codec.bitstream.packet import MAX_LAYER_SIZE, LayerId
from edge_codec.errors import FrameError, StreamError
from edge_codec.runtime.frame_event import FrameEvent, FrameOutcome
from edge_codec.runtime.live_options import LiveOptions
from edge_codec.runtime.live_stream import LiveStream
from edge_codec.runtime.pipeline import Pipeline
from edge_codec.spec import CineInfo, Effort, StreamSpec

__all__ = ["no_thread_is_left"]

FAST = LiveOptions(effort=Effort.FAST)
MS = 1_000_000


def test_a_full_queue_blocks_who_pushes():
    gate = Gate()
    with Pipeline(factory=FakeFactory()) as pipeline:
        stream = pipeline.open("a", LiveOptions(queue_frames=2), [gate])
        # 2 are on their way to the sink, and 2 wait to be coded.
        for i in range(4):
            stream.push(numbered(i), timeout_s=PATIENCE_S)
        wait_for(stream._changed, lambda: len(stream._queue) == 2)
        with pytest.raises(StreamError, match=r"not coded within 0\.05 s"):
            stream.push(numbered(4), timeout_s=0.05)
        assert pipeline.depths() == {"a": 2}
        with pytest.raises(StreamError, match="4 frames are not sent"):
            stream.flush(timeout_s=0.01)
        pusher = threading.Thread(target=lambda: [stream.push(numbered(i)) for i in range(4, 9)])
        pusher.start()
        gate.open.set()
        pusher.join(PATIENCE_S)
    assert [p.layers[LayerId.METADATA] for _, p, _ in gate.sent] == [
        b"frame %d" % i for i in range(9)
    ]


def test_the_oldest_frames_are_dropped_counted_and_noted():
    gate, events = Gate(), []
    options = LiveOptions(policy=Policy.DROP_OLDEST, queue_frames=2, n_slices=2)
    with Pipeline(factory=FakeFactory(), listener=events.append) as pipeline:
        stream = pipeline.open("a", options, [gate])
        for i in range(4):
            stream.push(numbered(i))
            if i < 2:
                wait_for(stream._changed, lambda: not len(stream._queue) and not stream._working)
        # 0 and 1 are on their way to the sink, 2 and 3 wait.
        stream.push(numbered(4), 0)  # drops 2
        stream.push(numbered(5), 1)  # drops 3
        stream.push(numbered(6), 0)  # drops 4
        gate.open.set()
        stream.flush(PATIENCE_S)
        assert stream.counts == {
            "pushed": 7,
            "sent": 4,
            "dropped": 3,
            "refused": 0,
            "failed": 0,
        }
    assert [p.layers[LayerId.METADATA] for _, p, _ in gate.sent] == [
        b"frame %d" % i for i in (0, 1, 5, 6)
    ]
    assert phases(gate, 0) == [0, 1, 2]  # phases have no gaps
    assert [note.dropped for note in notes(gate)] == [0, 0, 0, 3]
    dropped = [event for event in events if event.outcome is FrameOutcome.DROPPED]
    assert len(dropped) == 3
    assert all(event.detail == "the queue was full" for event in dropped)


def check_account(stream: LiveStream, gate: Gate, events: list[FrameEvent]) -> None:
    counts, told = stream.counts, Counter(event.outcome.value for event in events)
    assert counts["pushed"] == sum(told.values())
    assert all(told[outcome.value] == counts[outcome.value] for outcome in FrameOutcome)
    assert len(gate.sent) == counts["sent"]
    assert counts["failed"] == 0
    numbers = [int(p.layers[LayerId.METADATA][6:]) for _, p, _ in gate.sent]
    assert numbers == sorted(set(numbers))
    assert phases(gate, 0) == list(range(len(numbers)))
    assert stream._queue.pool.lent == 0


def act(stream: LiveStream, gate: Gate, step: str, i: int) -> None:
    if step == "push":
        stream.push(numbered(i), timeout_s=0.001)
    elif step == "bad":
        stream.push(np.full((4, 4), np.nan))
    elif step in ("open", "shut"):
        (gate.open.set if step == "open" else gate.open.clear)()
    elif step == "flush":
        stream.flush(timeout_s=0.001)
    else:
        stream.request_key()


def play(stream: LiveStream, gate: Gate, schedule: list[str]) -> None:
    for i, step in enumerate(schedule):
        with contextlib.suppress(FrameError, StreamError):
            act(stream, gate, step, i)
    gate.open.set()


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    policy=st.sampled_from(list(Policy)),
    queue_frames=st.integers(1, 3),
    workers=st.integers(1, 3),
    schedules=st.lists(
        st.lists(st.sampled_from(["push", "bad", "open", "shut", "flush", "key"]), max_size=25),
        min_size=1,
        max_size=3,
    ),
    drain=st.booleans(),
)
def test_every_frame_is_accounted_for_whatever_happens(
    policy, queue_frames, workers, schedules, drain
):
    events: list[FrameEvent] = []
    pipeline = Pipeline(workers=workers, factory=FakeFactory(), listener=events.append)
    options = LiveOptions(policy=policy, queue_frames=queue_frames)
    gates, streams = [Gate() for _ in schedules], []
    for i, gate in enumerate(gates):
        gate.open.set()
        streams.append(pipeline.open(f"s{i}", options, [gate]))

    players = [
        threading.Thread(target=play, args=arguments)
        for arguments in zip(streams, gates, schedules, strict=True)
    ]
    for player in players:
        player.start()
    for player in players:
        player.join(PATIENCE_S)
    pipeline.close(drain=drain)
    for stream, gate in zip(streams, gates, strict=True):
        check_account(stream, gate, [e for e in events if e.stream == stream.name])
        counts, noted = stream.counts, sum(note.dropped for note in notes(gate))
        assert not counts["dropped"] or policy is Policy.DROP_OLDEST or not drain
        assert noted == counts["dropped"] or not drain
        assert stream._queue.pool.made <= queue_frames + 1


def test_a_jump_of_the_clock_is_noted_though_its_frame_is_dropped():
    fake, gate = FakeTime(), Gate()
    options = LiveOptions(policy=Policy.DROP_OLDEST, queue_frames=1)
    with Pipeline(clock=fake.clock, factory=FakeFactory()) as pipeline:
        stream = pipeline.open("a", options, [gate])
        stream.push(numbered(0))
        wait_for(stream._changed, lambda: not len(stream._queue) and not stream._working)
        fake.wall_ns += 10**9
        for i in (1, 2):  # the sink is closed: 1 is dropped
            stream.push(numbered(i))
        gate.open.set()
        stream.flush(PATIENCE_S)
        stream.push(numbered(3))
    assert [(note.dropped, note.clock_jumped) for note in notes(gate)] == [(0, 0), (1, 1), (0, 0)]


def test_a_dropped_frame_leaves_its_phase_to_the_next():
    gate = Gate()
    info = CineInfo(1, 3, 4, 4, np.dtype(np.int16))
    spec = StreamSpec(info, low=0, high=99)
    options = LiveOptions(policy=Policy.DROP_OLDEST, queue_frames=1)
    with Pipeline(factory=FakeFactory()) as pipeline:
        stream = pipeline.open("a", options, [gate], spec=spec)
        stream.push(numbered(0))
        wait_for(stream._changed, lambda: not len(stream._queue) and not stream._working)
        for i in range(1, 5):  # the sink is closed: all but the last are dropped
            stream.push(numbered(i))
        gate.open.set()
        stream.flush(PATIENCE_S)
        stream.push(numbered(5))
        with pytest.raises(FrameError, match="slice 0 has all its 3 phases already"):
            stream.push(numbered(6))
    assert phases(gate, 0) == [0, 1, 2]
    assert (gate.ended, gate.aborted) == (1, 0)


def test_metadata_that_no_packet_holds_is_refused_and_the_stream_lives_on():
    gate = Gate()
    gate.open.set()
    with Pipeline(factory=FakeFactory()) as pipeline:
        stream = pipeline.open("a", FAST, [gate])
        with pytest.raises(FrameError, match="metadata of 134217729 bytes"):
            stream.push(numbered(0), metadata=bytes(MAX_LAYER_SIZE + 1))
        stream.push(numbered(1), metadata=bytes(MAX_LAYER_SIZE))
        stream.flush(PATIENCE_S)
        assert (stream.counts["refused"], stream.counts["sent"]) == (1, 1)
    assert (phases(gate, 0), gate.ended) == ([0], 1)
