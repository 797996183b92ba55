"""Order, slots and references: as docs/bitstream.md has them, and as the codec does."""

from types import SimpleNamespace

import plain_order
import plain_structure
import pytest

from edge_codec.base.hybrid.structure import archive_plan, low_delay_plan
from edge_codec.group_order import coding_order


def test_low_delay_is_as_written():
    for position in range(100):
        plan = low_delay_plan(position)
        written = plain_structure.low_delay_plan(position)
        assert (plan.slot, list(plan.references)) == written


@pytest.mark.parametrize("length", [1, 2, 3, 5, 8, 12, 20, 25, 30, 31, 47, 64])
def test_an_archive_is_as_written(length):
    header = SimpleNamespace(archive=1, key_interval=length, phases=length)
    assert tuple(plain_order.coding_order(header, length)) == coding_order(length)
    plans = [(plan.slot, list(plan.references)) for plan in archive_plan(length)]
    assert plans == plain_structure.archive_plan(length)
