"""Sinks that hang: what is waited for, what is given up, and who hears of it."""

import threading
from collections import Counter

import pytest
from live_samples import (
    PATIENCE_S,
    FakeFactory,
    no_thread_is_left,
    numbered,
    wait_for,
)

from edge_codec.errors import SinkError, StreamError
from edge_codec.runtime import packet_sender
from edge_codec.runtime.live_options import LiveOptions
from edge_codec.runtime.packet_list import PacketList
from edge_codec.runtime.pipeline import Pipeline

__all__ = ["no_thread_is_left"]
OPTIONS = LiveOptions(queue_frames=4)


@pytest.fixture(autouse=True)
def impatient(monkeypatch, no_thread_is_left):
    monkeypatch.setattr(packet_sender, "GIVE_UP_S", 0.05)
    monkeypatch.setattr(packet_sender, "WAKE_S", 0.01)
    yield
    for thread in threading.enumerate():  # sinks were let go: what was left behind ends
        if thread.name.startswith(("edge-codec-send", "edge-codec-abort")):
            thread.join(PATIENCE_S)


class Stuck(PacketList):
    """A sink that does not come back from a call, or from its n-th packet, until it is let go."""

    def __init__(self, at, error=None):
        super().__init__()
        self.at = at
        self.error = error
        self.calls = []
        self.waits, self.let_go = threading.Event(), threading.Event()

    def begin(self, segment):
        self._call("begin")
        super().begin(segment)

    def send(self, packet, data):
        self._call(len(self.sent))
        super().send(packet, data)

    def end(self):
        self._call("end")
        super().end()

    def abort(self):
        self._call("abort")
        super().abort()

    def _call(self, place):
        self.calls.append(place)
        if place == self.at:
            self.waits.set()
            assert self.let_go.wait(PATIENCE_S)
            if self.error is not None:
                raise self.error


def called(function, **arguments):
    """Call something on a thread that may hang; return the thread and what it will have raised."""
    raised = []

    def call():
        try:
            function(**arguments)
        except StreamError as error:
            raised.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    return thread, raised


def comes_back(thread):
    thread.join(PATIENCE_S / 2)
    return not thread.is_alive()


def outcomes(counts):
    return Counter({name: n for name, n in counts.items() if n and name != "pushed"})


@pytest.mark.parametrize("error", [None, OSError("gone")])
@pytest.mark.parametrize(
    ("at", "sent", "failed"), [("begin", 0, 1), (0, 0, 1), (2, 2, 1), ("abort", 3, 0)]
)
def test_an_undrained_close_gives_up_a_sink_that_hangs(at, sent, failed, error, caplog):
    stuck, beside, other, events = Stuck(at, error), PacketList(), PacketList(), []
    pipeline = Pipeline(factory=FakeFactory(), listener=events.append)
    stream = pipeline.open("a", OPTIONS, [stuck, beside])
    well = pipeline.open("b", OPTIONS, [other])
    for i in range(3):
        stream.push(numbered(i))
    if at == "abort":
        stream.flush(PATIENCE_S)
    else:
        assert stuck.waits.wait(PATIENCE_S)
    closer, raised = called(stream.close, drain=False)
    try:
        assert comes_back(closer)
        assert (raised, stream.closed) == ([], True)
        wait_for(threading.Condition(), lambda: beside.aborted == 1)
        with pytest.raises(StreamError, match="sink Stuck of stream 'a' did not come") as caught:
            stream.push(numbered(3))
        assert isinstance(caught.value.__cause__, SinkError)
        assert "sink Stuck of stream 'a'" in caplog.text
        counts = stream.counts
        assert (counts["sent"], counts["failed"]) == (sent, failed)
        assert counts["pushed"] == 3 == sum(outcomes(counts).values())
        assert Counter(event.outcome.value for event in events) == outcomes(counts)
        well.push(numbered(3))
        pipeline.close()
        assert (len(other.sent), other.ended) == (1, 1)
    finally:
        stuck.let_go.set()
        pipeline.close(drain=False)
    stream._sender._thread.join(PATIENCE_S)
    assert stuck.calls[-2:] == ([2, "abort"] if at == "abort" else [at, "abort"])
    assert len(beside.sent) == sent
    assert (beside.ended, beside.aborted) == (0, 1)
    assert stream.counts == counts
    assert len(events) == 4


