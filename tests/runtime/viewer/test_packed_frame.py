"""Frames as the page gets them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_codec.errors import FrameError
from edge_codec.runtime.viewer.packed_frame import HEAD, pack_frame, unpack_frame


@settings(deadline=None)
@given(st.sampled_from(["i1", "u1", "i2", "u2", "i4", "u4", "i8"]), st.data())
def test_integers_come_back(name, data):
    limits = np.iinfo(name)
    low = data.draw(st.integers(limits.min, limits.max))
    high = min(limits.max, low + data.draw(st.sampled_from([0, 1, 65535, 65536, (1 << 32) - 1])))
    voxels = np.full((3, 5), low, name)
    voxels[1, 2] = high
    packed = pack_frame(voxels)
    np.testing.assert_array_equal(unpack_frame(packed), voxels)
    assert len(packed) == HEAD.size + 15 * (2 if high - low < 1 << 16 else 4)


def test_floats_come_back():
    voxels = np.array([[0.5, -np.inf], [np.nan, 3e38]], np.float32)
    np.testing.assert_array_equal(unpack_frame(pack_frame(voxels)), voxels)


@pytest.mark.parametrize(
    "voxels",
    [
        np.array([[-1, (1 << 32) - 1]], np.int64),
        np.array([[(1 << 63), (1 << 63) + 1]], np.uint64),
    ],
)
def test_too_wide_values_are_refused(voxels):
    with pytest.raises(FrameError, match="too many values"):
        pack_frame(voxels)


@pytest.mark.parametrize("data", [b"", b"x" * 24, pack_frame(np.zeros((2, 2), np.int16))[:-1]])
def test_other_bytes_are_no_frame(data):
    with pytest.raises(FrameError):
        unpack_frame(data)
