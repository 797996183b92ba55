"""How live streams end: in order, by a failure, or in the middle."""

import signal
import threading
import time

import numpy as np
import pytest
from live_samples import (
    PATIENCE_S,
    Failing,
    FakeFactory,
    Gate,
    no_thread_is_left,
    numbered,
    wait_for,
)

from edge_codec.bitstream.live import Policy
from edge_codec.errors import SinkError, StreamError
from edge_codec.runtime.frame_event import FrameEvent, FrameOutcome
from edge_codec.runtime.live_options import LiveOptions
from edge_codec.runtime.packet_list import PacketList
from edge_codec.runtime.pipeline import Pipeline

__all__ = ["no_thread_is_left"]
OPTIONS = LiveOptions(queue_frames=4)


def broken(event_count: int, events: list[FrameEvent]) -> bool:
    return sum(event.outcome is FrameOutcome.FAILED for event in events) == event_count


def test_closing_sends_what_was_pushed_and_completes_the_sinks():
    gate = Gate()
    pipeline = Pipeline(factory=FakeFactory())
    stream = pipeline.open("a", OPTIONS, [gate])
    for i in range(4):
        stream.push(numbered(i))
    closer = threading.Thread(target=stream.close)
    closer.start()
    wait_for(stream._changed, lambda: stream._closing)
    with pytest.raises(StreamError, match="stream 'a' is closed"):
        stream.push(numbered(9))
    gate.open.set()
    closer.join(PATIENCE_S)
    assert (len(gate.sent), gate.ended, gate.aborted) == (4, 1, 0)
    stream.close()
    pipeline.close()
    pipeline.close()
    stream.close(drain=False)
    assert gate.ended == 1
    with pytest.raises(StreamError, match="the pipeline is closed"):
        pipeline.open("b", OPTIONS, [])
    with pytest.raises(StreamError, match="is closed"):
        stream.push(numbered(9))


def test_a_stream_without_frames_leaves_its_sinks_alone():
    sink = PacketList()
    with Pipeline(factory=FakeFactory()) as pipeline:
        pipeline.open("a", OPTIONS, [sink])
    assert (sink.segments, sink.ended, sink.aborted) == ([], 0, 0)


def test_closing_undrained_drops_what_waits_and_leaves_the_sinks_as_they_are():
    gate, events = Gate(), []
    with Pipeline(factory=FakeFactory(), listener=events.append) as pipeline:
        stream = pipeline.open("a", LiveOptions(queue_frames=2), [gate])
        for i in range(4):
            stream.push(numbered(i))
        assert gate.waits.wait(PATIENCE_S)
        closer = threading.Thread(target=stream.close, kwargs={"drain": False})
        closer.start()
        wait_for(stream._changed, lambda: stream._cancelled)
        gate.open.set()
        closer.join(PATIENCE_S)
        counts = stream.counts
    assert (counts["sent"], counts["dropped"]) == (1, 3)
    assert (len(gate.sent), gate.ended, gate.aborted) == (1, 0, 1)
    assert all(
        "undrained" in event.detail for event in events if event.outcome is FrameOutcome.DROPPED
    )
    assert stream._queue.pool.lent == 0


def test_who_waits_for_room_is_told_of_the_end():
    gate, found = Gate(), []
    pipeline = Pipeline(factory=FakeFactory())
    stream = pipeline.open("a", LiveOptions(queue_frames=1), [gate])

    def push():
        try:
            for i in range(9):
                stream.push(numbered(i))
        except StreamError as error:
            found.append(error)

    pusher = threading.Thread(target=push)
    pusher.start()
    wait_for(stream._changed, lambda: len(stream._queue) == 1)
    closer = threading.Thread(target=stream.close)
    closer.start()
    pusher.join(PATIENCE_S)
    gate.open.set()
    closer.join(PATIENCE_S)
    pipeline.close()
    assert "closed" in str(found[0])
    assert stream.counts["pushed"] == stream.counts["sent"] == len(gate.sent)


