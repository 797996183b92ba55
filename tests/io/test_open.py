import numpy as np
import pytest

from edge_codec.errors import SourceError, SpecError
from edge_codec.io import open_sink, open_source
from edge_codec.spec import CineInfo, StreamSpec

INFO = CineInfo(1, 1, 4, 4, np.dtype(np.int16))
SPEC = StreamSpec(INFO, 0, 9)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("a.hdr", "convert it to one .nii file"),
        ("a.img.gz", "convert it to one .nii file"),
        ("a.txt", "unknown kind"),
        ("a.dcm", "not a DICOM file"),
        ("a", "unknown kind"),
        ("a.nii", "header size"),
        ("a.nii.gz", "header size"),
        ("a.npy", "not a npy file"),
    ],
)
def test_files_of_another_kind(tmp_path, name, match):
    (tmp_path / name).write_bytes(b"something else entirely")
    with pytest.raises(SourceError, match=match):
        open_source(tmp_path / name)


def test_missing_file(tmp_path):
    with pytest.raises(SourceError, match="does not exist"):
        open_source(tmp_path / "a.nii")


def test_series_is_for_dicom_only(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((4, 4), np.int16))
    with pytest.raises(SourceError, match="DICOM only"):
        open_source(tmp_path / "a.npy", series="1.2")


@pytest.mark.parametrize("name", ["a.txt", "a.hdr", "a.gz"])
def test_targets_of_unknown_kind(tmp_path, name):
    with pytest.raises(SourceError, match="unknown suffix"):
        open_sink(tmp_path / name, SPEC)


@pytest.mark.parametrize("name", ["a.nii", "A.NII.GZ", "a.npy", "a.dcm", "folder", "fol.der/"])
def test_every_kind_of_target(tmp_path, name):
    with open_sink(f"{tmp_path}/{name}", SPEC) as sink:
        sink.write(0, 0, np.full((4, 4), 7, np.int16))
    assert [path.name for path in tmp_path.iterdir()] == [name.rstrip("/")]
    frame = next(open_source(tmp_path / name).frames())
    assert (frame.samples == 7).all()


@pytest.mark.parametrize("name", ["a.nii", "a.npy", "folder"])
def test_unknown_number_of_phases_is_refused(tmp_path, name):
    live = StreamSpec(CineInfo(1, 0, 4, 4, np.dtype(np.int16)), 0, 9)
    with pytest.raises(SpecError, match="number of phases"):
        open_sink(tmp_path / name, live)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["no/a.nii", "no/a.npy", "no/a.dcm", "no/folder"])
def test_missing_folder_of_the_target(tmp_path, name):
    with pytest.raises(SourceError, match="cannot be written"):
        open_sink(tmp_path / name, SPEC)
