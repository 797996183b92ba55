"""Pictures: equal results give equal files, labels do not touch."""

import doctest
import itertools
import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_codec.bench.rd import plot
from edge_codec.bench.rd.measure import Figures, Result
from edge_codec.bench.rd.plot import draw_lossless, draw_rate_distortion, spread


def row(codec, setting, tier, bpp, psnr_db, encode_ms=2.0):
    figures = Figures(
        100, bpp, 16 / bpp, psnr_db, None, None, None, 0.9, 1, encode_ms, 1.0, "frame"
    )
    return Result("heart", codec, setting, tier, None, 1, "ok", figures=figures)


ROWS = [
    *(row("edge-codec", f"max error {n}", "bounded", 3.0 / n, 60.0 - 4 * n) for n in (1, 2, 4)),
    *(row("x265-low-delay", f"crf {n}", "lossy", 2.0 / n, 55.0 - n) for n in (1, 4, 16)),
    row("edge-codec-vqvae", "base layer alone", "lossy", 0.07, 33.0),
    row("edge-codec", "lossless", "lossless", 3.5, None),
    row("zstd", "level 3", "lossless", 7.0, None, 0.2),
    Result("heart", "htj2k", "lossless", "lossless", 0, 1, "skipped", "not built"),
]


@pytest.mark.parametrize("draw", [draw_rate_distortion, draw_lossless])
def test_pictures_are_whole_and_equal_for_equal_results(draw):
    first, second = draw("heart: 1 slice", ROWS), draw("heart: 1 slice", ROWS)
    assert first == second
    assert first["png"].startswith(b"\x89PNG")
    ElementTree.fromstring(first["svg"])
    assert b"<dc:date>" not in first["svg"]


def test_labels_say_how_far_a_curve_is_from_the_anchor():
    names = [row.codec for row in ROWS[:6]]
    found = {name: [(1.0, 30.0)] for name in names}
    assert plot._labels(found, ROWS, "") == {name: name for name in names}
    labels = plot._labels(found, ROWS, "x265-low-delay")
    assert labels["x265-low-delay"] == "x265-low-delay, for BD-rate"
    assert re.fullmatch(r"edge-codec [+-]\d+ %", labels["edge-codec"])


def test_nothing_to_draw_gives_no_picture():
    assert draw_rate_distortion("heart", ROWS[-3:]) == {}
    assert draw_lossless("heart", ROWS[:-3]) == {}


@given(st.lists(st.floats(0, 1), max_size=12), st.floats(0.01, 0.2))
def test_labels_keep_their_distance_and_order(heights, gap):
    moved = spread(heights, gap)
    order = sorted(range(len(heights)), key=lambda index: (-heights[index], index))
    for upper, lower in itertools.pairwise(order):
        assert moved[upper] - moved[lower] >= gap - 1e-9
    if gap * len(heights) <= 1:
        assert all(gap / 2 - 1e-9 <= height <= 1 - gap / 2 + 1e-9 for height in moved)


def test_labels_with_room_stay_where_they_are():
    assert spread([0.9, 0.1, 0.5], 0.1) == pytest.approx([0.9, 0.1, 0.5])


def test_examples():
    assert doctest.testmod(plot).failed == 0
