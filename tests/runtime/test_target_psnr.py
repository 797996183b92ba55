"""The PSNR of a base layer, and the quality that reaches one."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edge_codec.errors import SpecError
from edge_codec.runtime.base_rate import MAX_QUALITY
from edge_codec.runtime.target_psnr import BaseError, find_quality

CURVES = {
    "even": lambda quality: 20 + 0.6 * quality,
    "steep": lambda quality: 3.0 * quality,
    "flat in places": lambda quality: 20.0 + quality // 5 * 4,
    "bent": lambda quality: 30 + math.sqrt(quality),
    "infinite at the end": lambda quality: math.inf if quality > 50 else 25 + quality / 2,
}


@pytest.mark.parametrize("curve", CURVES.values(), ids=CURVES)
def test_the_least_quality_that_is_enough_is_found(curve):
    for wanted in (1.0, 20.0, 20.6, 31.2, 38.0, 44.0):
        enough = [quality for quality in range(MAX_QUALITY + 1) if curve(quality) >= wanted]
        tried = []

        def measure(quality, tried=tried):
            tried.append(quality)
            return curve(quality)

        if enough:
            assert find_quality(measure, wanted) == enough[0]
        else:
            with pytest.raises(SpecError, match="quality 63 reaches"):
                find_quality(measure, wanted)
        assert len(tried) == len(set(tried)) <= 12
        assert all(0 <= quality <= MAX_QUALITY for quality in tried)


def test_few_trials_find_it_where_quality_is_nearly_even():
    tried = []
    find_quality(lambda quality: tried.append(quality) or 22 + 0.75 * quality, 40.43)
    assert len(tried) <= 4


def test_an_exam_without_a_peak_has_no_target():
    with pytest.raises(SpecError, match="no positive voxel"):
        find_quality(lambda quality: None, 30)


def test_the_error_is_that_of_the_whole_exam():
    error = BaseError()
    assert error.psnr_db(100) is None
    samples = np.array([[5, 0xFFFFFFFF]], np.uint32)
    error.add(samples, np.array([[8, 0xFFFFFFFF]], np.uint32))
    error.add(samples, samples)
    assert error.psnr_db(100) == pytest.approx(10 * math.log10(100**2 / (9 / 4)))
    assert error.psnr_db(0) is None
    exact = BaseError()
    exact.add(samples, samples)
    assert exact.psnr_db(100) == math.inf