@pytest.mark.parametrize("at", ["begin", 0, 2, "end"])
@pytest.mark.parametrize("error", [SinkError("disk full"), OSError("gone"), ValueError("defect")])
def test_a_sink_that_fails_ends_its_stream_and_no_other(at, error):
    failing, beside, other, events = Failing(error, at), PacketList(), PacketList(), []
    pushed = threading.Event()
    factory = FakeFactory(lambda frame: pushed.wait(PATIENCE_S))
    with Pipeline(factory=factory, listener=events.append) as pipeline:
        stream = pipeline.open("a", OPTIONS, [beside, failing])
        well = pipeline.open("b", OPTIONS, [other])
        for i in range(3):
            stream.push(numbered(i))
            well.push(numbered(i))
        pushed.set()
        with pytest.raises(StreamError, match=f"stream 'a' failed: {error}") as caught:
            (stream.close if at == "end" else stream.flush)()
        assert caught.value.__cause__ is error
        assert stream._cause is error
        with pytest.raises(StreamError, match=f"failed: {error}"):
            stream.push(numbered(3))
        well.push(numbered(3))
    assert (len(other.sent), other.ended, other.aborted) == (4, 1, 0)
    assert failing.aborted == beside.aborted == 1
    counts = stream.counts
    sent = {"begin": 0, "end": 3}.get(at, at)
    assert (counts["pushed"], counts["sent"], counts["failed"]) == (3, sent, 3 - sent)
    assert broken(3 - sent, events)
    assert stream._queue.pool.lent == 0


def test_a_coder_that_fails_ends_its_stream_and_no_other():
    pushed = threading.Event()

    def script(frame):
        assert pushed.wait(PATIENCE_S)
        if frame[0, 0] == 2:
            raise ZeroDivisionError("defect")

    bad, good = PacketList(), PacketList()
    with Pipeline(factory=FakeFactory(script)) as pipeline:
        stream, well = (
            pipeline.open(name, OPTIONS, [sink]) for name, sink in (("a", bad), ("b", good))
        )
        for i in range(3):
            stream.push(numbered(i))
        pushed.set()
        with pytest.raises(StreamError, match="failed: defect"):
            stream.flush(PATIENCE_S)
        well.push(numbered(0))
    assert len(good.sent) == good.ended == 1
    assert (bad.ended, bad.aborted) == (0, 1)
    assert stream.counts["pushed"] == stream.counts["sent"] + stream.counts["failed"] == 3
    assert stream._queue.pool.lent == 0


def test_a_failure_that_nobody_was_told_of_is_told_at_the_end():
    pipeline = Pipeline(factory=FakeFactory())
    stream = pipeline.open("a", OPTIONS, [Failing(SinkError("disk full"), 0)])
    sink = PacketList()
    pipeline.open("b", OPTIONS, [sink]).push(numbered(1))
    stream.push(numbered(0))
    with pytest.raises(StreamError, match="stream 'a' failed: disk full"):
        pipeline.close()
    assert sink.ended == 1
    pipeline.close()
    stream.close()


def test_an_error_of_who_pushes_goes_up_and_the_files_are_complete():
    sink = PacketList()

    def fail_between_frames():
        with Pipeline(factory=FakeFactory()) as pipeline:
            pipeline.open("b", OPTIONS, [Failing(SinkError("disk full"), 0)]).push(numbered(0))
            pipeline.open("a", OPTIONS, [sink]).push(numbered(0))
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fail_between_frames()
    assert (len(sink.sent), sink.ended) == (1, 1)


def test_ctrl_c_while_the_pipeline_drains_ends_it_undrained():
    gate = Gate()
    pipeline = Pipeline(factory=FakeFactory())
    stream = pipeline.open("a", OPTIONS, [gate])
    for i in range(4):
        stream.push(numbered(i))

    def press():
        wait_for(stream._changed, lambda: stream._closing)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        wait_for(stream._changed, lambda: stream._cancelled)
        gate.open.set()

    assert gate.waits.wait(PATIENCE_S)
    presser = threading.Thread(target=press)
    presser.start()
    with pytest.raises(KeyboardInterrupt):
        pipeline.close()
    presser.join(PATIENCE_S)
    assert (len(gate.sent), gate.ended, gate.aborted) == (1, 0, 1)
    assert stream.counts["dropped"] == 3


def test_frames_pushed_while_a_stream_fails_are_counted():
    released = threading.Event()

    def script(frame):
        assert released.wait(PATIENCE_S)
        raise ValueError("defect")

    with Pipeline(factory=FakeFactory(script)) as pipeline:
        stream = pipeline.open("a", OPTIONS, [])
        stream.push(numbered(0))
        original = np.copyto

        def copy_slowly(target, source):
            released.set()
            wait_for(stream._changed, lambda: stream._cause is not None)
            original(target, source)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("edge_codec.runtime.frame_queue.np.copyto", copy_slowly)
            stream.push(numbered(1))
        with pytest.raises(StreamError, match="defect"):
            stream.close()
    assert stream.counts["failed"] == 2
    assert stream._queue.pool.lent == 0


