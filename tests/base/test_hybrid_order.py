"""Order, slots and references: as docs/bitstream.md has them, and as the codec does."""

import plain_order
import pytest

from edge_codec.base.hybrid.structure import archive_plan, low_delay_plan
from edge_codec.group_order import coding_order


def test_low_delay_is_as_written():
    for place in plain_order.low_delay(100):
        plan = low_delay_plan(place.number)
        assert (plan.slot, plan.references) == (place.slot, place.references)


@pytest.mark.parametrize("length", [1, 2, 3, 5, 8, 12, 20, 25, 30, 31, 47, 64])
def test_an_archive_is_as_written(length):
    places, plans = plain_order.archive(length), archive_plan(length)
    assert tuple(place.number for place in places) == coding_order(length)
    assert [place.slot for place in places] == [plan.slot for plan in plans]
    assert [place.references for place in places] == [plan.references for plan in plans]
