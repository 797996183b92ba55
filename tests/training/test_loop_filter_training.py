"""Training of the hybrid layer's loop filter."""

import re

import numpy as np
import pytest
from hybrid_samples import moving_frames

from edge_codec.base.hybrid.native import native
from edge_codec.errors import SourceError
from edge_codec.training import loop_filter
from edge_codec.training.loop_filter import SeenFrame


def seen(gain, step=8.0):
    """A frame that misses `gain` times the differences to the pixels on both sides."""
    pixels = np.random.default_rng(1).integers(0, 4096, (64, 64)).astype(np.float32)
    wide = np.pad(pixels, 1, mode="edge")
    missing = gain * (wide[1:-1, :-2] + wide[1:-1, 2:] - 2 * pixels)
    classes = np.arange(64 * 64).reshape(64, 64).astype(np.uint8) % 6
    return SeenFrame(pixels + missing, pixels, classes, step, True)


def test_weights_are_found_again():
    size = 2 * len(loop_filter.PAIRS)
    sums = [(np.zeros((size, size)), np.zeros(size)) for _ in range(loop_filter.CLASSES)]
    loop_filter.add_frame(seen(0.25, step=2000), sums)
    weights = loop_filter.solve(sums)
    expected = np.zeros_like(weights)
    expected[:, 0, 0] = 64
    np.testing.assert_allclose(weights, expected, atol=1)


def test_weights_have_a_bound():
    size = 2 * len(loop_filter.PAIRS)
    sums = [(np.zeros((size, size)), np.zeros(size)) for _ in range(loop_filter.CLASSES)]
    loop_filter.add_frame(seen(5.0, step=2000), sums)
    with pytest.raises(SourceError, match="at most 1023 fit"):
        loop_filter.solve(sums)


def test_what_the_filter_saw_is_not_filtered():
    frames = moving_frames(42, 70, 3)
    coder, kept = native.Coder(42, 70), np.empty((42, 70), np.int16)
    coder.encode(frames[0], 67, True, (), 0, 1, 0, None, 1)
    coder.frame(0, kept)
    first, *others = loop_filter.seen_frames(frames, 72)
    assert (first.key, first.step) == (True, 2 ** (43 / 6))
    assert [frame.key for frame in others] == [False, False]
    for frame in (first, *others):
        assert frame.pixels.shape == frame.classes.shape == (48, 72)
        np.testing.assert_array_equal(frame.source[41:], frame.source[[41]].repeat(7, axis=0))
    assert first.classes.max() < 5
    changed = first.pixels[:42, :70] != kept
    assert 0.05 < changed.mean() < 1
    assert np.abs(first.pixels[:42, :70] - kept).max() < first.step


def test_the_header_has_all_weights():
    weights = np.arange(240).reshape(2, 5, 12, 2)
    text = loop_filter.header(weights)
    table = text[text.index("= {") + 2 :]
    assert list(map(int, re.findall(r"\d+", table))) == list(range(240))
    assert table.count("{") == table.count("}") == 1 + 2 + 10 + 120
    assert max(map(len, text.splitlines())) <= 100
