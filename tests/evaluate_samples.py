"""A beating heart of plain shapes in ACDC's layout, and a segmenter that knows its gray levels."""

import nibabel
import numpy as np

SPACING = (10.0, 1.5, 1.5)  # slice, row, column in mm
LEVELS = (30, 140, 80, 220)  # of background, RV, myocardium, LV
SHAPE = (3, 4, 48, 56)
LV_RADII = (11.0, 8.0, 6.0, 9.0)  # in pixels, by phase: ED is phase 0, ES phase 2


def heart_labels():
    """Return labels of all phases, shape (slices, phases, rows, columns)."""
    rows, columns = np.mgrid[: SHAPE[2], : SHAPE[3]]
    labels = np.zeros(SHAPE, np.uint8)
    for place in range(SHAPE[0]):
        for phase, radius in enumerate(LV_RADII):
            radius -= place
            distance = np.hypot(rows - 24, columns - 32)
            right = np.hypot(rows - 24, columns - 14) < 0.8 * radius
            labels[place, phase][right] = 1
            labels[place, phase][distance < radius + 4] = 2
            labels[place, phase][distance < radius] = 3
    return labels


def heart_voxels(labels=None):
    """Return voxels with some noise, int16."""
    labels = heart_labels() if labels is None else labels
    noise = np.random.default_rng(5).normal(0, 3, labels.shape)
    return np.rint(np.asarray(LEVELS)[labels] + noise).astype(np.int16)


def threshold_segmenter(voxels):
    """Return the label whose gray level is nearest."""
    distances = [np.abs(voxels.astype(float) - level) for level in LEVELS]
    return np.argmin(distances, axis=0).astype(np.uint8)


def write_nifti(path, array):
    """Write (slices, rows, columns) or (slices, phases, rows, columns)."""
    if array.ndim == 4:
        array = array.transpose(3, 2, 0, 1)
        zooms = (*SPACING[::-1], 1.0)
    else:
        array = array.transpose(2, 1, 0)
        zooms = SPACING[::-1]
    image = nibabel.Nifti1Image(array, np.diag([*SPACING[::-1], 1.0]))
    image.header.set_zooms(zooms)
    nibabel.save(image, path)
    return path


def write_exam(folder, name="made", *, expert=True, info=True):
    """Write an exam as ACDC does, and return the path of its 4D file."""
    folder.mkdir(parents=True, exist_ok=True)
    labels = heart_labels()
    path = write_nifti(folder / f"{name}_4d.nii.gz", heart_voxels(labels))
    if expert:
        # The expert draws the left ventricle a little larger than it looks.
        drawn = labels.copy()
        drawn[:, :, 24, 32 + 6 : 32 + 12] = 3
        for phase in (0, 2):
            write_nifti(folder / f"{name}_frame{phase + 1:02}_gt.nii.gz", drawn[:, phase])
    if info:
        (folder / "Info.cfg").write_text("ED: 1\nES: 3\nGroup: NOR\n")
    return path
