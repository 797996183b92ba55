"""Figures of a peer at given bytes are those between the two settings around them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.titok_peer import at_bytes, summary
from edge_codec.bench.rd.trial import Coded

CASE = SimpleNamespace(voxels=np.zeros((2, 5, 1, 1)))
FRAMES = 10


@dataclass
class Rung:
    """A setting that makes streams of so many bytes a frame, and counts how often."""

    size: int
    coded: list[int] = field(default_factory=list)

    def code(self, case: object) -> Coded:
        self.coded.append(1)
        return Coded(FRAMES * self.size, np.zeros(1), [], [], "stream")


def judge(coded: Coded) -> dict[str, float]:
    """A PSNR that rises with the logarithm of the bytes, in jumps of its slope."""
    size = coded.stream_bytes / FRAMES
    return {"bytes_a_frame": size, "psnr_db": math.log2(size) * (1 if size > 50 else 2)}


@pytest.fixture
def ladder() -> list[Rung]:
    return [Rung(size) for size in (1024, 512, 256, 128, 64, 32, 16, 8)]


def test_between_two_settings(ladder):
    found = at_bytes(CASE, ladder, judge, 32 * math.sqrt(2))
    assert found["psnr_db"] == pytest.approx((6 + 10) / 2)
    assert found["bytes_a_frame"] == pytest.approx(48)
    assert found["equal_bytes"] is True
    assert max(len(rung.coded) for rung in ladder) == 1
    assert sum(len(rung.coded) for rung in ladder) < len(ladder)


@pytest.mark.parametrize("place", [0, 2, 7])
def test_a_setting_that_has_these_bytes(ladder, place):
    found = at_bytes(CASE, ladder, judge, float(ladder[place].size))
    due = judge(ladder[place].code(CASE))
    assert found == pytest.approx({**due, "equal_bytes": True})


@pytest.mark.parametrize(("asked", "nearest"), [(5.0, -1), (7.99, -1), (1025.0, 0), (9000.0, 0)])
def test_bytes_that_no_two_settings_enclose_are_not_called_equal(ladder, asked, nearest):
    found = at_bytes(CASE, ladder, judge, asked)
    assert found == {**judge(ladder[nearest].code(CASE)), "equal_bytes": False}


def test_the_print_says_where_bytes_are_not_equal(ladder):
    rows = [{"codec": "x265", **at_bytes(CASE, ladder, judge, asked)} for asked in (8.0, 4.0, 64.0)]
    assert summary("x265", rows[::2]) == "x265 bytes_a_frame 36.000, psnr_db 6.000"
    assert summary("x265", rows).startswith("x265 (not at our bytes in 1 of 3) bytes_a_frame 26.6")
    ours = {"codec": "titok", "bytes_a_frame": 8.0}
    assert summary("titok", [ours]) == "titok bytes_a_frame 8.000"
