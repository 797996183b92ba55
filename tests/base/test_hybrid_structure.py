from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_codec.base.hybrid.structure import (
    ANCHOR_PERIOD,
    LAYERS,
    MAX_REFERENCES,
    SLOTS,
    FramePlan,
    GroupPlace,
    archive_plan,
    group_place,
    low_delay_plan,
)
from edge_codec.errors import SpecError
from edge_codec.group_order import coding_order, layers
from edge_codec.spec import CineInfo, ModelId, StreamSpec

lengths = st.integers(1, 64)
SPEC = StreamSpec(
    CineInfo(1, 0, 8, 8, np.dtype(np.int16)), 0, 99, ModelId.DWT_CAL, max_error=None, key_interval=9
)


def frames_of(plans: list[FramePlan], positions: list[int]) -> list[list[int]]:
    """The positions that each frame refers to, as a decoder finds them that keeps the slots."""
    slots: dict[int, int] = {}
    found = []
    for plan, position in zip(plans, positions, strict=True):
        found.append([slots[slot] for slot in plan.references])
        assert plan.slot not in plan.references
        assert 0 <= plan.slot < SLOTS
        assert len(plan.references) <= MAX_REFERENCES
        assert 0 <= plan.layer < LAYERS
        slots[plan.slot] = position
    return found


@given(length=lengths)
@settings(deadline=None)
def test_an_archive_codes_every_phase_once_and_those_between_anchors_last(length: int) -> None:
    order = coding_order(length)
    assert order[0] == 0
    assert sorted(order) == list(range(length))
    for turn, position in enumerate(order[1:], 1):
        before = [0, length, *order[:turn]]
        left = max(frame for frame in before if frame < position)
        right = min(frame for frame in before if frame > position)
        if position % 8:
            assert right - left <= 8
            assert position == (left + right) // 2
        else:
            assert left == position - 8 or (left, right) == (position - 1, length)
            assert right == length


def test_layers_count_the_intervals_that_a_phase_lies_in() -> None:
    assert layers(8) == {0: 0, 4: 2, 2: 3, 1: 4, 3: 4, 6: 3, 5: 4, 7: 4}
    assert layers(1) == {0: 0}
    assert coding_order(3) == (0, 1, 2)
    assert coding_order(11) == (0, 8, 4, 2, 1, 3, 6, 5, 7, 9, 10)
    assert layers(64)[56] == 1
    assert set(layers(64).values()) == set(range(LAYERS))


@given(length=lengths)
@settings(deadline=None)
def test_an_archive_predicts_from_the_nearest_frames_on_both_sides(length: int) -> None:
    order = list(coding_order(length))
    referred = frames_of(list(archive_plan(length)), order)
    for turn, (position, frames) in enumerate(zip(order, referred, strict=True)):
        before = order[:turn]
        if not turn:
            assert frames == []
            continue
        earlier = max(frame for frame in before if frame < position)
        later = min((frame for frame in before if frame > position), default=0)  # closes the cycle
        assert set(frames) == {earlier, later}
        assert len(frames) == len(set(frames))
        distances = [min((position - f) % length, (f - position) % length) for f in frames]
        if earlier != later:
            assert distances == sorted(distances)
            assert distances[0] < distances[1] or frames == [earlier, later]


@given(length=lengths)
@settings(deadline=None)
def test_the_layers_of_an_archive_are_those_of_its_order(length: int) -> None:
    found = [plan.layer for plan in archive_plan(length)]
    assert found == [layers(length)[position] for position in coding_order(length)]
    assert found[0] == 0
    assert 0 not in found[1:]


def test_an_archive_of_one_frame_is_a_key_frame() -> None:
    assert archive_plan(1) == (FramePlan((), 0, 0),)


@pytest.mark.parametrize("length", [0, 65, -1])
def test_groups_that_no_archive_has_are_refused(length: int) -> None:
    with pytest.raises(SpecError, match="1 to 64"):
        archive_plan(length)


def test_low_delay_leans_on_the_frame_before_and_on_anchors_and_the_key_frame() -> None:
    n = 300
    referred = frames_of([low_delay_plan(i) for i in range(n)], list(range(n)))
    assert referred[0] == []
    for position, frames in enumerate(referred[1:], 1):
        anchors = [frame for frame in range(position - 1, 0, -1) if frame % ANCHOR_PERIOD == 0]
        latest = list(dict.fromkeys([position - 1, *anchors]))[: MAX_REFERENCES - 1]
        assert frames == list(dict.fromkeys([*latest, 0]))


@given(position=st.integers(1, 65_535))
def test_low_delay_needs_no_more_memory_in_a_long_group(position: int) -> None:
    plan = low_delay_plan(position)
    assert plan.slot not in plan.references
    assert all(0 <= slot < SLOTS for slot in (plan.slot, *plan.references))
    assert plan.layer == {0: 1, 2: 2}.get(position % ANCHOR_PERIOD, 3)
    assert low_delay_plan(position - 1).slot == plan.references[0]


def test_layers_that_all_callers_share_cannot_be_changed() -> None:
    with pytest.raises(TypeError, match="does not support item assignment"):
        layers(9)[0] = 4  # type: ignore[index]
    assert layers(9)[0] == 0


def test_a_position_before_the_key_frame_is_refused() -> None:
    with pytest.raises(SpecError, match="begins with its key frame"):
        low_delay_plan(-1)


def test_the_layers_ahead_are_those_of_the_plans_to_come() -> None:
    for archive in (False, True):
        for position in range(20):
            place = GroupPlace(archive, position, 20 - position)
            plans = [GroupPlace(archive, i, 20 - i).plan for i in range(position, 20)]
            assert place.layers_ahead() == [plan.layer for plan in plans]
            assert place.plan == plans[0]
    assert len(GroupPlace(False, 7, 60_000).layers_ahead()) == 64


def test_a_group_ends_before_the_next_multiple_and_with_the_exam() -> None:
    assert group_place(SPEC, 4, 0) == GroupPlace(False, 4, 5)
    assert group_place(SPEC, 14, 12) == GroupPlace(False, 2, 4)  # a key frame out of turn at 12
    info = dataclasses.replace(SPEC.info, n_phases=11)
    short = dataclasses.replace(SPEC, info=info, archive=True)
    assert group_place(short, 10, 9) == GroupPlace(True, 1, 1)
    assert group_place(short, 9, 9).plan == archive_plan(2)[0]
