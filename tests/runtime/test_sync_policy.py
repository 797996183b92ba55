from __future__ import annotations

import pytest

from edge_codec.errors import SpecError
from edge_codec.runtime.sync_policy import SyncPolicy, parse_sync


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("none", SyncPolicy.NONE),
        ("packet", SyncPolicy.EVERY_PACKET),
        ("1", SyncPolicy.EVERY_PACKET),
        ("30", SyncPolicy(packets=30)),
        ("2s", SyncPolicy(seconds=2.0)),
        ("0.25s", SyncPolicy(seconds=0.25)),
        ("0", SyncPolicy.NONE),
    ],
)
def test_policies_as_they_are_written(text: str, policy: SyncPolicy) -> None:
    assert parse_sync(text) == policy


@pytest.mark.parametrize(
    "text", ["", "all", "-1", "-1s", "1m", "s", "1e9s", "nans", "1.s", "9" * 40, "2 s"]
)
def test_what_is_no_policy(text: str) -> None:
    with pytest.raises(SpecError, match="is not known"):
        parse_sync(text)


@pytest.mark.parametrize(("packets", "seconds"), [(-1, 0), (0, -1.0), (0, float("nan"))])
def test_limits_that_are_none(packets: int, seconds: float) -> None:
    with pytest.raises(SpecError, match="0 or more"):
        SyncPolicy(packets, seconds)


def test_whichever_limit_comes_first() -> None:
    policy = SyncPolicy(packets=5, seconds=2.0)
    due = [policy.due(*since) for since in ((1, 0.1), (5, 0.1), (1, 2.0), (4, 1.9))]
    assert due == [False, True, True, False]
    assert not SyncPolicy.NONE.due(10**9, 1e9)
    assert (SyncPolicy.NONE.ever, SyncPolicy.EVERY_PACKET.ever) == (False, True)
