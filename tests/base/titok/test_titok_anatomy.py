"""Features of a segmentation: size, place, shape and certainty of each class."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edge_codec.base.titok.anatomy import ANATOMY, anatomy_features, heart_shares

SIDE = 64


def disc(label: int, row: float, column: float, radius: float) -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE]
    probabilities = np.zeros((4, SIDE, SIDE), np.float32)
    probabilities[0] = 0.4
    probabilities[label][np.hypot(y - row, x - column) < radius] = 0.9
    return probabilities


def test_a_disc_is_described() -> None:
    features = anatomy_features(disc(3, 31.5, 15.5, 10.0))
    size, row, column, compactness, certainty = features[10:15]
    assert size == pytest.approx(math.sqrt(math.pi * 100) / SIDE, rel=0.02)
    assert (row, column) == (pytest.approx(0.0, abs=1e-6), pytest.approx(-0.5, abs=1e-6))
    assert compactness == pytest.approx(1.0, abs=0.12)
    assert certainty == pytest.approx(0.9)
    assert features[-1] == 1
    assert not features[:10].any()
    assert features.shape == (ANATOMY,)


def test_a_bar_is_less_compact_than_a_disc() -> None:
    bar = np.zeros((4, SIDE, SIDE), np.float32)
    bar[0] = 0.4
    bar[1, 30:34, 4:60] = 0.9
    assert anatomy_features(bar)[3] < 0.5 * anatomy_features(disc(1, 31.5, 31.5, 8.0))[3]


def test_no_heart_is_all_zeros() -> None:
    nothing = disc(3, 0.0, 0.0, 0.0)
    assert not anatomy_features(nothing).any()
    assert not heart_shares(nothing).any()


def test_shares_count_pixels_of_each_patch() -> None:
    probabilities = np.zeros((4, SIDE, 32), np.float32)
    probabilities[0] = 0.4
    probabilities[2, 16:24, :16] = 0.9
    expected = np.zeros((4, 2), np.float32)
    expected[1, 0] = 0.5
    assert np.array_equal(heart_shares(probabilities), expected)
