import logging
from pathlib import Path

import dicom_samples
import numpy as np
import pydicom
import pytest
from pydicom import uid

from edge_codec.cine import Cine
from edge_codec.errors import SourceError
from edge_codec.io import open_source
from edge_codec.spec import SourceKind

TINY = Path(__file__).parent.parent.parent / "examples" / "dicom_tiny"


def cine_voxels(shape=(2, 3, 6, 5), dtype=np.int16):
    return np.random.default_rng(4).integers(0, 100, shape).astype(dtype)


def voxels_of(path, **options):
    return Cine.from_source(open_source(path, **options)).voxels


def test_series_is_sorted_into_slices_and_phases(tmp_path):
    voxels = cine_voxels()
    source = open_source(dicom_samples.save_series(tmp_path / "a" / "b", voxels).parent)
    assert np.array_equal(Cine.from_source(source).voxels, voxels)
    info = source.info
    assert info.spacing_mm == (8.0, 1.5, 1.25)
    assert info.trigger_time_ms == (0.0, 40.0, 80.0)
    assert (info.rescale_slope, info.rescale_intercept) == (2.0, -1.0)
    assert info.source.kind is SourceKind.DICOM
    assert next(source.frames()).metadata == info.source.data


def test_original_files():
    source = open_source(TINY)
    info = source.info
    assert (info.n_slices, info.n_phases, info.frame_shape) == (2, 3, (256, 256))
    assert info.dtype == np.int16
    assert info.spacing_mm == pytest.approx((8.0, 1.2891, 1.2891), abs=1e-3)
    assert info.trigger_time_ms == (10.0, 286.0, 563.0)
    assert voxels_of(TINY).max() > 500


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4"])
@pytest.mark.parametrize(
    "syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian]
)
def test_pixel_words(tmp_path, dtype, syntax):
    voxels = cine_voxels((1, 2, 5, 5), dtype)
    found = voxels_of(dicom_samples.save_series(tmp_path, voxels, syntax=syntax))
    assert found.dtype == dtype
    assert np.array_equal(found, voxels)


def test_unused_high_bits_are_kept(tmp_path):
    array = np.array([[0x1FFF, 0xF000], [12, 0]], np.uint16)
    dataset = dicom_samples.single_frame(array)
    dataset.BitsStored, dataset.HighBit = 12, 11
    path = dicom_samples.save(dataset, tmp_path / "a.dcm")
    assert np.array_equal(voxels_of(path)[0, 0], array)


def test_overlay_in_the_pixels_is_reported(tmp_path, caplog):
    dataset = dicom_samples.single_frame(np.zeros((2, 2), np.uint16))
    dataset.add_new((0x6000, 0x0102), "US", 12)
    open_source(dicom_samples.save(dataset, tmp_path / "a.dcm"))
    assert "overlay" in caplog.text


def test_eight_bit_words_swapped_in_big_endian(tmp_path, caplog):
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    dataset = dicom_samples.single_frame(array, syntax=uid.ExplicitVRBigEndian)
    dataset.add_new("PixelData", "OW", array.tobytes()[::1])
    swapped = array.reshape(-1, 2)[:, ::-1].tobytes()
    dataset["PixelData"].value = swapped
    path = dicom_samples.save(dataset, tmp_path / "a.dcm")
    assert np.array_equal(voxels_of(path)[0, 0], array)
    assert "uncompressed" in caplog.text


def test_slices_by_location_and_phases_by_number(tmp_path):
    voxels = cine_voxels()
    dicom_samples.save_series(tmp_path, voxels)
    for path in tmp_path.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.SliceLocation = dataset.ImagePositionPatient[2]
        del dataset.ImagePositionPatient, dataset.ImageOrientationPatient, dataset.TriggerTime
        dataset.save_as(path)
    source = open_source(tmp_path)
    assert np.array_equal(Cine.from_source(source).voxels, voxels)
    assert source.info.trigger_time_ms == ()
    assert source.info.spacing_mm == (6.0, 1.5, 1.25)


def test_phases_by_acquisition_time(tmp_path):
    voxels = cine_voxels((1, 3, 4, 4))
    for phase, stamp in enumerate(["095959.990000", "100000.010000", "100001"]):
        dataset = dicom_samples.single_frame(voxels[0, phase])
        dataset.AcquisitionTime = stamp
        dicom_samples.save(dataset, tmp_path / f"{3 - phase}.dcm")
    assert np.array_equal(voxels_of(tmp_path), voxels)


