"""Which frame is coded next."""

import threading

from live_samples import PATIENCE_S

from edge_codec.runtime.clock import Clock
from edge_codec.runtime.deadline import Due
from edge_codec.runtime.dispatch import Dispatch


class FakeLane:
    """A stream whose frames are their deadlines."""

    def __init__(self, name, *deadlines, busy=False):
        self.name = name
        self.deadlines = list(deadlines)
        self.busy = busy

    @property
    def ready(self):
        return bool(self.deadlines) and not self.busy

    @property
    def deadline_ns(self):
        return self.deadlines[0]

    def dues(self):
        return [Due(deadline, 1, 0) for deadline in self.deadlines]

    def take(self):
        return [(self.name, self.deadlines.pop(0))]

    def code(self, jobs, others):
        raise NotImplementedError


def dispatch(*lanes, workers=1, listener=None):
    made = Dispatch(Clock(), workers, listener)
    for lane in lanes:
        made.add(lane)
    return made


def deadlines(task):
    return [due.deadline_ns for due in task[2]]


def test_the_earliest_deadline_goes_first_and_streams_keep_their_order():
    made = dispatch(FakeLane("a", 5, 1), FakeLane("b", 3, 9), FakeLane("c"))
    order = [made.next()[1][0] for _ in range(4)]
    assert order == [("b", 3), ("a", 5), ("a", 1), ("b", 9)]


def test_a_stream_in_work_is_left_alone():
    busy = FakeLane("a", 1, busy=True)
    made = dispatch(busy, FakeLane("b", 7))
    assert made.next()[1] == [("b", 7)]


def test_a_coder_is_told_of_the_frames_that_wait():
    made = dispatch(FakeLane("a", 5, 6), FakeLane("b", 3, 9))
    assert sorted(deadlines(made.next())) == [5, 6, 9]


def test_several_workers_share_the_frames_that_wait():
    made = dispatch(FakeLane("a", 5, 6, 7), FakeLane("b", 3, 9), workers=2)
    assert deadlines(made.next()) == [6, 9]


def test_a_stream_that_was_removed_is_forgotten():
    gone = FakeLane("a", 1)
    made = dispatch(gone, FakeLane("b", 2))
    made.remove(gone)
    made.remove(gone)
    assert made.next()[1] == [("b", 2)]


def test_a_worker_waits_for_a_frame_and_for_the_end():
    lane = FakeLane("a")
    made = dispatch(lane)
    found = []
    worker = threading.Thread(target=lambda: found.extend([made.next(), made.next()]))
    worker.start()
    with made.lock:
        lane.deadlines.append(4)
        made.work.notify()
    made.close()
    worker.join(PATIENCE_S)
    assert found[0][1] == [("a", 4)]
    assert found[1] is None


def test_a_listener_that_fails_ends_nothing(caplog):
    heard = []

    def listener(event):
        heard.append(event)
        raise ValueError("no")

    dispatch(listener=listener).report(["one", "two"])
    assert heard == ["one", "two"]
    assert caplog.text.count("a listener failed") == 2
    dispatch().report(["event"])
