"""Exams with expert labels: what is read from beside them, and what it is judged by."""

import numpy as np
import pytest
from evaluate_samples import (
    LV_RADII,
    SHAPE,
    SPACING,
    heart_labels,
    threshold_segmenter,
    write_exam,
    write_nifti,
)

from edge_codec.bench.evaluate.exam import load_exam
from edge_codec.bench.evaluate.expert import find_phases, read_info, read_labels
from edge_codec.errors import FrameError, SourceError

CURVE = np.array(LV_RADII)


def test_labels_are_found_by_phase(tmp_path):
    path = write_exam(tmp_path)
    found = read_labels(path, SHAPE)
    assert sorted(found) == [0, 2]
    labels = heart_labels()
    assert (found[2] != labels[:, 2]).sum() < 40
    np.testing.assert_array_equal(found[0][:, :24], labels[:, 0, :24])
    assert read_labels(write_exam(tmp_path / "none", expert=False), SHAPE) == {}


def test_phases_come_from_the_best_source_there_is(tmp_path):
    path = write_exam(tmp_path)
    labels = read_labels(path, SHAPE)
    found = find_phases(read_info(path), labels, CURVE)
    assert (found.ed, found.es, found.found_by) == (0, 2, "Info.cfg")
    found = find_phases({"ED": "3", "ES": "2"}, labels, CURVE)
    assert (found.ed, found.es) == (2, 1)
    found = find_phases({}, {1: labels[2], 3: labels[0]}, CURVE)
    assert (found.ed, found.es, found.found_by) == (3, 1, "expert labels")
    found = find_phases({}, {}, CURVE[::-1])
    assert (found.ed, found.es, found.found_by) == (3, 1, "network")


def test_info_belongs_to_exams_named_as_acdc_does(tmp_path):
    path = write_exam(tmp_path)
    assert read_info(path)["Group"] == "NOR"
    assert read_info(path.rename(tmp_path / "other.nii.gz")) == {}


def test_what_does_not_fit_names_the_file(tmp_path):
    path = write_exam(tmp_path)
    for info in ({"ED": "0", "ES": "3"}, {"ED": "1", "ES": "5"}, {"ED": "one", "ES": "2"}):
        with pytest.raises(SourceError, match="expected frames 1 to 4"):
            find_phases(info, {}, CURVE)
    with pytest.raises(SourceError, match=r"has 3 slices and made_4d\.nii\.gz 4"):
        read_labels(path, (4, *SHAPE[1:]))
    with pytest.raises(SourceError, match="size"):
        read_labels(path, (3, 4, 48, 50))
    write_nifti(tmp_path / "made_frame09_gt.nii.gz", heart_labels()[:, 0])
    with pytest.raises(SourceError, match=r"made_frame09_gt.nii.gz belongs to none of the 4"):
        read_labels(path, SHAPE)


def test_an_exam_knows_both_sources_apart(tmp_path):
    exam = load_exam(write_exam(tmp_path), "made", threshold_segmenter)
    np.testing.assert_array_equal(exam.network, heart_labels())
    row = exam.record()
    assert row["phases"] == {"ed": 0, "es": 2, "found_by": "Info.cfg"}
    assert row["spacing_mm"] == list(SPACING)
    ml = 10 * 1.5 * 1.5 / 1000
    assert row["function"]["network"]["lv_edv_ml"] == pytest.approx(
        (heart_labels()[:, 0] == 3).sum() * ml
    )
    assert row["function"]["expert"]["lv_edv_ml"] > row["function"]["network"]["lv_edv_ml"]
    assert 0.9 < row["network_against_expert"]["es"]["dice"]["lv"] < 1
    assert row["network_against_expert"]["ed"]["dice"]["rv"] == 1
    assert len(row["lv_curve"]) == SHAPE[1]


def test_without_both_phases_an_expert_is_no_reference(tmp_path):
    path = write_exam(tmp_path)
    (tmp_path / "made_frame03_gt.nii.gz").unlink()
    exam = load_exam(path, "made", threshold_segmenter)
    assert exam.reference is None
    assert exam.record()["function"]["expert"] is None


def test_a_segmentation_of_another_shape_is_refused(tmp_path):
    with pytest.raises(FrameError, match="the segmentation has shape"):
        load_exam(write_exam(tmp_path), "made", lambda voxels: threshold_segmenter(voxels)[:1])
