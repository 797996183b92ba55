from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from acdc_samples import (
    ED,
    ES,
    PHASES,
    labels_of,
    voxels_of,
    write_info,
    write_nifti,
    write_patient,
)

from edge_codec.errors import SourceError
from edge_codec.runtime.segmenter import exam_window
from edge_codec.training.shards.patient import Patient, hash_file, hash_sources, read_patient

NAME = "patient007"
CINE = f"{NAME}_4d.nii.gz"
ED_FRAME, ED_LABELS = (f"{NAME}_frame{ED:02d}{end}.nii.gz" for end in ("", "_gt"))
ES_FRAME, ES_LABELS = (f"{NAME}_frame{ES:02d}{end}.nii.gz" for end in ("", "_gt"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_patient(tmp_path, NAME)


def refuse(folder: Path, message: str, *, partial: bool = False) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        read_patient(folder, partial=partial)
    assert str(caught.value).startswith(f"{folder.name}: ")


def test_axes_numbers_and_sources(folder: Path) -> None:
    patient = read_patient(folder, partial=False)
    stored = voxels_of(0)
    assert patient.voxels.shape == (2, PHASES, 12, 10)
    assert patient.voxels.dtype == np.dtype("<i2")
    np.testing.assert_array_equal(patient.voxels, stored.transpose(2, 3, 1, 0))
    assert list(patient.labels) == [0, 3]
    np.testing.assert_array_equal(patient.labels[3], labels_of(2.0).transpose(2, 1, 0))
    assert patient.info.ed_phase == 0
    assert patient.info.es_phase == 3
    assert patient.spacing_mm == (10.0, 1.5, 1.5)
    assert patient.window == exam_window(patient.voxels)
    assert patient.window[0] < 10
    assert patient.window[1] > 890
    names = {"Info.cfg", CINE, ED_FRAME, ED_LABELS, ES_FRAME, ES_LABELS}
    assert patient.sources == {name: hash_file(folder / name) for name in names}
    assert patient.sources == hash_sources(folder)


def test_without_labels(folder: Path) -> None:
    for name in (ED_LABELS, ES_LABELS):
        (folder / name).unlink()
    assert read_patient(folder, partial=False).labels == {}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Info.cfg", "Info.cfg is missing; copy it, or go without with --partial"),
        (CINE, f"{CINE} is missing; copy it .the 2 frames that are there are no cine"),
        (ED_FRAME, f"{ED_FRAME} is missing, and Info.cfg says ED: 1"),
        (ES_FRAME, f"{ES_FRAME} is missing, and Info.cfg says ES: 4"),
        (ED_LABELS, f"{ED_LABELS} is missing, and Info.cfg says ED: 1"),
        (ES_LABELS, f"{ES_LABELS} is missing, and Info.cfg says ES: 4"),
    ],
)
def test_missing_files(folder: Path, name: str, message: str) -> None:
    (folder / name).unlink()
    refuse(folder, message)


def test_missing_folder_and_name_that_breaks_keys(tmp_path: Path) -> None:
    refuse(tmp_path / "patient999", "is no folder")
    refuse(write_patient(tmp_path, "patient1.old"), "use letters, digits, - and _")


def test_phases_that_disagree(folder: Path) -> None:
    write_info(folder, NbFrame=PHASES + 1)
    refuse(folder, "has 6 phases, Info.cfg says NbFrame: 7")


