"""The moving region and that of the heart: which pixels, how many."""

import numpy as np

from edge_codec.metrics.motion import dilated, heart_region, moving_region


def test_the_pixels_that_change_most_are_marked():
    voxels = np.zeros((2, 4, 10, 10), np.int16)
    voxels[0, :, 3, 2:7] = np.array([0, 9, 0, 9])[:, None]
    voxels[0, :, 8, :5] = np.array([0, 1, 2, 3])[:, None]
    voxels[1, ::2, 0] = 1000
    region = moving_region(voxels)
    assert region.shape == (2, 10, 10)
    assert np.argwhere(region[0]).tolist() == [
        *([3, c] for c in range(2, 7)),
        *([8, c] for c in range(5)),
    ]
    assert region[1, 0].all()
    assert region.sum() == 20


def test_the_share_is_rounded_up_and_ties_go_in_reading_order():
    region = moving_region(np.zeros((1, 2, 3, 5), np.uint8))
    assert np.argwhere(region[0]).tolist() == [[0, 0], [0, 1]]


def test_the_share_does_not_grow_by_rounding():
    assert moving_region(np.zeros((1, 2, 66, 65), np.uint8)).sum() == 429


def test_one_phase_has_no_moving_region():
    assert not moving_region(np.ones((3, 1, 8, 8), np.int16)).any()


def beating(rows=64, columns=96):
    """Two slices of two phases with a ring that beats, and a small thing far away that does so."""
    y, x = np.mgrid[:rows, :columns]
    radius = np.hypot(y - 30, x - 40)
    voxels = np.zeros((2, 2, rows, columns), np.int16)
    voxels[:, 1, (radius > 6) & (radius < 14)] = 100
    voxels[0, 1, 56:59, 85:88] = 60
    return voxels, radius


def test_the_heart_is_what_moves_most_with_what_it_encloses():
    voxels, radius = beating()
    region = heart_region(voxels)
    assert region.shape == (2, 64, 96)
    np.testing.assert_array_equal(region[0], region[1])
    assert region[0][radius < 14].all()  # the still middle of the ring, too
    assert not region[0][radius > 24].any()


def test_where_nothing_moves_there_is_no_heart():
    assert not heart_region(np.full((2, 5, 32, 32), 7, np.int16)).any()
    assert not heart_region(np.ones((2, 1, 32, 32), np.int16)).any()


def test_a_mask_grows_within_its_slice_and_frame():
    mask = np.zeros((2, 5, 6), np.bool_)
    mask[0, 0, 5] = True
    grown = dilated(mask, 2)
    assert grown[0, :3, 3:].all()
    assert grown.sum() == 9
    np.testing.assert_array_equal(dilated(mask, 0), mask)
