"""How much of the machine others had."""

import os
import time

import pytest

from edge_codec.bench.rd.other_work import OtherWork

TICKS = os.sysconf("SC_CLK_TCK")


@pytest.fixture
def clocks(monkeypatch):
    """Wall and own time in s, to be set."""
    now = {"wall": 100.0, "own": 5.0}
    monkeypatch.setattr(time, "monotonic", lambda: now["wall"])
    monkeypatch.setattr(time, "process_time", lambda: now["own"])
    return now


def account(path, seconds):
    path.write_text("cpu  " + " ".join(str(int(s * TICKS)) for s in seconds) + " 7 7\ncpu0 1 1\n")
    return path


def test_own_time_and_idle_time_are_nobody_elses(tmp_path, clocks):
    #                                  user nice system idle iowait irq softirq steal
    statistics = account(tmp_path / "stat", (10, 10, 10, 50, 50, 0, 0, 0))
    others = OtherWork(statistics)
    account(statistics, (13, 14, 10, 90, 70, 1, 0, 2))
    clocks["wall"], clocks["own"] = 110.0, 8.0
    assert others.processors() == 0.7  # 3 + 4 + 1 + 2 s busy, 3 of them ours, in 10 s


def test_rounding_never_goes_below_zero(tmp_path, clocks):
    statistics = account(tmp_path / "stat", (1, 0, 0, 0, 0, 0, 0, 0))
    others = OtherWork(statistics)
    clocks["wall"], clocks["own"] = 101.0, 6.0
    assert others.processors() == 0.0


@pytest.mark.parametrize("text", [None, "", "cpu 1 2 3", "intr 5 5 5 5 5 5 5 5 5 5"])
def test_a_system_that_does_not_tell_gives_none(tmp_path, text):
    if text is not None:
        (tmp_path / "stat").write_text(text)
    assert OtherWork(tmp_path / "stat").processors() is None
