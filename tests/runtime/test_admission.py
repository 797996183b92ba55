"""What fits is admitted, with the effort that fits."""

import numpy as np
import pytest
from live_samples import no_thread_is_left

from edge_codec.bitstream.live import Policy
from edge_codec.errors import SpecError, StreamError
from edge_codec.runtime.admission import Capacity, Rung, admit, measure_capacity
from edge_codec.runtime.live_options import LiveOptions
from edge_codec.spec import Effort

__all__ = ["no_thread_is_left"]
DEFAULT = Rung(Effort.DEFAULT, frames_per_s=100.0, p50_ms=8.0, p99_ms=9.0, frames=50)
FAST = Rung(Effort.FAST, frames_per_s=400.0, p50_ms=2.0, p99_ms=3.0, frames=200)


def capacity(budget_ms=10.0):
    return Capacity((DEFAULT, FAST), budget_ms, margin=0.75)


def test_streams_within_the_margin_fit():
    assert capacity().streams_at(30.0, DEFAULT) == 2
    assert capacity().streams_at(30.0, FAST) == 10
    assert capacity().streams_at(301.0, FAST) == 0


def test_a_rung_that_takes_longer_than_the_budget_holds_nothing():
    assert capacity(budget_ms=8.5).streams_at(1.0, DEFAULT) == 0
    assert capacity(budget_ms=0.0).streams_at(1.0, DEFAULT) == 75


@pytest.mark.parametrize(
    ("streams", "budget_ms", "effort"),
    [(2, 10.0, Effort.DEFAULT), (3, 10.0, Effort.FAST), (10, 10.0, Effort.FAST), (1, 5.0, 0)],
)
def test_the_highest_rung_that_fits_is_taken(streams, budget_ms, effort):
    assert admit(capacity(budget_ms), streams, 30.0, Policy.ADAPTIVE) == effort


def test_what_does_not_fit_is_refused_with_what_would():
    with pytest.raises(StreamError, match=r"10 streams of that rate would fit, or 11 of 27\.3"):
        admit(capacity(), 11, 30.0, Policy.STRICT_LOSSLESS)


def test_a_view_that_may_drop_frames_is_admitted():
    assert admit(capacity(), 99, 30.0, Policy.DROP_OLDEST) is Effort.FAST


@pytest.mark.parametrize("frames", [None, [np.ones((20, 30), np.uint16)]])
def test_the_capacity_is_measured_on_every_rung(frames):
    options = LiveOptions(n_slices=3, n_phases=7, budget_ms=5.0)
    found = measure_capacity(options, (20, 30), np.dtype(np.uint16), frames=frames, seconds=0.02)
    assert [rung.effort for rung in found.rungs] == [Effort.DEFAULT, Effort.FAST]
    assert found.budget_ms == 5.0
    for rung in found.rungs:
        assert rung.frames >= 8
        assert rung.frames_per_s > 0
        assert 0 < rung.p50_ms <= rung.p99_ms


@pytest.mark.parametrize(
    "options",
    [LiveOptions(effort=Effort.FAST), LiveOptions(effort=Effort.FAST, policy=Policy.NONE)],
)
def test_where_nothing_adapts_there_is_one_rung(options):
    found = measure_capacity(options, (9, 9), np.dtype(np.int16), workers=2, seconds=0.01)
    assert len(found.rungs) == 1


def test_floats_are_refused():
    with pytest.raises(SpecError, match="integers"):
        measure_capacity(LiveOptions(), (9, 9), np.dtype(np.float32))
