from __future__ import annotations

import numpy as np
import pytest
from stream_samples import make_spec

from edge_codec.bitstream.phases import PhaseOrder
from edge_codec.group_order import coding_order
from edge_codec.spec import ModelId


def archive(n_phases: int, key_interval: int) -> PhaseOrder:
    return PhaseOrder(
        make_spec(
            1,
            n_phases,
            key_interval=key_interval,
            model=ModelId.DWT_CAL,
            max_error=None,
            archive=True,
        )
    )


def test_phases_of_a_stream_are_its_turns() -> None:
    order = PhaseOrder(make_spec(1, 7, key_interval=3))
    turns = np.arange(9, dtype=np.uint32)
    assert [order.phase_at(turn) for turn in range(9)] == list(range(9))
    assert [order.turn_of(phase) for phase in range(9)] == list(range(9))
    assert order.phases_at(turns).tolist() == list(range(9))


@pytest.mark.parametrize("n_phases", [1, 2, 9, 10, 20, 64, 65, 130])
@pytest.mark.parametrize("key_interval", [1, 5, 10, 64])
def test_groups_of_an_archive_stand_in_its_order(n_phases: int, key_interval: int) -> None:
    order = archive(n_phases, key_interval)
    due = [
        first + place
        for first in range(0, n_phases, key_interval)
        for place in coding_order(min(key_interval, n_phases - first))
    ]
    assert [order.phase_at(turn) for turn in range(n_phases)] == due
    assert [order.turn_of(phase) for phase in due] == list(range(n_phases))
    turns = np.arange(n_phases, dtype=np.uint32)[::-1]
    assert order.phases_at(turns).tolist() == due[::-1]


def test_what_has_no_place_in_an_archive_stays_what_it_is() -> None:
    order = archive(10, 4)
    for number in (10, 11, 1 << 31):
        assert order.phase_at(number) == order.turn_of(number) == number
        assert order.phases_at(np.array([3, number], np.uint32)).tolist() == [3, number]
