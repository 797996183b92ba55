"""The benchmark on images that no model was made for, its tables, and the page that shows them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import out_of_domain, report_out_of_domain
from benchmarks.out_of_domain_data import CASES, OtherCase

for name in ("av", "imagecodecs", "PIL"):
    pytest.importorskip(name, reason=f"{name} is not installed: pip install 'edge-codec[bench]'")

PAGE = Path(__file__).parent.parent / "docs" / "out_of_domain.md"
GENERATED = [case for case in CASES if case.license == "generated"]


def ramp():
    rows, columns = np.mgrid[:40, :48]
    return np.stack([rows * 3 + columns * 5 - 9 + phase for phase in range(2)])[None]


SMALL = OtherCase("ramp", "a slope", "-", "generated", ramp)


@pytest.fixture(scope="module")
def rows():
    return list(out_of_domain.rows(SMALL))


def test_page_shows_the_tables_of_the_record():
    text = PAGE.read_text(encoding="utf-8")
    for table in report_out_of_domain.tables():
        assert table in text


def test_every_case_is_in_the_record():
    recorded = {row["case"] for row in report_out_of_domain.load()}
    assert recorded == {case.name for case in CASES}


@pytest.mark.parametrize("case", GENERATED, ids=lambda case: case.name)
def test_generated_images_are_the_same_everywhere_at_any_time(case):
    found = case.voxels()
    np.testing.assert_array_equal(found, case.voxels())
    assert found.dtype == np.uint16
    assert found.ndim == 4


def test_negative_values_are_shifted_up():
    voxels = SMALL.voxels()
    assert voxels.min() == 0
    np.testing.assert_array_equal(voxels, ramp() + 9)


def test_records_say_what_was_measured(rows):
    alone = [row for row in rows if row["kind"] == "base layer alone"]
    assert [(row["model"], row["quality"]) for row in alone] == [
        ("vqvae", None),
        *((model, quality) for model in ("dwt-cal", "video") for quality in (16, 32, 48)),
    ]
    for row in alone:
        assert row["bits_per_voxel"] * row["ratio_to_16_bit"] == pytest.approx(16)
        assert row["ssim"] <= 1
        assert row["peak"] == 9 + int(ramp().max())
    quality = [row["psnr_db"] for row in alone if row["model"] == "dwt-cal"]
    assert quality == sorted(quality)
    lossless = {
        (row["model"], row["base_cost"]): row["bits_per_voxel"]
        for row in rows
        if row["kind"] == "lossless"
    }
    assert len(lossless) == 5
    assert lossless["dwt-cal", 5.0] < lossless["dwt-cal", None]


def test_jpeg_2000_takes_no_more_bits():
    voxels = np.random.default_rng(0).integers(0, 4096, (1, 1, 32, 32)).astype(np.uint16)
    few, many = (out_of_domain.of_jpeg_2000(voxels, bits) for bits in (1.5, 4.0))
    assert few.bits_per_voxel <= 1.5 < many.bits_per_voxel <= 4.0
    assert few.psnr_db < many.psnr_db
    assert out_of_domain.of_jpeg_2000(voxels, 0.01) is None


def test_what_is_exact_has_no_psnr():
    found = out_of_domain.fidelity(SMALL.voxels(), SMALL.voxels(), 480)
    assert (found.bits_per_voxel, found.psnr_db, found.ssim) == (1.0, None, pytest.approx(1))


def test_a_broken_promise_is_an_error(monkeypatch):
    class Other:
        voxels = SMALL.voxels() + 1

    monkeypatch.setattr(out_of_domain, "decompress", lambda _: Other)
    with pytest.raises(ValueError, match="promise"):
        out_of_domain.lossless_bits(SMALL.voxels(), "none", None, None)


def cells(text):
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]


def test_tables_of_made_up_records():
    facts = {"case": "a", "what": "b", "shape": [1, 2, 3, 4], "peak": 9, "source": "c",
             "license": "d"}  # fmt: skip
    points = [(30.0, {"psnr_db": 28.0, "ssim": 0.5}, "+2.0 dB"), (None, None, "-")]
    rows = [
        {**facts, "kind": "base layer alone", "model": "dwt-cal", "quality": 16, "ssim": 0.75,
         "bits_per_voxel": 0.5, "ratio_to_16_bit": 32.0, "psnr_db": ours, "jpeg_2000": peer}
        for ours, peer, _ in points
    ]  # fmt: skip
    rows += [
        {**facts, "kind": "lossless", "model": model, "quality": None, "base_cost": cost,
         "bits_per_voxel": bits}
        for model, cost, bits in (("none", None, 2.0), ("vqvae", None, 2.2), ("dwt-cal", None, 3.0),
                                  ("dwt-cal", 5.0, 2.0), ("video", None, 1.0))
    ]  # fmt: skip
    first, _, third, fourth, last = report_out_of_domain.tables(rows)
    assert cells(first)[2] == ["a", "b", "1 x 2 x 3x4", "9", "c", "d"]
    assert cells(third)[2] == ["a", "16", "0.500", "32.0", "30.00 dB", "0.7500", "28.00 dB",
                               "0.5000", "+2.0 dB"]  # fmt: skip
    assert cells(third)[3][-5:] == ["exact", "0.7500", "-", "-", "-"]
    assert len(cells(fourth)) == 2
    assert cells(last)[2] == ["a", "2.000", "+10.0 %", "+50.0 %", "+0.0 %", "-50.0 %"]