def test_slices_of_different_directions(tmp_path):
    voxels = cine_voxels((2, 2, 4, 4))
    dicom_samples.save_series(tmp_path, voxels)
    for path in tmp_path.iterdir():
        dataset = pydicom.dcmread(path)
        if dataset.ImagePositionPatient[2] == 0:
            dataset.ImageOrientationPatient = [0, 1, 0, 0, 0, 1]
            dataset.save_as(path)
    source = open_source(tmp_path)
    assert (source.info.n_slices, source.info.n_phases) == (2, 2)
    assert source.info.spacing_mm[0] == 6.0  # no distance between crossing slices: thickness


def test_missing_phase_is_named(tmp_path):
    dicom_samples.save_series(tmp_path, cine_voxels((3, 4, 4, 4)))
    for path in tmp_path.iterdir():
        dataset = pydicom.dcmread(path, stop_before_pixels=True)
        if dataset.InstanceNumber == 102:
            path.unlink()
    with pytest.raises(SourceError, match=r"at 8\.00 mm 3 \(none near 80 ms\)"):
        open_source(tmp_path)


def test_doubles_are_refused(tmp_path):
    dicom_samples.save_series(tmp_path, cine_voxels())
    (tmp_path / "twice.dcm").write_bytes((tmp_path / "IM0000.dcm").read_bytes())
    with pytest.raises(SourceError, match=r"told apart.*twice\.dcm"):
        open_source(tmp_path)


def test_several_series_are_listed(tmp_path):
    voxels = cine_voxels()
    dicom_samples.save_series(tmp_path / "a", voxels)
    dicom_samples.save_series(tmp_path / "b", voxels[:1] + np.int16(7))
    for path in (tmp_path / "b").iterdir():
        dataset = pydicom.dcmread(path)
        dataset.SeriesInstanceUID, dataset.SeriesDescription = "1.2.3", "other"
        dataset.save_as(path)
    with pytest.raises(SourceError, match=r"--series UID.*6 files.*1\.2\.3 \(3 files, other\)"):
        open_source(tmp_path)
    with pytest.raises(SourceError, match=r"no series 9\.9"):
        open_source(tmp_path, series="9.9")
    assert np.array_equal(voxels_of(tmp_path, series="1.2.3"), voxels[:1] + np.int16(7))
    assert np.array_equal(voxels_of(tmp_path, series=dicom_samples.SERIES), voxels)


def test_other_files_are_left_out_and_reported(tmp_path, caplog):
    voxels = cine_voxels()
    dicom_samples.save_series(tmp_path, voxels)
    (tmp_path / "README").write_text("notes")
    report = dicom_samples.single_frame(voxels[0, 0])
    del report.PixelData
    dicom_samples.save(report, tmp_path / "report.dcm")
    assert np.array_equal(voxels_of(tmp_path), voxels)
    assert "2 files" in caplog.text
    (tmp_path / "broken.dcm").write_bytes(b"no DICOM")
    with pytest.raises(SourceError, match=r"broken\.dcm is not a DICOM file"):
        open_source(tmp_path)


def test_enhanced_multi_frame(tmp_path):
    voxels = cine_voxels()
    path = dicom_samples.save(dicom_samples.enhanced(voxels), tmp_path / "a.dcm")
    source = open_source(path)
    assert np.array_equal(Cine.from_source(source).voxels, voxels)
    assert source.info.spacing_mm == (8.0, 1.5, 1.25)
    assert source.info.trigger_time_ms == (0.0, 40.0, 80.0)
    assert (source.info.rescale_slope, source.info.rescale_intercept) == (2.0, -1.0)
    metadata = [frame.metadata for frame in source.frames()]
    assert metadata[0] == source.info.source.data
    assert not any(metadata[1:])
    assert np.array_equal(voxels_of(tmp_path), voxels)


def test_plain_multi_frame_is_one_slice(tmp_path):
    voxels = cine_voxels((1, 4, 5, 5))
    dataset = dicom_samples.single_frame(voxels[0])
    dataset.NumberOfFrames, dataset.FrameTime = 4, 33.0
    source = open_source(dicom_samples.save(dataset, tmp_path / "a.dcm"))
    assert np.array_equal(Cine.from_source(source).voxels, voxels)
    assert source.info.trigger_time_ms == (0.0, 33.0, 66.0, 99.0)


def test_several_multi_frame_files_are_refused(tmp_path):
    for name in ("a.dcm", "b.dcm"):
        dicom_samples.save(dicom_samples.enhanced(cine_voxels()), tmp_path / name)
    with pytest.raises(SourceError, match="several multi-frame files"):
        open_source(tmp_path)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16])