@pytest.mark.parametrize("error", [MemoryError("full"), KeyboardInterrupt()])
def test_a_frame_that_could_not_be_copied_is_counted_and_waited_for_by_nobody(monkeypatch, error):
    sink, events = PacketList(), []

    def fail(target, source):
        raise error

    with Pipeline(factory=FakeFactory(), listener=events.append) as pipeline:
        stream = pipeline.open("a", LiveOptions(queue_frames=1), [sink])
        with monkeypatch.context() as patch:
            patch.setattr("edge_codec.runtime.frame_queue.np.copyto", fail)
            with pytest.raises(type(error)):
                stream.push(numbered(0))
        stream.push(numbered(1), timeout_s=PATIENCE_S)
        stream.flush(PATIENCE_S)
        assert (stream.counts["failed"], stream.counts["sent"]) == (1, 1)
    assert [event.outcome for event in events] == [FrameOutcome.FAILED, FrameOutcome.SENT]
    assert stream._queue.pool.lent == 0
    assert sink.ended == 1


def test_a_push_that_is_refused_drops_nothing():
    gate = Gate()
    options = LiveOptions(policy=Policy.DROP_OLDEST, queue_frames=1)
    with Pipeline(factory=FakeFactory()) as pipeline:
        stream = pipeline.open("a", options, [gate])
        stream.push(numbered(0))
        wait_for(stream._changed, lambda: not len(stream._queue) and not stream._working)
        stream.push(numbered(1))
        closer = threading.Thread(target=stream.close)
        closer.start()
        wait_for(stream._changed, lambda: stream._closing)
        with pytest.raises(StreamError, match="is closed"):
            stream.push(numbered(2))
        gate.open.set()
        closer.join(PATIENCE_S)
    assert (stream.counts["pushed"], stream.counts["sent"]) == (2, 2)


def test_who_may_drop_does_not_wait_for_a_frame_that_was_being_copied():
    gate, copying, copied = Gate(), threading.Event(), threading.Event()
    original = np.copyto

    def copy_slowly(target, source):
        if source[0, 0] == 1:
            copying.set()
            assert copied.wait(PATIENCE_S)
        original(target, source)

    options = LiveOptions(policy=Policy.DROP_OLDEST, queue_frames=1)
    with Pipeline(factory=FakeFactory()) as pipeline, pytest.MonkeyPatch.context() as patch:
        patch.setattr("edge_codec.runtime.frame_queue.np.copyto", copy_slowly)
        stream = pipeline.open("a", options, [gate])
        stream.push(numbered(0))
        wait_for(stream._changed, lambda: not len(stream._queue) and not stream._working)
        slow = threading.Thread(target=stream.push, args=[numbered(1)])
        slow.start()
        assert copying.wait(PATIENCE_S)
        other = threading.Thread(
            target=stream.push, args=[numbered(2)], kwargs={"timeout_s": PATIENCE_S}
        )
        other.start()
        wait_for(stream._changed, lambda: len(stream._changed._waiters) > 0)
        copied.set()
        slow.join(PATIENCE_S)
        wait_for(stream._changed, lambda: stream._tally.counts["dropped"] == 1)
        gate.open.set()
        other.join(PATIENCE_S)
    assert (stream.counts["sent"], stream.counts["dropped"]) == (2, 1)


@pytest.mark.parametrize("error", [ValueError("defect"), SystemExit(3)])
def test_a_sink_that_breaks_the_protocol_holds_up_nobody(error, caplog):
    class Worse(Failing):
        def abort(self):
            super().abort()
            raise ValueError("worse")

    worse, beside = Worse(error, 0), PacketList()
    with Pipeline(factory=FakeFactory()) as pipeline:
        stream = pipeline.open("a", OPTIONS, [worse, beside])
        stream.push(numbered(0))
        with pytest.raises(StreamError, match="failed"):
            stream.flush(PATIENCE_S)
    assert worse.aborted == beside.aborted == 1
    assert "failed to abort" in caplog.text


def test_who_flushed_knows_of_every_frame():
    told = []

    def listener(event):
        time.sleep(0.005)
        told.append(event)

    with Pipeline(factory=FakeFactory(), listener=listener) as pipeline:
        stream = pipeline.open("a", OPTIONS, [])
        for i in range(4):
            stream.push(numbered(i))
            stream.flush(PATIENCE_S)
            assert len(told) == stream.counts["sent"] == i + 1
