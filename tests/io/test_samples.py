import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge_codec.errors import FrameError, SourceError
from edge_codec.io.samples import choose_format, to_integers, to_voxels
from edge_codec.spec import CineInfo, SampleFormat

BITS = st.integers(0, 2**32 - 1)


def info_for(dtype, sample_format):
    return CineInfo(1, 1, 2, 2, np.dtype(dtype), sample_format)


def chosen(values, dtype):
    return choose_format([np.array(values, dtype)], np.dtype(dtype))


@settings(derandomize=True, max_examples=200, deadline=None)
@given(hnp.arrays(np.uint32, (3, 4), elements=BITS))
def test_every_float32_bit_pattern_survives(bits):
    voxels = bits.view(np.float32)
    codes = to_integers(voxels, SampleFormat.FLOAT32_ORDERED)
    assert codes.dtype == np.int32
    back = to_voxels(codes.astype(np.int64), info_for("f4", SampleFormat.FLOAT32_ORDERED))
    assert np.array_equal(back.view(np.uint32), bits)


def test_ordered_codes_keep_the_order_of_floats():
    voxels = np.array([-np.inf, -3.5, -1e-40, -0.0, 0.0, 1e-40, 2.0, np.inf], np.float32)
    codes = to_integers(voxels, SampleFormat.FLOAT32_ORDERED)
    assert (np.diff(codes.astype(np.int64)) > 0).all()
    assert codes[4] == 0
    assert codes[3] == -1


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_whole_numbers_become_integers(dtype):
    voxels = np.array([[0, -5], [4095, 70000]], dtype)
    assert chosen(voxels, dtype) is SampleFormat.FLOAT_INTEGER
    codes = to_integers(voxels, SampleFormat.FLOAT_INTEGER)
    back = to_voxels(codes, info_for(dtype, SampleFormat.FLOAT_INTEGER))
    assert back.dtype == dtype
    assert np.array_equal(back, voxels)


@pytest.mark.parametrize("value", [0.5, -0.0, np.nan, np.inf, 2.0**24 + 2])
def test_what_is_no_small_whole_number_is_ordered(value):
    assert chosen([1, value], "f4") is SampleFormat.FLOAT32_ORDERED


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.5, SampleFormat.FLOAT32_ORDERED),
        (-0.0, SampleFormat.FLOAT32_ORDERED),
        (np.nan, SampleFormat.FLOAT32_ORDERED),
        (2.0**31 - 1, SampleFormat.FLOAT_INTEGER),
        (2.0**31, SampleFormat.FLOAT32_ORDERED),
    ],
)
def test_float64_that_is_exact_as_float32(value, expected):
    assert chosen([1, value], "f8") is expected


@pytest.mark.parametrize("value", [0.1, 1e300, 5e-324])
def test_float64_that_no_code_fits_is_refused(value):
    with pytest.raises(SourceError, match="store them as float32"):
        chosen([value], "f8")


def test_a_nan_payload_that_float32_lacks_is_refused():
    with pytest.raises(SourceError):
        choose_format([np.array([0x7FF0000000000001], np.uint64).view("f8")], np.dtype("f8"))


def test_float64_comes_back_bit_for_bit():
    voxels = np.array([-0.0, 0.25, np.inf, np.nan, -1e30], np.float32).astype(np.float64)
    codes = to_integers(voxels, SampleFormat.FLOAT32_ORDERED)
    back = to_voxels(codes, info_for("f8", SampleFormat.FLOAT32_ORDERED))
    assert np.array_equal(back.view(np.uint64), voxels.view(np.uint64))


def test_integers_that_do_not_fit_are_refused():
    with pytest.raises(FrameError, match=r"-1\.\.300"):
        to_voxels(np.array([-1, 300]), info_for("u1", SampleFormat.INTEGER))
    with pytest.raises(FrameError, match="pass integers"):
        to_voxels(np.zeros(3), info_for("u1", SampleFormat.INTEGER))


def test_unsigned_64_bit_voxels_keep_their_values():
    voxels = np.array([2**64 - 1, 2**63], np.uint64)
    info = info_for("u8", SampleFormat.INTEGER)
    assert np.array_equal(to_voxels(to_integers(voxels, info.sample_format), info), voxels)