def test_cut_off_gzip(folder: Path) -> None:
    data = (folder / CINE).read_bytes()
    (folder / CINE).write_bytes(data[: len(data) // 2])
    refuse(folder, f"{CINE}.*copy or fetch the file again")


def test_gzip_with_a_changed_byte(folder: Path) -> None:
    data = bytearray((folder / CINE).read_bytes())
    data[-6] ^= 1  # of the check sum
    (folder / CINE).write_bytes(data)
    refuse(folder, f"{CINE}.*copy or fetch the file again")


def test_no_nifti(folder: Path) -> None:
    (folder / ES_LABELS).write_bytes(gzip.compress(b"<html>not found</html>"))
    refuse(folder, f"{ES_LABELS}.*copy or fetch the file again")
    (folder / ES_LABELS).write_bytes(b"")
    refuse(folder, f"{ES_LABELS}.*copy or fetch the file again")


def test_info_that_is_no_text(folder: Path) -> None:
    (folder / "Info.cfg").write_bytes(b"ED: \xff\xfe\n")
    refuse(folder, "cannot be read")


def test_labels_of_other_shape(folder: Path) -> None:
    write_nifti(folder / ES_LABELS, labels_of(2.0)[:-1])
    refuse(folder, rf"{ES_LABELS} has shape \(2, 12, 9\).*images \(2, 12, 10\)")


def test_labels_with_time(folder: Path) -> None:
    write_nifti(folder / ES_LABELS, np.stack([labels_of(2.0)] * 2, axis=-1))
    refuse(folder, f"{ES_LABELS} has 2 phases, expected 1")


@pytest.mark.parametrize("value", [4, 255, -1])
def test_labels_of_no_class(folder: Path, value: int) -> None:
    labels = labels_of(2.0).astype(np.int16)
    labels[0, 0, 0] = value
    write_nifti(folder / ES_LABELS, labels)
    refuse(folder, f"{ES_LABELS} holds labels .*{value}.*expected 0 to 3")


def test_labels_between_classes(folder: Path) -> None:
    write_nifti(folder / ES_LABELS, labels_of(2.0) * np.float32(0.5))
    refuse(folder, "fractions")


def test_labels_of_nothing(folder: Path) -> None:
    write_nifti(folder / ES_LABELS, np.zeros_like(labels_of(2.0)))
    refuse(folder, f"{ES_LABELS} labels no voxel")


def test_float_labels_and_voxels_that_are_whole(folder: Path) -> None:
    write_nifti(folder / ES_LABELS, labels_of(2.0).astype(np.float64))
    write_nifti(folder / CINE, voxels_of(0).astype(np.float32))
    for name, number in ((ED_FRAME, ED), (ES_FRAME, ES)):
        write_nifti(folder / name, voxels_of(0)[..., number - 1].astype(np.float32))
    patient = read_patient(folder, partial=False)
    assert patient.voxels.dtype == np.dtype("<i2")
    assert patient.labels[3].dtype == np.uint8


@pytest.mark.parametrize(
    ("value", "message"), [(np.nan, "1 voxels are infinite or not a number"), (0.5, "fractions")]
)
def test_float_voxels_that_cannot_be(folder: Path, value: float, message: str) -> None:
    voxels = voxels_of(0).astype(np.float32)
    voxels[0, 0, 0, 2] = value
    write_nifti(folder / CINE, voxels)
    refuse(folder, message)


def test_constant_voxels(folder: Path) -> None:
    write_nifti(folder / CINE, np.full_like(voxels_of(0), 7))
    refuse(folder, "all its voxels are 7")


def test_frame_that_is_not_its_phase(folder: Path) -> None:
    write_nifti(folder / ES_FRAME, voxels_of(0)[..., ES])
    refuse(folder, f"{ES_FRAME} differs from phase 4")
    write_nifti(folder / ES_FRAME, voxels_of(0)[:-1, ..., ES - 1])
    refuse(folder, f"{ES_FRAME} has shape")


def test_swapped_phases(folder: Path) -> None:
    write_info(folder, ED=ES, ES=ED)
    refuse(folder, r"voxels at ED \(end-diastole\).*smaller at ES: correct Info.cfg")


def test_no_spacing(folder: Path) -> None:
    image = nib.Nifti1Image(voxels_of(0), np.eye(4))
    image.header["pixdim"][3] = 0.0
    nib.save(image, folder / CINE)
    refuse(folder, "mm apart .*correct the header")


def test_frame_of_another_exam(folder: Path) -> None:
    write_nifti(folder / f"{NAME}_frame09_gt.nii.gz", labels_of(2.0))
    refuse(folder, "frame 9 is outside the 6 phases")


def partial(folder: Path) -> Patient:
    return read_patient(folder, partial=True)


def test_partial_without_info(folder: Path) -> None:
    (folder / "Info.cfg").unlink()
    patient = partial(folder)
    assert patient.info.ed_phase is None
    assert list(patient.labels) == [0, 3]


def test_partial_with_one_label(folder: Path) -> None:
    (folder / ED_LABELS).unlink()
    assert list(partial(folder).labels) == [3]


@pytest.mark.parametrize(("number", "ed", "es"), [(ED, 0, None), (ES, None, 0)])
def test_partial_still(folder: Path, number: int, ed: int | None, es: int | None) -> None:
    (folder / CINE).unlink()
    other = ED + ES - number
    (folder / f"{NAME}_frame{other:02d}.nii.gz").unlink()
    (folder / f"{NAME}_frame{other:02d}_gt.nii.gz").unlink()
    refuse(folder, "a single frame alone is taken with --partial")
    patient = partial(folder)
    assert patient.voxels.shape == (2, 1, 12, 10)
    assert list(patient.labels) == [0]
    assert (patient.info.ed_phase, patient.info.es_phase) == (ed, es)


def test_partial_with_phases_outside(folder: Path) -> None:
    write_info(folder, NbFrame=None, ES=20)
    refuse(folder, "Info.cfg says ES: 20, the cine has 6 phases", partial=True)


def test_uncompressed(folder: Path) -> None:
    for path in list(folder.glob("*.nii.gz")):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    patient = read_patient(folder, partial=False)
    assert list(patient.labels) == [0, 3]
    assert patient.sources == hash_sources(folder)


@pytest.mark.parametrize("factor", [0.5, np.nan], ids=["fractions", "not a number"])
def test_labels_that_are_no_whole_numbers_are_named(folder: Path, factor: float) -> None:
    write_nifti(folder / ED_LABELS, labels_of(3.0).astype(np.float32) * np.float32(factor))
    refuse(folder, f"labels of {ED_LABELS} are")
