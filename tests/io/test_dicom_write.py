from pathlib import Path

import dicom_samples
import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom import uid

from edge_codec.cine import Cine
from edge_codec.errors import SourceError
from edge_codec.io import open_sink, open_source
from edge_codec.io.dicom_metadata import DicomHeader
from edge_codec.spec import CineInfo, ModelId, SourceHeader, SourceKind, StreamSpec

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


def cine_voxels(shape=(2, 3, 6, 5), dtype=np.int16):
    return np.random.default_rng(4).integers(0, 100, shape).astype(dtype)


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def add_one(samples):
    return samples + 1


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4"])
@pytest.mark.parametrize(
    "syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian]
)
def test_series_round_trip_is_byte_exact(tmp_path, copy, dtype, syntax):
    dicom_samples.save_series(tmp_path / "a", cine_voxels((2, 2, 5, 5), dtype), syntax=syntax)
    copy(tmp_path / "a", tmp_path / "b")
    assert files_of(tmp_path / "b") == files_of(tmp_path / "a")


def test_original_files_come_back(tmp_path, copy):
    copy(EXAMPLES / "dicom_tiny", tmp_path / "b")
    assert files_of(tmp_path / "b") == files_of(EXAMPLES / "dicom_tiny")


def test_what_follows_the_pixels_comes_back(tmp_path, copy):
    dataset = dicom_samples.single_frame(np.zeros((3, 3), np.uint8))
    dataset.add_new((0xFFFC, 0xFFFC), "OB", b"padding!")
    path = dicom_samples.save(dataset, tmp_path / "a.dcm")
    copy(path, tmp_path / "b.dcm")
    assert (tmp_path / "b.dcm").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian])
@pytest.mark.parametrize("target", ["b.dcm", "folder/"])
def test_multi_frame_round_trip_is_byte_exact(tmp_path, copy, syntax, target):
    dataset = dicom_samples.enhanced(cine_voxels(), syntax)
    path = dicom_samples.save(dataset, tmp_path / "a.dcm")
    copy(path, f"{tmp_path}/{target}")
    written = tmp_path / target / "a.dcm" if target.endswith("/") else tmp_path / target
    assert written.read_bytes() == path.read_bytes()


def test_compressed_files_become_uncompressed(tmp_path, copy):
    voxels = cine_voxels((1, 2, 5, 5), np.uint8)
    dicom_samples.save_series(tmp_path / "a", voxels)
    for path in (tmp_path / "a").iterdir():
        dataset = pydicom.dcmread(path)
        dataset.compress(uid.RLELossless, encoding_plugin="pydicom")
        dataset.save_as(path)
    copy(tmp_path / "a", tmp_path / "b")
    for path in (tmp_path / "b").iterdir():
        before, after = pydicom.dcmread(tmp_path / "a" / path.name), pydicom.dcmread(path)
        assert after.file_meta.TransferSyntaxUID == uid.ExplicitVRLittleEndian
        assert np.array_equal(after.pixel_array, before.pixel_array)
        assert after.SOPInstanceUID == before.SOPInstanceUID
        del before.PixelData, after.PixelData
        assert after == before
    copy(tmp_path / "b", tmp_path / "c")
    assert files_of(tmp_path / "c") == files_of(tmp_path / "b")


def test_compressed_multi_frame(tmp_path, copy):
    voxels = cine_voxels((1, 4, 5, 5), np.uint16)
    dataset = dicom_samples.enhanced(voxels)
    dataset.compress(uid.RLELossless, encoding_plugin="pydicom")
    dicom_samples.save(dataset, tmp_path / "a.dcm")
    copy(tmp_path / "a.dcm", tmp_path / "b.dcm")
    assert np.array_equal(Cine.from_source(open_source(tmp_path / "b.dcm")).voxels, voxels)


def test_loss_is_marked(tmp_path, copy):
    folder = EXAMPLES / "dicom_tiny"
    copy(folder, tmp_path / "b", max_error=1, lossy_ratio=12.345, change=add_one)
    series = set()
    for path in (tmp_path / "b").iterdir():
        before, after = pydicom.dcmread(folder / path.name), pydicom.dcmread(path)
        with pydicom.config.disable_value_validation():
            assert after.SOPInstanceUID != before.SOPInstanceUID
            assert after.file_meta.MediaStorageSOPInstanceUID == after.SOPInstanceUID
            series.add(after.SeriesInstanceUID)
            assert after.StudyInstanceUID == before.StudyInstanceUID
            assert after.ImageType == ["DERIVED", "SECONDARY", "OTHER"]
            assert after.LossyImageCompression == "01"
            assert after.LossyImageCompressionRatio == 12.35
            assert after.LossyImageCompressionMethod == "EDGECODEC"
            assert after.DerivationDescription == (
                "edge-codec: model none, max error 1 stored units"
            )
            reference = after.SourceImageSequence[0].ReferencedSOPInstanceUID
            assert reference == before.SOPInstanceUID
            assert after.LargestImagePixelValue == before.pixel_array.max() + 1
            assert np.array_equal(after.pixel_array, before.pixel_array + 1)
            for element in before:
                if element.keyword not in CHANGED and element.tag.element != 0:
                    assert after[element.tag] == element
    assert len(series) == 1
    assert series != {pydicom.dcmread(next(folder.iterdir())).SeriesInstanceUID}


