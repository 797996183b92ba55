"""Figures of made-up frames, and of made-up streams on a made-up clock."""

import itertools
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from edge_codec.bench.latency.drive import Driver, LoopFrame, Schedule
from edge_codec.bench.latency.figures import (
    latency_figures,
    lateness_us,
    percentiles_ms,
    size_figures,
    step_figures,
    timeline,
)
from edge_codec.bench.latency.log import FrameLog, LogBook
from edge_codec.bench.latency.plan import Plan
from edge_codec.bench.latency.process import stolen_s
from edge_codec.bench.latency.report import make_timeline, stolen_figures
from edge_codec.bench.latency.run import Run
from edge_codec.bench.latency.watch import Task
from edge_codec.errors import FrameError, StreamError
from edge_codec.runtime.frame_event import FrameEvent, FrameOutcome

MS = 1_000_000
FRAMES = [LoopFrame(0, phase, np.full((2, 2), phase, np.int16)) for phase in range(3)]


def log_of(latencies_ms, warmup=0, interval_ms=20):
    """A log of frames that were due every so often and took so long."""
    log = FrameLog(len(latencies_ms), warmup)
    for number, latency_ms in enumerate(latencies_ms):
        due_ns = number * interval_ms * MS
        log.push(due_ns, due_ns + 5000)
        log.record(
            FrameEvent(
                "s",
                acquired_ns=due_ns,
                finished_ns=due_ns + round(latency_ms * MS),
                packet_bytes=100,
                steps_ns={"code": round(latency_ms * MS / 2)},
                phase_index=number,
                bands=2,
                fast_bands=number % 2,
            )
        )
    return log


def test_percentiles_are_nearest_rank():
    found = percentiles_ms(np.arange(1000, 0, -1) * MS)
    assert [found[f"{name}_ms"] for name in ("p50", "p90", "p99", "p99_9", "max", "mean")] == [
        500, 900, 990, 999, 1000, 500.5,
    ]  # fmt: skip
    assert set(percentiles_ms(np.array([], np.int64)).values()) == {None}


def test_a_miss_is_counted():
    log = log_of([5] * 97 + [16.7, 16.8, 30])
    found = latency_figures([log], 16_700_000)
    assert (found["frames"], found["sent"], found["misses"]) == (100, 100, 2)
    assert (found["p50_ms"], found["p99_ms"], found["max_ms"]) == (5, 16.8, 30)
    assert (found["fast_frames"], found["fast_bands"], found["bands"]) == (50, 50, 200)


def test_the_warm_up_does_not_count():
    log = log_of([500, 400, 5, 6], warmup=2)
    found = latency_figures([log], 10 * MS)
    assert (found["frames"], found["max_ms"], found["misses"]) == (2, 6, 0)
    assert step_figures([log])["code"]["max"] == 3
    assert size_figures([log], voxels=100, frame_bytes=200) == {
        "bytes": 200, "bits_per_voxel": 8.0, "ratio": 2.0, "frame_bytes": 200,
    }  # fmt: skip


def test_several_streams_are_one_table():
    found = latency_figures([log_of([1, 1, 1]), log_of([9, 9, 30])], 10 * MS)
    assert (found["frames"], found["misses"], found["max_ms"]) == (6, 1, 30)


def test_jitter_is_of_departures_within_a_stream():
    even = latency_figures([log_of([5] * 10), log_of([7] * 10)], 0)
    assert even["jitter_ms"] == 0
    late = log_of([5, 5, 9, 5, 5])  # departures 20, 24, 16, 20 ms apart
    assert latency_figures([late], 0)["jitter_ms"] == pytest.approx(np.std([20, 24, 16, 20]))


