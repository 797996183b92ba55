"""Samples as levels and back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_codec.base.video.levels import Levels

spans = st.integers(0, 2**32 - 1)
depths = st.sampled_from([10, 12])


@settings(max_examples=200, deadline=None, derandomize=True)
@given(spans, depths, st.data())
def test_levels_lose_no_more_than_the_missing_bits(span, depth, data):
    values = data.draw(st.lists(st.integers(0, span), min_size=1, max_size=9))
    samples = np.array([values], np.uint32)
    levels = Levels(span, depth)
    coded = levels.encode(samples)
    assert coded.dtype == np.uint16
    assert coded.max() < 1 << depth
    lost = max(0, span.bit_length() - depth)
    error = np.abs(levels.decode(coded).astype(np.int64) - samples)
    # A step down to the nearest level; the topmost samples share the last one.
    assert error.max() <= (1 << lost) - 1 if lost else not error.any()


@settings(max_examples=100, deadline=None, derandomize=True)
@given(spans, depths, st.lists(st.integers(0, 65535), min_size=1, max_size=9))
def test_any_level_decodes_within_the_span(span, depth, values):
    decoded = Levels(span, depth).decode(np.array([values], np.uint16))
    assert decoded.dtype == np.uint32
    assert int(decoded.max()) <= span


@pytest.mark.parametrize(
    ("span", "depth", "samples", "levels"),
    [
        (830, 12, [0, 1, 830], [0, 4, 3320]),
        (4095, 12, [0, 1, 4095], [0, 1, 4095]),
        (65535, 12, [0, 7, 8, 65535], [0, 0, 1, 4095]),
        (4095, 10, [0, 1, 2, 4095], [0, 0, 1, 1023]),
        (0, 12, [0], [0]),
    ],
)
def test_the_definition(span, depth, samples, levels):
    coded = Levels(span, depth).encode(np.array([samples], np.uint32))
    assert coded.tolist() == [levels]


def test_decoding_rounds_half_up():
    assert Levels(830, 12).decode(np.array([[5, 6, 4095]], np.uint16)).tolist() == [[1, 2, 830]]
    assert Levels(4095, 10).decode(np.array([[1, 1023]], np.uint16)).tolist() == [[4, 4092]]
