"""The moving region: which pixels, how many."""

import numpy as np

from edge_codec.metrics.motion import moving_region


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
