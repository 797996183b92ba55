"""Figures of a peer at given bytes are those between the two settings around them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.titok_peer import at_bytes
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
    assert max(len(rung.coded) for rung in ladder) == 1
    assert sum(len(rung.coded) for rung in ladder) < len(ladder)


def test_a_setting_that_has_these_bytes(ladder):
    assert at_bytes(CASE, ladder, judge, 256.0) == judge(ladder[2].code(CASE))


def test_more_bytes_than_asked_for_at_its_least(ladder):
    assert at_bytes(CASE, ladder, judge, 5.0) == judge(ladder[-1].code(CASE))
