"""Steps with freak gradients are left out; a training that has only such steps stops."""

from __future__ import annotations

import math

import pytest

from edge_codec.errors import TrainingError
from edge_codec.training.gradient_guard import FEWEST, MOST_IN_A_ROW, GradientGuard


def settled() -> GradientGuard:
    guard = GradientGuard()
    assert all(guard.accepts(2.0 + 0.1 * (index % 3)) for index in range(FEWEST))
    return guard


def test_early_steps_need_only_be_finite() -> None:
    guard = GradientGuard()
    assert guard.accepts(1e9)
    assert guard.accepts(1.0)
    assert not guard.accepts(math.inf)
    assert not guard.accepts(math.nan)
    assert guard.skipped == guard.in_a_row == 2


def test_spikes_are_left_out_and_not_remembered() -> None:
    guard = settled()
    before = guard.usual()
    assert not guard.accepts(1000.0)
    assert not guard.accepts(math.nan)
    assert guard.usual() == before
    assert guard.accepts(9.0)
    assert (guard.skipped, guard.in_a_row) == (2, 0)


def test_too_many_in_a_row_stop_the_training() -> None:
    guard = settled()
    for _ in range(MOST_IN_A_ROW - 1):
        assert not guard.accepts(1e6)
    with pytest.raises(TrainingError, match=rf"{MOST_IN_A_ROW} gradients in a row.*1e\+06"):
        guard.accepts(1e6)


def test_saved_guard_goes_on_where_it_was() -> None:
    guard = settled()
    guard.accepts(math.inf)
    other = GradientGuard()
    other.load(**guard.state())
    assert other.state() == guard.state()
    assert not other.accepts(1000.0)
    assert other.in_a_row == 2