def test_what_became_of_frames_that_were_not_sent():
    log = log_of([5, 5])
    log = FrameLog(5)
    outcomes = [FrameOutcome.SENT, FrameOutcome.DROPPED, FrameOutcome.REFUSED, FrameOutcome.FAILED]
    for number in range(5):
        log.push(number, number)
    for number in (3, 1, 0, 2):  # drops overtake
        log.record(
            FrameEvent("s", outcomes[number], acquired_ns=number, finished_ns=9 * MS, detail="why")
        )
    found = latency_figures([log], MS)
    counts = [found[name] for name in ("sent", "dropped", "refused", "failed", "lost")]
    assert counts == [1, 1, 1, 1, 1]
    assert found["misses"] == 1
    assert found["max_ms"] == 9


def test_an_event_of_no_known_frame_is_a_stray():
    book = LogBook({"s": log_of([1])})
    book.record(FrameEvent("s", acquired_ns=77))
    assert book.strays == 1


def test_the_course_over_time():
    rows = timeline([log_of([5] * 50 + [30] + [6] * 49)], 16 * MS)
    assert [row["second"] for row in rows] == [0, 1]
    assert [row["frames"] for row in rows] == [50, 50]
    assert [row["max_ms"] for row in rows] == [5, 30]
    assert [row["misses"] for row in rows] == [0, 1]
    assert timeline([FrameLog(3)], MS) == []


def test_pacing_error():
    assert lateness_us([log_of([5] * 4)]) == dict.fromkeys(
        ("p50_us", "p99_us", "p99_9_us", "max_us"), 5.0
    )


class SetClock:
    """Time that passes when somebody sleeps or works."""

    def __init__(self):
        self.now = 1000 * MS

    def now_ns(self):
        return self.now

    def sleep_until(self, instant_ns):
        self.now = max(self.now, instant_ns)


class SlowStream:
    """Codes within `push`, and takes as long as it is told to."""

    def __init__(self, clock, record, took_ms):
        self.clock, self.record, self.took_ms = clock, record, iter(took_ms)
        self.pushed = []

    def push(self, frame, slice_index=0, metadata=b"", *, acquired_ns=None, timeout_s=None):
        self.pushed.append((int(frame[0, 0]), acquired_ns))
        self.clock.now += round(next(self.took_ms) * MS)
        self.record(FrameEvent("s", acquired_ns=acquired_ns, finished_ns=self.clock.now))


def driven(took_ms, closed=False):
    clock, log = SetClock(), FrameLog(len(took_ms))
    book = LogBook({"s": log})
    stream = SlowStream(clock, book.record, took_ms)
    driver = Driver(stream, FRAMES, log, clock, threading.Event())
    if closed:
        driver.closed_loop(range(len(took_ms)), lambda timeout: book.wait("s", timeout))
    else:
        driver.open_loop(range(len(took_ms)), Schedule(clock.now, 100.0))
    return log, stream


def test_a_stall_shows_in_every_frame_that_waited_for_it():
    log, stream = driven([2, 2, 55, 2, 2, 2, 2, 2, 2, 2, 2, 2])
    # Due every 10 ms. The third takes 55, and each after it makes good 8.
    assert (log.latency_ns() / MS).tolist() == [2, 2, 55, 47, 39, 31, 23, 15, 7, 2, 2, 2]
    assert latency_figures([log], 16_700_000)["misses"] == 5
    assert lateness_us([log])["max_us"] == 45_000
    dues = [due for _, due in stream.pushed]
    assert {b - a for a, b in itertools.pairwise(dues)} == {10 * MS}
    assert [phase for phase, _ in stream.pushed] == [0, 1, 2] * 4


def test_a_closed_loop_waits_instead():
    log, _ = driven([2, 55, 2, 2], closed=True)
    assert (log.latency_ns() / MS).tolist() == [2, 55, 2, 2]


def test_a_schedule_does_not_drift():
    schedule = Schedule(5, 60.0)
    assert schedule.due_ns(0) == 5
    assert schedule.due_ns(60 * 3600) == 5 + 3600 * 1_000_000_000
    assert schedule.due_ns(1) == 5 + 16_666_667