CHANGED = {
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "ImageType",
    "SmallestImagePixelValue",
    "LargestImagePixelValue",
    "PixelData",
}


@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian])
def test_loss_in_other_transfer_syntaxes(tmp_path, copy, syntax):
    voxels = cine_voxels((1, 2, 5, 5), np.uint16)
    dicom_samples.save_series(tmp_path / "a", voxels, syntax=syntax)
    copy(tmp_path / "a", tmp_path / "b", max_error=1, change=add_one)
    source = open_source(tmp_path / "b")
    assert np.array_equal(Cine.from_source(source).voxels, voxels + 1)
    dataset = pydicom.dcmread(next((tmp_path / "b").iterdir()))
    assert dataset.file_meta.TransferSyntaxUID == syntax
    assert dataset.PatientName == "Heart^Test"
    assert "LossyImageCompressionRatio" not in dataset


def test_loss_after_loss_is_appended(tmp_path, copy):
    dataset = dicom_samples.single_frame(np.zeros((4, 4), np.int16))
    dataset.LossyImageCompression = "01"
    dataset.LossyImageCompressionRatio = 3.5
    dataset.LossyImageCompressionMethod = "ISO_10918_1"
    dataset.DerivationDescription = "before"
    path = dicom_samples.save(dataset, tmp_path / "a.dcm")
    copy(
        path,
        tmp_path / "b.dcm",
        max_error=None,
        model=ModelId.VQVAE,
        lossy_ratio=20,
        change=add_one,
    )
    after = pydicom.dcmread(tmp_path / "b.dcm")
    assert after.LossyImageCompressionRatio == [3.5, 20]
    assert after.LossyImageCompressionMethod == ["ISO_10918_1", "EDGECODEC"]
    assert after.DerivationDescription == "before; edge-codec: model vqvae, no error bound"


def test_lossless_keeps_the_mark_of_earlier_loss(tmp_path, copy):
    dataset = dicom_samples.single_frame(np.zeros((4, 4), np.int16))
    dataset.LossyImageCompression = "01"
    path = dicom_samples.save(dataset, tmp_path / "a.dcm")
    copy(path, tmp_path / "b.dcm")
    assert pydicom.dcmread(tmp_path / "b.dcm").LossyImageCompression == "01"


def test_loss_in_multi_frame(tmp_path, copy):
    voxels = cine_voxels()
    dataset = dicom_samples.enhanced(voxels)
    dataset.add_new("LargestImagePixelValue", "SS", int(voxels.max()))
    path = dicom_samples.save(dataset, tmp_path / "a.dcm")
    copy(path, tmp_path / "b.dcm", max_error=1, change=add_one)
    after = pydicom.dcmread(tmp_path / "b.dcm")
    assert after.ImageType == ["DERIVED", "PRIMARY", "M", "RETRO"]
    shared = after.SharedFunctionalGroupsSequence[0]
    assert shared.MRImageFrameTypeSequence[0].FrameType[0] == "DERIVED"
    assert "LargestImagePixelValue" not in after
    assert np.array_equal(Cine.from_source(open_source(tmp_path / "b.dcm")).voxels, voxels + 1)


def test_nifti_becomes_a_valid_series(tmp_path, copy):
    source = copy(EXAMPLES / "tiny.nii.gz", tmp_path / "b/")
    back = open_source(tmp_path / "b")
    voxels = Cine.from_source(source).voxels
    assert np.array_equal(Cine.from_source(back).voxels, voxels)
    assert back.info.spacing_mm == pytest.approx(source.info.spacing_mm)
    assert back.info.trigger_time_ms == pytest.approx(source.info.trigger_time_ms)
    copy(back, tmp_path / "c.nii")
    expected = nib.load(EXAMPLES / "tiny.nii.gz")
    assert nib.load(tmp_path / "c.nii").affine == pytest.approx(expected.affine, abs=1e-3)
    datasets = [pydicom.dcmread(path) for path in (tmp_path / "b").iterdir()]
    assert len({dataset.SOPInstanceUID for dataset in datasets}) == 6
    assert len({dataset.SeriesInstanceUID for dataset in datasets}) == 1
    assert {dataset.SOPClassUID for dataset in datasets} == {uid.MRImageStorage}
    assert {dataset.InstanceNumber for dataset in datasets} == set(range(1, 7))
    assert "LossyImageCompression" not in datasets[0]


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "i4", "f4"])
def test_arrays_become_a_series(tmp_path, copy, caplog, dtype):
    voxels = cine_voxels(dtype=dtype)
    cine = Cine.from_array(voxels, rescale_slope=0.5, rescale_intercept=3)
    copy(cine, tmp_path / "b", max_error=2)
    assert "spacing is not known" in caplog.text
    back = open_source(tmp_path / "b")
    assert np.array_equal(Cine.from_source(back).voxels, voxels)
    assert (back.info.rescale_slope, back.info.rescale_intercept) == (0.5, 3)
    dataset = pydicom.dcmread(next((tmp_path / "b").iterdir()))
    assert dataset.LossyImageCompression == "01"
    assert dataset.BitsAllocated == 16