def test_compressed_files_are_decoded(tmp_path, caplog, dtype):
    voxels = cine_voxels(dtype=dtype)
    dicom_samples.save_series(tmp_path, voxels)
    for path in tmp_path.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.compress(uid.RLELossless, encoding_plugin="pydicom")
        dataset.save_as(path)
    with caplog.at_level(logging.WARNING):
        source = open_source(tmp_path)
    assert len(caplog.records) == 1
    assert "Explicit VR Little Endian" in caplog.text
    assert np.array_equal(Cine.from_source(source).voxels, voxels)


def test_missing_decoder_says_what_to_install(tmp_path, monkeypatch):
    from pydicom.pixels.decoders.base import get_decoder

    path = dicom_samples.save_series(tmp_path, cine_voxels((1, 1, 4, 4))) / "IM0000.dcm"
    dataset = pydicom.dcmread(path)
    dataset.compress(uid.RLELossless, encoding_plugin="pydicom")
    dataset.save_as(path)
    monkeypatch.setattr(get_decoder(uid.RLELossless), "_available", {})
    with pytest.raises(SourceError, match="pip install pylibjpeg"):
        open_source(path)


def changed(**values):
    def change(dataset):
        for keyword, value in values.items():
            setattr(dataset, keyword, value)

    return change


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (changed(SamplesPerPixel=3, PhotometricInterpretation="RGB"), "RGB"),
        (changed(PhotometricInterpretation="PALETTE COLOR"), "PALETTE"),
        (changed(BitsAllocated=12), "12 bits"),
        (changed(BitsAllocated=64), "64 bits"),
        (changed(Rows=0), "out of range"),
        (changed(Rows=65535, Columns=65535), "out of range"),
        (changed(Rows=4000), "promises"),
        (changed(NumberOfFrames=2**31 - 1), "promises"),
        (changed(NumberOfFrames=-4), "out of range"),
        (changed(Columns=None), "cannot be read"),
    ],
)
def test_unsuited_images_are_refused(tmp_path, change, match):
    dataset = dicom_samples.single_frame(np.zeros((4, 4), np.int16))
    change(dataset)
    with pytest.raises(SourceError, match=match):
        open_source(dicom_samples.save(dataset, tmp_path / "a.dcm"))


def test_float_pixels_are_refused(tmp_path):
    dataset = dicom_samples.single_frame(np.zeros((4, 4), np.int16))
    del dataset.PixelData
    dataset.FloatPixelData = b"\0" * 64
    with pytest.raises(SourceError, match="floating point"):
        open_source(dicom_samples.save(dataset, tmp_path / "a.dcm"))


def test_deflated_files_are_refused(tmp_path):
    dataset = dicom_samples.single_frame(
        np.zeros((4, 4), np.int16), syntax=uid.DeflatedExplicitVRLittleEndian
    )
    with pytest.raises(SourceError, match="deflated"):
        open_source(dicom_samples.save(dataset, tmp_path / "a.dcm"))


def test_sizes_must_agree(tmp_path):
    dicom_samples.save_series(tmp_path, cine_voxels((1, 2, 4, 4)))
    dicom_samples.save(dicom_samples.single_frame(np.zeros((4, 5), np.int16)), tmp_path / "x.dcm")
    with pytest.raises(SourceError, match="frames of one size"):
        open_source(tmp_path)


def test_different_rescale_is_reported(tmp_path, caplog):
    dicom_samples.save_series(tmp_path, cine_voxels((1, 2, 4, 4)))
    dataset = pydicom.dcmread(tmp_path / "IM0001.dcm")
    dataset.RescaleSlope = 3
    dataset.save_as(tmp_path / "IM0001.dcm")
    open_source(tmp_path)
    assert "rescale slope" in caplog.text


@pytest.mark.parametrize("kind", ["single", "enhanced", "rle"])
def test_cut_and_damaged_files_raise_source_errors_only(tmp_path, kind):
    path = tmp_path / "a.dcm"
    if kind == "enhanced":
        dicom_samples.save(dicom_samples.enhanced(cine_voxels()), path)
    else:
        dataset = dicom_samples.single_frame(cine_voxels()[0, 0])
        if kind == "rle":
            dataset.compress(uid.RLELossless, encoding_plugin="pydicom")
        dicom_samples.save(dataset, path)
    data = path.read_bytes()
    rng = np.random.default_rng(6)
    variants = [data[:size] for size in rng.integers(0, len(data), 40)]
    for _ in range(150):
        flipped = bytearray(data)
        flipped[rng.integers(132, len(data))] ^= 1 << rng.integers(8)
        variants.append(bytes(flipped))
    for variant in variants:
        path.write_bytes(variant)
        try:
            list(open_source(path).frames())
        except SourceError:
            continue


def test_empty_folder(tmp_path):
    with pytest.raises(SourceError, match="no DICOM image"):
        open_source(tmp_path)