def test_a_closed_loop_gives_up_on_a_silent_stream():
    driver = Driver(SlowStream(SetClock(), lambda event: None, [1]), FRAMES, FrameLog(1),
                    SetClock(), threading.Event())  # fmt: skip
    with pytest.raises(StreamError, match="neither sent nor refused"):
        driver.closed_loop(range(1), lambda timeout: False)


def test_a_refused_frame_does_not_end_the_run():
    class Picky(SlowStream):
        def push(self, frame, *arguments, acquired_ns=None, **others):
            if frame[0, 0] == 1:
                self.record(FrameEvent("s", FrameOutcome.REFUSED, acquired_ns=acquired_ns))
                raise FrameError("no")
            super().push(frame, *arguments, acquired_ns=acquired_ns, **others)

    clock, log = SetClock(), FrameLog(3)
    stream = Picky(clock, LogBook({"s": log}).record, [1, 1, 1])
    Driver(stream, FRAMES, log, clock, threading.Event()).open_loop(range(3), Schedule(0, 10.0))
    found = latency_figures([log], MS)
    assert (found["sent"], found["refused"]) == (2, 1)


def test_nothing_is_pushed_after_a_stop():
    clock, log, stop = SetClock(), FrameLog(3), threading.Event()
    stop.set()
    stream = SlowStream(clock, LogBook({"s": log}).record, [1])
    Driver(stream, FRAMES, log, clock, stop).open_loop(range(3), Schedule(0, 10.0))
    assert stream.pushed == []


def test_whatever_ends_who_pushes_ends_the_run():
    stopped = []

    def work():
        raise MemoryError("full")

    task = Task("s", work, lambda: stopped.append(True))
    task.start()
    task.join()
    assert isinstance(task.error, MemoryError)
    assert stopped == [True]


def test_memory_stands_beside_its_second():
    log = log_of([5] * 200)  # 4 seconds
    log.outcome[50:100] = 0  # none was sent in the second one
    plan = Plan(Path("heart.npy"))
    run = Run(plan, None, [log], memory_mib=[10.0, 11.0, 12.0])
    rows = [(row["second"], row.get("memory_mib")) for row in make_timeline(run)]
    assert rows == [(0, 10.0), (2, 12.0), (3, None)]


def test_stolen_time_stands_beside_its_second_and_clean_seconds_are_counted():
    log = log_of([5] * 50 + [20] * 50 + [30] * 100)  # 4 seconds
    run = Run(Plan(Path("heart.npy")), None, [log], seconds=4.0, stolen_s=[0, 0, 0.5, 0.5, 0.75])
    rows = make_timeline(run)
    assert [row.get("stolen_ms") for row in rows] == [0, 500, 0, 250]
    stolen = stolen_figures(run, rows)
    assert stolen["percent"] == pytest.approx(100 * 0.75 / (4 * os.cpu_count()))
    assert (stolen["clean_seconds"], stolen["frames_in_clean_seconds"]) == (2, 100)
    assert stolen["misses_in_clean_seconds"] == 50  # of those that took 30 ms; the others not
    within = stolen["latency_in_clean_seconds"]
    assert (within["p50_ms"], within["p90_ms"], within["max_ms"]) == (5, 30, 30)
    assert stolen_figures(Run(Plan(Path("heart.npy")), None, [log], seconds=4.0), rows) == {}


def test_stolen_time_is_read_from_the_account_of_all_cores(tmp_path):
    account = tmp_path / "stat"
    account.write_text("cpu  1 2 3 4 5 6 7 250 9 10\ncpu0 1 2 3 4 5 6 7 8 9 10\n")
    assert stolen_s(account) == 250 / os.sysconf("SC_CLK_TCK")
    account.write_text("cpu  1 2 3\n")  # kernels before 2.6.11
    assert stolen_s(account) is None
    assert stolen_s(tmp_path / "none") is None
