"""The integer maps between voxels and what peers take."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from edge_codec.bench.rd.levels import Levels, difference, undo_difference
from edge_codec.bench.rd.trial import NotApplicableError

SHAPES = array_shapes(min_dims=2, max_dims=2, max_side=7)


@st.composite
def frame_pairs(draw, dtype, highest):
    shape = draw(SHAPES)
    elements = st.integers(0, highest)
    return draw(arrays(dtype, shape, elements=elements)), draw(
        arrays(dtype, shape, elements=elements)
    )


@st.composite
def depths_and_pairs(draw):
    bits = draw(st.integers(1, 16))
    dtype = np.uint8 if bits <= 8 else np.uint16
    return bits, *draw(frame_pairs(dtype, (1 << bits) - 1))


@given(depths_and_pairs())
def test_the_frame_difference_is_exactly_invertible(drawn):
    bits, frame, previous = drawn
    code = difference(frame, previous, bits)
    assert code.dtype == frame.dtype
    assert code.max() < 1 << bits
    back = undo_difference(code, previous, bits)
    np.testing.assert_array_equal(back, frame)
    assert back.dtype == frame.dtype


@given(arrays(np.int16, st.tuples(st.just(2), st.integers(1, 6), st.integers(1, 6))))
def test_signed_frames_survive_offset_and_difference(frames):
    offset = min(0, int(frames.min()))
    levels = Levels(offset, 0, 16)
    first, second = levels.encode(frames)
    back = undo_difference(difference(second, first, 16), first, 16)
    np.testing.assert_array_equal(levels.decode(back), frames[1])


def test_equal_frames_differ_by_the_middle_of_the_range():
    frame = np.array([[0, 5, 1023]], np.uint16)
    assert difference(frame, frame, 10).tolist() == [[512, 512, 512]]


def test_filling_shifts_up_to_the_depth_and_back(make_case):
    voxels = np.arange(-7, 300, dtype=np.int16).reshape(1, 1, 1, -1)
    levels = Levels.filling(make_case(voxels), 12)
    assert (levels.offset, levels.shift, levels.notes) == (-7, 3, ())
    codes = levels.encode(voxels)
    assert (codes.dtype, int(codes.max())) == (np.uint16, 306 << 3)
    np.testing.assert_array_equal(levels.decode(codes), voxels)
    np.testing.assert_array_equal(levels.decode(codes + np.uint16(3)), voxels)  # noise below a half


def test_filling_scales_down_says_so_and_does_not_wrap(make_case):
    voxels = np.array([0, 1, 2, 3, 4093, 4094, 4095], np.uint16).reshape(1, 1, 1, -1)
    levels = Levels.filling(make_case(voxels), 10)
    assert levels.notes == ("values scaled down by 2^2 to fit 10 bits",)
    assert levels.encode(voxels).ravel().tolist() == [0, 0, 1, 1, 1023, 1023, 1023]
    assert levels.decode(np.array([1, 1023], np.uint16)).tolist() == [4, 4092]


def test_exact_refuses_what_does_not_fit_and_takes_bytes_where_they_do(make_case):
    narrow = make_case(np.array([[3, 255]], np.int16))
    assert Levels.exact(narrow).encode(narrow.voxels).dtype == np.uint8
    assert Levels.exact(narrow, 12).encode(narrow.voxels).dtype == np.uint16
    wide = make_case(np.array([[0, 4096]], np.int16))
    with pytest.raises(NotApplicableError, match="values need 13 bits, the codec holds 12"):
        Levels.exact(wide, 12)
    with pytest.raises(NotApplicableError, match="17 bits"):
        Levels.exact(make_case(np.array([[-1, 65535]], np.int32)))
