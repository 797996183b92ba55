"""A run counts steps and time, writes rows at once, and saves when it is time and at its end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("tqdm")

from edge_codec.training import running
from edge_codec.training.running import LOG, Run


class Training:
    """What a run needs of a training."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.step = 0
        self.elapsed_s = 5.0
        self.saved_at: list[int] = []

    def save(self) -> None:
        self.saved_at.append(self.step)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which a test may change."""
    now = [100.0]
    monkeypatch.setattr(running.time, "monotonic", lambda: now[0])
    return now


def test_steps_are_counted_logged_and_saved(tmp_path: Path, clock: list[float]) -> None:
    training = Training(tmp_path)
    with Run(training, 6, checkpoint_seconds=10, show=False) as run:
        for _ in range(6):
            clock[0] += 4
            training.step += 1
            run.advance()
            run.write({"step": training.step}, loss="1")
            rows = (tmp_path / LOG).read_text().splitlines()
            assert json.loads(rows[-1]) == {"step": training.step}
            run.save_if_due()
    assert training.elapsed_s == 5 + 6 * 4
    assert training.saved_at == [3, 6, 6]  # after 12 and 24 s, and at the end


def test_going_on_keeps_the_log(tmp_path: Path, clock: list[float]) -> None:
    for step in (1, 2):
        with Run(Training(tmp_path), 2, 10, show=False) as run:
            run.write({"step": step})
    assert len((tmp_path / LOG).read_text().splitlines()) == 2


def test_a_run_that_fails_saves_nothing(tmp_path: Path, clock: list[float]) -> None:
    training = Training(tmp_path)
    with pytest.raises(KeyboardInterrupt), Run(training, 2, 10, show=False):
        raise KeyboardInterrupt
    assert training.saved_at == []
