"""When a frame's coder must give up, by times that are made up."""

import pytest

from edge_codec.bitstream.live import Policy
from edge_codec.runtime.deadline import (
    MARGIN,
    MOST_SKIPPED,
    RECENT,
    SLACK_NS,
    CodedTimes,
    Deadline,
    Due,
    RecentMaximum,
)
from edge_codec.runtime.live_options import LiveOptions
from edge_codec.spec import Effort

MS = 1_000_000
NOW = 5_000 * MS
VOXELS = 100


def deadline(**options) -> Deadline:
    made = Deadline(LiveOptions(**{"budget_ms": 10.0, **options}))
    made.seed(before_ns=0, fast_ns=2 * MS, n_voxels=VOXELS)
    for _ in range(RECENT):
        made.learn_sending(MS)
    return made


def coded(code_ms: float, give_up_ms: float | None, fast: int = 0, bands: int = 2) -> CodedTimes:
    """Times of a frame that was taken at `NOW`; it gave up so many milliseconds later."""
    give_up_ns = None if give_up_ms is None else NOW + round(give_up_ms * MS)
    return CodedTimes(0, round(code_ms * MS), give_up_ns, NOW + round(code_ms * MS), fast, bands)


def test_time_is_left_for_fast_and_for_sending():
    made = deadline()
    assert made.give_up_ns(NOW, NOW) == NOW + 10 * MS - round(3 * MS * MARGIN) - SLACK_NS


@pytest.mark.parametrize(
    "options",
    [
        {"policy": Policy.NONE},
        {"effort": Effort.FAST},
        {"budget_ms": 0.0},
        {"max_error": None, "model": 1},
    ],
)
def test_where_nothing_can_adapt_nothing_gives_up(options):
    assert deadline(**options).give_up_ns(NOW, NOW + 99 * MS) is None


@pytest.mark.parametrize("policy", [Policy.STRICT_LOSSLESS, Policy.ADAPTIVE, Policy.DROP_OLDEST])
def test_every_policy_with_a_deadline_adapts_the_effort(policy):
    assert deadline(policy=policy).give_up_ns(NOW, NOW) is not None


def test_a_frame_that_waited_too_long_is_coded_as_fast_at_once():
    assert deadline().give_up_ns(NOW - 8 * MS, NOW) == 0


def test_a_fallback_that_took_longer_is_remembered_for_some_frames():
    made = deadline()
    before = made.give_up_ns(NOW, NOW)
    made.learn_coding(coded(code_ms=9.0, give_up_ms=4.0, fast=2))  # FAST took 5 ms
    assert made.give_up_ns(NOW, NOW) == before - round(5 * MS * MARGIN) + round(2 * MS * MARGIN)
    for _ in range(RECENT):
        made.learn_coding(coded(code_ms=1.0, give_up_ms=-5000.0, fast=2))
    assert made.give_up_ns(NOW, NOW) > before


def test_what_fell_back_in_part_says_nothing_of_all():
    made = deadline()
    before = made.due(NOW)
    made.learn_coding(coded(code_ms=5.5, give_up_ms=4.0, fast=1))  # 1.5 ms for a part
    assert made.due(NOW) == before


def test_what_fell_back_in_part_and_took_longer_than_all_is_remembered():
    made = deadline()
    made.learn_coding(coded(code_ms=8.0, give_up_ms=4.0, fast=1))
    assert made.due(NOW).least_ns == 4 * MS


def test_slow_sinks_make_the_coder_give_up_earlier():
    made = deadline()
    before = made.give_up_ns(NOW, NOW)
    made.learn_sending(4 * MS)
    assert made.give_up_ns(NOW, NOW) == before - round(3 * MS * MARGIN)


def test_one_vain_attempt_says_nothing_of_the_next_frame():
    made = deadline()
    made.learn_coding(coded(code_ms=8.0, give_up_ms=6.0, fast=2))
    assert made.give_up_ns(NOW, NOW) > NOW


def test_vain_attempts_in_a_row_become_rarer_until_one_succeeds():
    made = deadline()
    skipped = []
    for _ in range(8):
        made.learn_coding(coded(code_ms=8.0, give_up_ms=6.0, fast=2))
        skipped.append(0)
        while not made.give_up_ns(NOW, NOW):
            skipped[-1] += 1
            made.learn_coding(coded(code_ms=2.0, give_up_ms=-5000.0, fast=2))  # 0: at once
    assert skipped == [0, 1, 3, 7, 15, MOST_SKIPPED, MOST_SKIPPED, MOST_SKIPPED]
    made.learn_coding(coded(code_ms=5.0, give_up_ms=6.0))
    made.learn_coding(coded(code_ms=8.0, give_up_ms=6.0, fast=2))
    assert made.give_up_ns(NOW, NOW) > NOW


def test_frames_that_were_coded_together_are_one_attempt():
    made = deadline()
    for _ in range(2):  # the first of four tried in vain; for the others the instant was over
        made.learn_coding(coded(code_ms=8.0, give_up_ms=6.0, fast=2))
        for begun_ms in (8.0, 10.0, 12.0):
            end_ns = NOW + round((begun_ms + 2) * MS)
            made.learn_coding(CodedTimes(0, 2 * MS, NOW + 6 * MS, end_ns, 2, 2))
    assert [bool(made.give_up_ns(NOW, NOW)) for _ in range(2)] == [False, True]


def test_frames_that_wait_for_the_worker_are_left_time():
    made = deadline()
    alone = made.give_up_ns(NOW, NOW)
    # Each needs 2 ms of the worker and 1 ms afterwards.
    others = [Due(NOW + 13 * MS, 2 * MS, MS), Due(NOW + 11 * MS, 2 * MS, MS)]
    # The second must begin at 13 - 1 - 2 = 10, the first at 8: nothing to give up for.
    assert made.give_up_ns(NOW, NOW, others[:1]) == alone
    # Both: the later one ends in time if this frame is done at 8.
    assert made.give_up_ns(NOW, NOW, others) == NOW + 8 * MS - round(2 * MS * MARGIN)


def test_a_frame_tells_what_it_needs():
    made = deadline()
    assert made.due(NOW) == Due(NOW + 10 * MS, 2 * MS, MS)
    assert deadline(budget_ms=0.0).due(NOW) is None


def test_frames_of_another_size_are_expected_to_take_another_time():
    made = deadline()
    made.resize(3 * VOXELS)
    assert made.due(NOW).least_ns == 6 * MS
    made.resize(3 * VOXELS)
    assert made.due(NOW).least_ns == 6 * MS


def test_the_recent_maximum_forgets():
    recent = RecentMaximum(7)
    assert recent.value_ns == 7
    recent.add(3)
    assert recent.value_ns == 3
    recent.add(9)
    for _ in range(RECENT - 1):
        recent.add(1)
    assert recent.value_ns == 9
    recent.add(-4)
    assert recent.value_ns == 1