def test_what_16_bits_do_not_hold_is_refused(tmp_path, copy):
    for array in (np.full((4, 4), 70_000), np.full((4, 4), 0.5, np.float32)):
        with pytest.raises(SourceError, match=r"write \.nii"):
            copy(Cine.from_array(array), tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


def test_several_frames_need_a_folder(tmp_path, copy):
    with pytest.raises(SourceError, match="give a folder"):
        copy(EXAMPLES / "dicom_tiny", tmp_path / "b.dcm")


def test_a_frame_without_header_is_left_out_and_reported(tmp_path, spec_of, caplog):
    source = open_source(EXAMPLES / "dicom_tiny")
    with open_sink(tmp_path / "b", spec_of(source)) as sink:
        for index, frame in enumerate(source.frames()):
            metadata = frame.metadata if index else b""
            sink.write(frame.slice_index, frame.phase_index, frame.samples, metadata)
    assert len(files_of(tmp_path / "b")) == 5
    assert "slice 0, phase 0 has no DICOM header" in caplog.text


def test_a_stream_without_any_header_is_refused(tmp_path, spec_of):
    source = open_source(EXAMPLES / "dicom_tiny")
    sink = open_sink(tmp_path / "b", spec_of(source))
    for frame in source.frames():
        sink.write(frame.slice_index, frame.phase_index, frame.samples, b"")
    with pytest.raises(SourceError, match="no DICOM header for any frame"):
        sink.close()
    assert list(tmp_path.iterdir()) == []


def hostile_stream(name):
    header = DicomHeader(b"x" * 8 + (32).to_bytes(4, "little"), b"", name=name).pack()
    info = CineInfo(1, 2, 4, 4, np.dtype(np.int16), source=SourceHeader(SourceKind.DICOM, header))
    return StreamSpec(info, 0, 9), header


@pytest.mark.parametrize(
    "name", ["../x", "/etc/x", "..", "", ".hidden", "a\\b", "a\0b", "a\nb", "x" * 250, "same"]
)
def test_names_in_a_stream_stay_in_the_folder(tmp_path, name):
    spec, header = hostile_stream(name)
    with open_sink(tmp_path / "b", spec) as sink:
        for phase in range(2):
            sink.write(0, phase, np.zeros((4, 4), np.int16), header)
    assert len(files_of(tmp_path / "b")) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


@pytest.mark.parametrize("max_error", [0, 1])
def test_damaged_headers_in_a_stream_are_refused(tmp_path, spec_of, max_error):
    source = open_source(EXAMPLES / "dicom_tiny")
    frame = next(source.frames())
    for metadata in (b"x", frame.metadata[:40], b"\2" + frame.metadata[1:], frame.metadata[:-9]):
        spec = spec_of(source, max_error=max_error)
        sink = open_sink(tmp_path / "b", spec)
        if metadata == frame.metadata[:-9] and max_error == 0:
            sink.abort()
            continue
        with pytest.raises(SourceError):
            sink.write(0, 0, frame.samples, metadata)
        sink.abort()
    assert list(tmp_path.iterdir()) == []


def test_wrong_pixel_length_is_refused(tmp_path):
    spec, header = hostile_stream("a")
    damaged = header[:-4] + (31).to_bytes(4, "little")
    with (
        pytest.raises(SourceError, match="31 bytes of pixels"),
        open_sink(tmp_path / "b", spec) as sink,
    ):
        sink.write(0, 0, np.zeros((4, 4), np.int16), damaged)
    assert list(tmp_path.iterdir()) == []


def test_force_replaces_dicom_only(tmp_path, copy):
    target = tmp_path / "b"
    copy(EXAMPLES / "dicom_tiny", target)
    with pytest.raises(SourceError, match="--force"):
        copy(EXAMPLES / "dicom_tiny", target)
    copy(EXAMPLES / "dicom_tiny", target, force=True)
    (target / "notes.txt").write_text("mine")
    with pytest.raises(SourceError, match=r"'notes\.txt', which --force does not delete"):
        copy(EXAMPLES / "dicom_tiny", target, force=True)
    assert len(files_of(target)) == 7
