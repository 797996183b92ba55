"""Dice and surface distances: known shapes, and MedPy's definition by a distance transform."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from edge_codec.errors import FrameError
from edge_codec.metrics import overlap
from edge_codec.metrics.overlap import dice, hausdorff, hd95, surface, surface_distances

MASKS = arrays(np.bool_, (3, 6, 5))
# How long inputs take to make depends on the machine.
STEADY = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
SPACING = st.tuples(*[st.floats(0.5, 10)] * 3)


def block(shape, corner, size):
    mask = np.zeros(shape, np.bool_)
    mask[tuple(slice(a, a + n) for a, n in zip(corner, size, strict=True))] = True
    return mask


def by_transform(first, second, spacing):
    """Surface distances as MedPy defines them."""
    cross = ndimage.generate_binary_structure(first.ndim, 1)
    borders = [mask ^ ndimage.binary_erosion(mask, cross) for mask in (first, second)]
    found = [
        ndimage.distance_transform_edt(~other, sampling=spacing)[border]
        for border, other in (borders, borders[::-1])
    ]
    return np.hstack(found)


@STEADY
@given(MASKS, MASKS)
def test_dice_is_symmetric_and_one_for_equal_objects_only(first, second):
    found = dice(first, second)
    assert found == dice(second, first)
    if not first.any() and not second.any():
        assert found is None
    else:
        assert 0 <= found <= 1
        assert (found == 1) == np.array_equal(first, second)


def test_dice_of_half_an_object():
    whole, half = block((4, 4), (0, 0), (4, 4)), block((4, 4), (0, 0), (2, 4))
    assert dice(whole, half) == pytest.approx(2 * 8 / 24)
    assert dice(whole, np.zeros_like(whole)) == 0


@STEADY
@given(MASKS, MASKS, SPACING)
def test_distances_are_those_of_a_distance_transform(first, second, spacing):
    found = surface_distances(first, second, spacing)
    if not first.any() or not second.any():
        assert found is None
        assert hd95(first, second, spacing) is None
        assert hausdorff(first, second, spacing) is None
        return
    expected = by_transform(first, second, spacing)
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert hd95(first, second, spacing) == pytest.approx(np.percentile(expected, 95))
    assert hd95(first, second, spacing) == pytest.approx(hd95(second, first, spacing))


def test_a_shifted_block_is_off_by_its_shift():
    shape = (9, 20, 20)
    first = block(shape, (2, 5, 5), (4, 6, 6))
    in_plane = block(shape, (2, 8, 5), (4, 6, 6))
    across = block(shape, (3, 5, 5), (4, 6, 6))
    spacing = (10.0, 1.5, 1.25)
    assert hausdorff(first, in_plane, spacing) == pytest.approx(4.5)
    assert hausdorff(first, across, spacing) == pytest.approx(10)
    assert hd95(first, first, spacing) == 0
    # One stray voxel far away: the largest distance, but not the 95th percentile.
    stray = first.copy()
    stray[4, 19, 19] = True
    assert hausdorff(first, stray, spacing) == pytest.approx(np.hypot(9 * 1.5, 9 * 1.25))
    assert hd95(first, stray, spacing) == 0


def test_many_points_are_compared_in_parts(monkeypatch):
    random = np.random.default_rng(3)
    first, second = (random.random((4, 12, 11)) < 0.4 for _ in range(2))
    whole = surface_distances(first, second, (8.0, 1.4, 1.4))
    monkeypatch.setattr(overlap, "_CHUNK", 700)
    np.testing.assert_array_equal(surface_distances(first, second, (8.0, 1.4, 1.4)), whole)


def test_the_surface_is_where_a_face_is_free():
    solid = block((5, 5, 5), (1, 1, 1), (3, 3, 3))
    assert surface(solid).sum() == 26
    full = np.ones((3, 3), np.bool_)
    assert surface(full).tolist() == [[True] * 3, [True, False, True], [True] * 3]


def test_what_cannot_be_compared_is_refused():
    mask = np.ones((2, 3, 4), np.bool_)
    with pytest.raises(FrameError, match=r"\(2, 3, 4\) and \(2, 3, 5\)"):
        dice(mask, np.ones((2, 3, 5), np.bool_))
    for spacing in ((0.0, 1.0, 1.0), (1.0, 1.0)):
        with pytest.raises(FrameError, match="positive"):
            hd95(mask, mask, spacing)
