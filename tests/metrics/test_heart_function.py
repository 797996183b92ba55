"""Volumes, ejection fraction, mass: figures of hearts made of known numbers of voxels."""

import numpy as np
import pytest

from edge_codec.errors import FrameError
from edge_codec.metrics.heart_function import (
    LV,
    MYOCARDIUM,
    RV,
    ejection_fraction,
    heart_function,
    phases_of_curve,
    volume_curve,
    volume_preservation,
)

SPACING = (10.0, 2.0, 1.5)  # 0.03 ml


def labels(lv, myocardium, rv):
    """Return a volume with so many voxels of each."""
    made = np.zeros(2 * 20 * 30, np.uint8)
    ends = np.cumsum([lv, myocardium, rv])
    for label, start, end in zip((LV, MYOCARDIUM, RV), (0, *ends), ends, strict=False):
        made[start:end] = label
    return made.reshape(2, 20, 30)


def test_volumes_are_voxels_times_their_volume():
    found = heart_function(labels(400, 300, 200), labels(160, 310, 120), SPACING)
    assert found.lv_edv_ml == pytest.approx(12)
    assert found.lv_esv_ml == pytest.approx(4.8)
    assert found.lv_ef_percent == pytest.approx(60)
    assert found.rv_edv_ml == pytest.approx(6)
    assert found.rv_esv_ml == pytest.approx(3.6)
    assert found.rv_ef_percent == pytest.approx(40)
    assert found.myocardium_ed_ml == pytest.approx(9)
    assert found.myocardium_es_ml == pytest.approx(9.3)
    assert found.mass_g == pytest.approx(9.45)


def test_without_a_spacing_there_are_fractions_only():
    found = heart_function(labels(400, 300, 0), labels(160, 310, 0), (0.0, 1.5, 1.5))
    assert found.lv_ef_percent == pytest.approx(60)
    assert found.rv_ef_percent is None
    assert (found.lv_edv_ml, found.rv_esv_ml, found.mass_g) == (None, None, None)


def test_a_heart_that_grows_has_a_negative_fraction():
    assert ejection_fraction(100, 120) == pytest.approx(-20)
    assert ejection_fraction(0, 0) is None


def test_curve_and_its_phases():
    cine = np.stack([labels(n, 300, 90) for n in (300, 400, 150, 400)], axis=1)
    curve = volume_curve(cine, LV, SPACING)
    assert curve == pytest.approx([9, 12, 4.5, 12])
    assert volume_curve(cine, LV, (0.0, 0.0, 0.0)) == pytest.approx([300, 400, 150, 400])
    assert phases_of_curve(curve) == (1, 2)


def test_preservation_counts_both_directions():
    original = np.array([100.0, 60.0, 40.0])
    assert volume_preservation(original, original) == 1
    assert volume_preservation(original, np.add(original, [10, -10, 0])) == pytest.approx(0.9)
    assert volume_preservation(original, np.zeros(3)) == 0
    assert volume_preservation(np.zeros(3), original) is None


def test_labels_of_two_exams_are_refused():
    with pytest.raises(FrameError, match="one exam"):
        heart_function(labels(1, 1, 1), labels(1, 1, 1)[:1], SPACING)
