"""Differences of curves by part of the range, and by the heart alone."""

import pytest

from edge_codec.bench.rd.difference import HEART, PSNR, differences, markdown, overall
from edge_codec.bench.rd.measure import Figures, Result

RATES = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
DECIBELS = (30.0, 34.0, 38.0, 42.0, 46.0, 50.0)


def curve(codec, factors, heart=-3.0):
    """Results at the same qualities, with the rates of the anchor times factors."""
    found = []
    for rate, factor, quality in zip(RATES, factors, DECIBELS, strict=True):
        near = None if heart is None else quality + heart
        figures = Figures(1, rate * factor, 1.0, quality, None, None, near, 0.9, 1, 1.0, 1.0, "")
        found.append(Result("heart", codec, f"at {rate}", "lossy", None, 1, "ok", figures=figures))
    return found


ROWS = [*curve("peer", (1,) * 6), *curve("ours", (0.5, 0.5, 0.5, 0.5, 1, 1))]


def test_each_range_has_its_own_difference():
    found = {
        (item.measure, item.asked_db): item.found.rate_percent
        for item in differences(ROWS, "peer", [(30, 42), (46, 50)])
    }
    assert found[PSNR, (30, 42)] == pytest.approx(-50, abs=1)
    assert found[PSNR, (46, 50)] == pytest.approx(0, abs=6)
    assert -50 < found[PSNR, None] < -20
    assert overall(differences(ROWS, "peer")) == {"ours": found[PSNR, None]}


def test_the_heart_is_judged_by_its_own_quality():
    better = [*curve("peer", (1,) * 6), *curve("ours", (1,) * 6, heart=1.0)]
    found = {item.measure: item.found for item in differences(better, "peer", [])}
    assert found[PSNR].rate_percent == pytest.approx(0, abs=1e-9)
    assert found[HEART].rate_percent == pytest.approx(-50)  # 4 dB are a factor of 2


def test_records_say_what_was_asked_for_and_what_was_covered():
    item = differences(ROWS, "peer", [(40, 60)])[1]
    row = item.record("heart", "peer")
    assert row["asked_range_db"] == (40, 60)
    assert row["quality_range_db"] == (40, 50)
    assert (row["case"], row["codec"], row["anchor"], row["measure"]) == (
        "heart", "ours", "peer", "psnr_db",
    )  # fmt: skip


def test_the_table_names_what_is_covered_where_it_is_not_all():
    table = markdown(differences(ROWS, "peer", [(30, 42), (40, 60), (60, 70)]), "peer")
    head, _, line = table.splitlines()
    cells = dict(zip(head.split(" | "), line.split(" | "), strict=True))
    assert cells["30 to 42 dB"] == "-50.3 %"
    assert cells["40 to 60 dB"].endswith("% (40.0 to 50.0)")
    assert cells["60 to 70 dB"] == "n/a"
    assert cells["heart 60 to 70 dB |"].rstrip(" |") == "n/a"


def test_without_an_anchor_or_a_region_there_is_nothing():
    assert differences(ROWS, "nobody") == []
    assert "n/a: nobody has no curve" in markdown([], "nobody")
    bare = [*curve("peer", (1,) * 6, None), *curve("ours", (1,) * 6, None)]
    assert {item.measure for item in differences(bare, "peer")} == {PSNR}
