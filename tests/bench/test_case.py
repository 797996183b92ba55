"""What a case holds, of all of an exam and of a part of it."""

from pathlib import Path

import numpy as np
import pytest

from edge_codec.bench.rd.case import case_name, load_case
from edge_codec.errors import SourceError

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_a_part_keeps_the_exams_peak_and_region(heart, heart_file):
    whole, part = load_case(heart_file), load_case(heart_file, phases=2, slice_step=2)
    np.testing.assert_array_equal(part.voxels, heart[::2, :2])
    assert part.part == "2 of 3 phases, 1 of 2 slices"
    assert (part.peak, part.peak_p995) == (whole.peak, whole.peak_p995)
    assert whole.peak == heart.max()
    assert whole.peak_p995 == np.percentile(heart, 99.5)
    np.testing.assert_array_equal(part.region, whole.region[:1])
    assert whole.region.sum() == 2 * 429  # 10 % of 66 x 65
    assert (whole.part, whole.describe()["part"]) == ("", "whole exam")


def test_more_phases_than_there_are_is_all_of_them(heart_file):
    assert load_case(heart_file, phases=99).part == ""


def test_headers_of_a_part_are_those_of_its_frames():
    whole = load_case(EXAMPLES / "dicom_tiny")
    part = load_case(EXAMPLES / "dicom_tiny", phases=2, slice_step=2)
    assert len(whole.cine.metadata) == 6
    assert part.cine.metadata == (whole.cine.metadata[0], whole.cine.metadata[2])
    assert part.cine.info.trigger_time_ms == whole.cine.info.trigger_time_ms[:2]


def test_bits_hold_every_value_from_the_offset(make_case):
    assert (make_case(np.array([[-1, 254]], np.int16)).offset) == -1
    assert make_case(np.array([[-1, 254]], np.int16)).bits == 8
    assert make_case(np.array([[7, 256]], np.int16)).bits == 9
    assert make_case(np.array([[7.0, 256.0]])).voxels.dtype.kind == "i"


def test_what_gives_no_figures_is_refused(tmp_path):
    for name, voxels, why in (
        ("floats", np.array([[0.5, 1.25]], np.float32), "no whole numbers"),
        ("air", np.zeros((4, 4), np.int16), "no positive voxel"),
    ):
        np.save(tmp_path / f"{name}.npy", voxels)
        with pytest.raises(SourceError, match=why):
            load_case(tmp_path / f"{name}.npy")


@pytest.mark.parametrize(
    ("path", "name"),
    [("a/heart.nii.gz", "heart"), ("heart.NPY", "heart"), ("dicoms", "dicoms"), (".npy", ".npy")],
)
def test_names(path, name):
    assert case_name(Path(path)) == name
