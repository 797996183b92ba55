"""Where the heart is, and the box that is cropped around it."""

import nibabel
import numpy as np
import pytest

from edge_codec.bench.rd.case import load_case
from edge_codec.bench.rd.heart import LABEL_MARGIN, Box, find_heart, heart_box, label_files
from edge_codec.errors import SourceError

SHAPE = (2, 4, 100, 120)  # slices, phases, rows, columns


@pytest.fixture
def voxels():
    """Noise of one phase, with a square that grows in the others."""
    cine = np.random.default_rng(5).integers(100, 140, (2, 1, *SHAPE[2:])).repeat(4, axis=1)
    for phase in range(SHAPE[1]):
        cine[:, phase, 40 - phase : 60, 30 : 50 + phase] += 300
    return cine.astype(np.int16)


def save(folder, name, stack):
    """Write (slice, row, column) or (slice, phase, row, column) as NIfTI."""
    axes = (2, 1, 0) if stack.ndim == 3 else (3, 2, 0, 1)  # column, row, slice, phase
    image = nibabel.Nifti1Image(stack.transpose(axes), np.eye(4))
    nibabel.save(image, folder / name)
    return folder / name


@pytest.fixture
def exam(tmp_path, voxels):
    return save(tmp_path, "patient_4d.nii.gz", voxels)


def test_files_are_as_the_fixture_says(exam, voxels):
    np.testing.assert_array_equal(load_case(exam).voxels, voxels)


def test_labels_of_any_phase_with_a_margin_are_the_heart(exam, voxels):
    for frame, columns in (("01", slice(20, 25)), ("09", slice(22, 30))):
        labels = np.zeros((2, 100, 120), np.int16)
        labels[1, 50:60, columns] = 3
        save(exam.parent, f"patient_frame{frame}_gt.nii.gz", labels)
    save(exam.parent, "patient_frame01.nii.gz", np.ones((2, 100, 120), np.int16))  # no labels
    assert [file.name for file in label_files(exam)] == [
        "patient_frame01_gt.nii.gz",
        "patient_frame09_gt.nii.gz",
    ]
    heart = find_heart(exam, voxels)
    expected = np.zeros((2, 100, 120), np.bool_)
    expected[1, 50 - LABEL_MARGIN : 60 + LABEL_MARGIN, 20 - LABEL_MARGIN : 30 + LABEL_MARGIN] = True
    np.testing.assert_array_equal(heart.region, expected)
    assert heart.found_by == "labels"


def test_labels_of_another_size_are_refused(exam, voxels):
    save(exam.parent, "patient_frame01_gt.nii.gz", np.ones((2, 100, 119), np.int16))
    with pytest.raises(SourceError, match="labels must be of the exam's size"):
        find_heart(exam, voxels)


def test_without_labels_the_heart_is_what_moves(exam, voxels):
    heart = find_heart(exam, voxels)
    assert heart.found_by == "motion"
    assert heart.region[:, 37:40, 30:50].all()
    assert not heart.region[:, 80:, :].any()


@pytest.mark.parametrize(
    ("rows", "columns", "box"),
    [
        ((10, 90), (20, 110), Box(10, 17, 80, 96)),  # next multiples of 8, around the middle
        ((3, 90), (20, 93), Box(2, 16, 88, 80)),
        ((0, 5), (119, 120), Box(0, 48, 72, 72)),  # at least 72, moved into the frame
        ((0, 100), (0, 120), Box(2, 0, 96, 120)),  # at most what the frame holds
    ],
)
def test_boxes_are_multiples_of_eight(rows, columns, box):
    region = np.zeros((2, 100, 120), np.bool_)
    region[0, rows[0], columns[0]] = region[1, rows[1] - 1, columns[1] - 1] = True
    assert heart_box(region) == box


def test_a_crop_keeps_the_exams_peak_and_is_no_file(exam, voxels):
    whole, crop = load_case(exam), load_case(exam, crop=True, phases=3)
    box = heart_box(whole.heart.region)
    np.testing.assert_array_equal(crop.voxels, voxels[(slice(None), slice(3), *box.place)])
    place = (slice(None), *box.place)
    np.testing.assert_array_equal(crop.heart.region, whole.heart.region[place])
    np.testing.assert_array_equal(crop.region, whole.region[place])
    assert (crop.peak, crop.peak_p995) == (whole.peak, whole.peak_p995)
    assert (crop.cine.info.rows, crop.cine.info.columns) == (box.rows, box.columns)
    assert whole.cine.info.source.data
    assert not crop.cine.info.source.data
    assert crop.name == "patient_4d-heart"
    assert crop.part == (
        f"heart crop {box.rows}x{box.columns} at row {box.top}, column {box.left}, "
        "3 of 4 phases, 2 of 2 slices"
    )


def test_a_still_exam_has_no_crop(tmp_path):
    np.save(tmp_path / "still.npy", np.full((3, 80, 80), 5, np.int16))
    with pytest.raises(SourceError, match="no heart was found"):
        load_case(tmp_path / "still.npy", crop=True)
