"""Whole frames in C against NumPy and zlib."""

import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_codec.base import _frame

sides = st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(0, 9), st.integers(0, 9))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.binary(max_size=400))
def test_check_is_zlibs(data):
    assert _frame.crc32(data) == zlib.crc32(data)


def test_check_of_a_large_frame_is_zlibs():
    data = np.random.default_rng(1).integers(0, 2**32, (256, 257)).astype(np.uint32)
    assert _frame.crc32(data) == zlib.crc32(data)
    assert _frame.crc32(data.tobytes()[3:]) == zlib.crc32(data.tobytes()[3:])


@settings(max_examples=50, deadline=None, derandomize=True)
@given(sides, st.integers(0, 2**32 - 1))
def test_codes_of_samples_are_padded_with_the_edge(size, seed):
    rows, columns, below, right = size
    rng = np.random.default_rng(seed)
    table = rng.integers(0, 256, 999).astype(np.uint8)
    samples = rng.integers(0, 999, (rows, columns)).astype(np.uint32)
    codes = np.empty((rows + below, columns + right), np.uint8)
    assert _frame.look_up_codes(samples, table, codes, samples.shape, codes.shape)
    expected = np.pad(table[samples], ((0, below), (0, right)), mode="edge")
    np.testing.assert_array_equal(codes, expected)
    samples.flat[-1] = 999
    assert not _frame.look_up_codes(samples, table, codes, samples.shape, codes.shape)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(sides, st.integers(0, 2**32 - 1))
def test_samples_of_codes_are_cropped(size, seed):
    rows, columns, below, right = size
    rng = np.random.default_rng(seed)
    table = rng.integers(0, 2**32, 256).astype(np.uint32)
    codes = rng.integers(0, 256, (rows + below, columns + right)).astype(np.uint8)
    samples = np.empty((rows, columns), np.uint32)
    _frame.look_up_samples(codes, table, samples, samples.shape, codes.shape)
    np.testing.assert_array_equal(samples, table[codes[:rows, :columns]])


@pytest.mark.parametrize(
    ("size", "padded"),
    [
        ((2, 3), (2, 2)),
        ((3, 2), (2, 2)),
        ((0, 0), (2, 2)),
        ((2, 2), (1 << 40, 2)),
        ((1, 1), (2, 2)),
    ],
)
def test_sizes_that_do_not_fit(size, padded):
    samples, codes = np.zeros((2, 2), np.uint32), np.zeros((2, 2), np.uint8)
    with pytest.raises(ValueError, match="do not fit"):
        _frame.look_up_codes(samples, np.zeros(256, np.uint8), codes, size, padded)
    with pytest.raises(ValueError, match="do not fit"):
        _frame.look_up_samples(codes, np.zeros(256, np.uint32), samples, size, padded)
    with pytest.raises(ValueError, match="do not fit"):
        _frame.look_up_samples(codes, np.zeros(255, np.uint32), samples, (2, 2), (2, 2))