def test_a_drain_that_hangs_ends_with_an_undrained_close(caplog):
    stuck, beside = Stuck("end"), PacketList()
    pipeline = Pipeline(factory=FakeFactory())
    stream = pipeline.open("a", OPTIONS, [stuck, beside])
    stream.push(numbered(0))
    drain, told = called(stream.close)
    assert stuck.waits.wait(PATIENCE_S)
    closer, raised = called(stream.close, drain=False)
    try:
        assert comes_back(closer)
        assert comes_back(drain)
        assert raised == []
        assert "sink Stuck of stream 'a'" in str(told[0])
        assert stream.counts["sent"] == 1
        wait_for(threading.Condition(), lambda: beside.aborted == 1)
        assert beside.ended == 0
        assert caplog.text.count("sink Stuck of stream 'a'") == 1
    finally:
        stuck.let_go.set()
        pipeline.close(drain=False)


def test_a_stream_that_failed_does_not_wait_for_a_sink_that_hangs():
    stuck = Stuck(0)

    def script(frame):
        if frame[0, 0] == 1:
            assert stuck.waits.wait(PATIENCE_S)
            raise ValueError("defect")

    pipeline = Pipeline(factory=FakeFactory(script))
    stream = pipeline.open("a", OPTIONS, [stuck])
    stream.push(numbered(0))
    stream.push(numbered(1))
    closer, raised = called(pipeline.close)
    try:
        assert comes_back(closer)
        assert "stream 'a' failed: defect" in str(raised[0])
        assert stream.counts["failed"] == 2
    finally:
        stuck.let_go.set()
        pipeline.close(drain=False)


def test_sinks_that_hang_hold_up_no_other_stream():
    """Neither while the pipeline drains, nor when it does not wait for that any more."""
    stuck = [Stuck(0), Stuck("end")]
    pipeline, well = Pipeline(factory=FakeFactory()), PacketList()
    for i, sink in enumerate((*stuck, well)):
        pipeline.open(f"s{i}", OPTIONS, [sink]).push(numbered(i))
    drain, _ = called(pipeline.close)
    try:
        wait_for(threading.Condition(), lambda: well.ended == 1)
        assert drain.is_alive()
        closer, _ = called(pipeline.close, drain=False)
        assert comes_back(closer)
        assert comes_back(drain)
    finally:
        for sink in stuck:
            sink.let_go.set()
        pipeline.close(drain=False)


def test_all_sinks_of_a_stream_may_hang(caplog):
    first, second = Stuck(0), Stuck("abort")
    pipeline = Pipeline(factory=FakeFactory())
    stream = pipeline.open("a", OPTIONS, [first, second])
    stream.push(numbered(0))
    assert first.waits.wait(PATIENCE_S)
    closer, _ = called(pipeline.close, drain=False)
    try:
        assert comes_back(closer)
        assert "other sinks of stream 'a' hang as well" in caplog.text
    finally:
        first.let_go.set()
        second.let_go.set()
        pipeline.close(drain=False)


def test_a_sink_that_is_slow_is_waited_for_while_there_is_something_to_send():
    stuck = Stuck(1)
    pipeline = Pipeline(factory=FakeFactory())
    stream = pipeline.open("a", OPTIONS, [stuck])
    for i in range(3):
        stream.push(numbered(i))
    closer, raised = called(stream.close)
    assert stuck.waits.wait(PATIENCE_S)
    closer.join(4 * packet_sender.GIVE_UP_S)
    try:
        assert closer.is_alive()
        stuck.let_go.set()
        assert comes_back(closer)
        assert (raised, len(stuck.sent), stuck.ended) == ([], 3, 1)
    finally:
        stuck.let_go.set()
        pipeline.close(drain=False)
