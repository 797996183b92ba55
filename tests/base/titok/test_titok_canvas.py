"""Frames onto the canvas and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_codec.base.titok.canvas import MOST_ENLARGED, SIDE, Canvas, canvas_of, places


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((128, 128), ((0, 128), (0, 128))),
        ((256, 256), ((0, 128), (0, 128))),
        ((256, 192), ((0, 128), (16, 96))),
        ((100, 200), ((32, 64), (0, 128))),
        ((100, 90), ((0, 128), (6, 115))),
        ((30, 20), ((34, 60), (44, 40))),
        ((1, 1), ((63, 2), (63, 2))),
        ((1, 4000), ((63, 1), (0, 128))),
    ],
    ids=str,
)
def test_where_frames_lie(size, expected):
    assert places(*size) == expected


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300))
def test_every_frame_has_a_place_and_a_level_stays_one(rows, columns):
    (top, height), (left, width) = places(rows, columns)
    assert 0 <= top <= top + height <= SIDE
    assert 0 <= left <= left + width <= SIDE
    assert max(height, width) <= MOST_ENLARGED * max(rows, columns)
    canvas = Canvas(rows, columns)
    assert canvas.inside.sum() == height * width
    level = np.full((rows, columns), 0.7, np.float32)
    assert np.allclose(canvas.fit(level), 0.7, atol=1e-5)
    assert np.allclose(canvas.restore(np.full((SIDE, SIDE), 0.7, np.float32)), 0.7, atol=1e-5)


def test_the_border_is_repeated():
    frame = np.random.default_rng(0).random((64, 96), np.float32)
    (top, height), _ = places(64, 96)
    fitted = Canvas(64, 96).fit(frame)
    assert top > 0
    assert np.allclose(fitted[:top], fitted[top], atol=1e-6)
    assert np.allclose(fitted[top + height :], fitted[top + height - 1], atol=1e-6)


@pytest.mark.parametrize("size", [(256, 256), (200, 150), (90, 128), (50, 64)], ids=str)
def test_it_is_what_training_libraries_call_bicubic_with_antialiasing(size):
    frame = np.random.default_rng(1).random(size, np.float32)
    (top, height), (left, width) = places(*size)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(frame)[None, None], (height, width), mode="bicubic", antialias=True
    )[0, 0]
    inner = Canvas(*size).fit(frame)[top : top + height, left : left + width]
    assert np.allclose(inner, expected.numpy(), atol=2e-4)


def test_smooth_frames_come_back():
    y, x = np.mgrid[:200, :160].astype(np.float32)
    frame = 0.5 + 0.3 * np.sin(x / 15) * np.cos(y / 19)
    canvas = canvas_of(200, 160)
    assert np.abs(canvas.restore(canvas.fit(frame)) - frame)[4:-4, 4:-4].max() < 0.005


def test_one_canvas_serves_all_slices():
    assert canvas_of(40, 50) is canvas_of(40, 50)
