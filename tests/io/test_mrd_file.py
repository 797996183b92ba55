from __future__ import annotations

from pathlib import Path

import h5py
import ismrmrd
import numpy as np
import pytest
from mrd_samples import DTYPES, random_voxels, smooth_voxels
from numpy.typing import NDArray

from edge_codec.errors import SourceError
from edge_codec.io import open_sink, open_source
from edge_codec.io.mrd_image import Form
from edge_codec.runtime.files import compress_file, decompress_file
from edge_codec.runtime.options import CompressOptions, DecompressOptions
from edge_codec.spec import CineInfo, Effort, SampleFormat, SourceKind, StreamSpec

XML = b"<ismrmrdHeader>not looked at</ismrmrdHeader>"


def write(path: Path, images: list[NDArray], slices: list[int] | None = None) -> Path:
    """Write a file with the package."""
    dataset = ismrmrd.Dataset(str(path), "dataset", True)
    dataset.write_xml_header(XML)
    for index, voxels in enumerate(images):
        number = slices[index] if slices else 0
        image = ismrmrd.Image.from_array(
            voxels, slice=number, phase=index, image_series_index=3, field_of_view=(30, 20, 8)
        )
        image.meta = ismrmrd.Meta({"index": str(index)})
        dataset.append_image("image_3", image)
    dataset.close()
    return path


def read(path: Path) -> dict[str, NDArray | list[bytes]]:
    """Read all of the only group of images."""
    with h5py.File(path) as file:
        group = file["dataset"]["image_3"]
        return {
            "xml": list(file["dataset"]["xml"]),
            "data": np.ascontiguousarray(group["data"]).tobytes(),
            "shape": group["data"].shape,
            "headers": np.ascontiguousarray(group["header"]).tobytes(),
            "attributes": list(group["attributes"]),
        }


@pytest.mark.parametrize("data_type", sorted(set(DTYPES) - {4}))  # 4: 64 bits in the package
@pytest.mark.parametrize("voxels", [smooth_voxels, random_voxels])
def test_images_come_back_byte_for_byte(tmp_path, data_type, voxels) -> None:
    images = [voxels(data_type, (2, 3, 6, 5), seed) for seed in range(4)]
    source = write(tmp_path / "a.h5", images, [1, 0, 1, 0])
    compress_file(source, tmp_path / "a.ecd", CompressOptions(effort=Effort.FAST))
    decompress_file(tmp_path / "a.ecd", tmp_path / "b.h5", DecompressOptions())
    assert read(source) == read(tmp_path / "b.h5")
    # And the package still reads it.
    first, second = (
        ismrmrd.Dataset(str(path), "dataset", False) for path in (source, tmp_path / "b.h5")
    )
    for index in range(4):
        one, two = (dataset.read_image("image_3", index) for dataset in (first, second))
        assert one.getHead() == two.getHead()
        assert one.attribute_string == two.attribute_string
        assert one.data.tobytes() == two.data.tobytes()
    first.close()
    second.close()


def test_slices_and_phases_are_those_of_the_headers(tmp_path) -> None:
    images = [smooth_voxels(2, (1, 1, 6, 5), seed) for seed in range(6)]
    source = open_source(write(tmp_path / "a.h5", images, [4, 4, 2, 2, 4, 2]))
    info = source.info
    assert (info.n_slices, info.n_phases, info.rows, info.columns) == (2, 3, 6, 5)
    assert info.spacing_mm == pytest.approx((8.0, 20 / 6, 6.0))
    assert info.source.kind is SourceKind.MRD
    order = [2, 0, 3, 1, 5, 4]
    for frame, index in zip(source.frames(), order, strict=True):
        assert np.array_equal(frame.samples, images[index][0, 0])


def test_doubles_that_are_exact_in_different_ways_become_words(tmp_path) -> None:
    images = [np.full((1, 1, 2, 2), value) for value in (float((1 << 30) + 1), 0.5)]
    source = open_source(write(tmp_path / "a.h5", images))
    assert source.info.dtype == np.uint32
    assert source.info.sample_format is SampleFormat.INTEGER
    assert source.info.n_slices == 2
    assert next(iter(source.frames())).metadata[1] == Form.WORDS


def test_a_group_must_be_chosen_where_there_are_several(tmp_path) -> None:
    path = write(tmp_path / "a.h5", [smooth_voxels(1, (1, 1, 4, 4))])
    dataset = ismrmrd.Dataset(str(path), "dataset", False)
    dataset.append_image("image_9", ismrmrd.Image.from_array(smooth_voxels(1, (1, 1, 5, 5))))
    dataset.close()
    with pytest.raises(SourceError, match=r"2 groups of images.*dataset/image_3, dataset/image_9"):
        open_source(path)
    assert open_source(path, series="image_9").info.rows == 5
    assert open_source(path, series="dataset/image_3").info.rows == 4
    with pytest.raises(SourceError, match="0 groups"):
        open_source(path, series="image_1")


def test_what_is_left_out_is_said(tmp_path, caplog) -> None:
    path = write(tmp_path / "a.h5", [smooth_voxels(1, (1, 1, 4, 4))])
    dataset = ismrmrd.Dataset(str(path), "dataset", False)
    dataset.append_waveform(ismrmrd.Waveform.from_array(np.zeros((1, 3), np.uint32)))
    dataset.close()
    open_source(path)
    assert "waveforms in the file are left out" in caplog.text


def test_images_that_are_no_cine_are_refused(tmp_path) -> None:
    images = [smooth_voxels(1, (1, 1, 4, 4), seed) for seed in range(3)]
    with pytest.raises(SourceError, match="2 slices have 1 to 2 images"):
        open_source(write(tmp_path / "a.h5", images, [0, 0, 1]))


def break_type(file) -> None:
    file["dataset/image_3/header"][0] = damaged(file, "data_type", 99)


def break_matrix(file) -> None:
    file["dataset/image_3/header"][0] = damaged(file, "matrix_size", (9, 9, 9))


def break_second(file) -> None:
    header = file["dataset/image_3/header"][1]
    header["channels"] = 7
    file["dataset/image_3/header"][1] = header


def damaged(file, name, value):
    header = file["dataset/image_3/header"][0]
    header[name] = value
    return header


def replace_header(file) -> None:
    del file["dataset/image_3/header"]
    file["dataset/image_3"].create_dataset("header", data=np.zeros(2))


def huge_header(file) -> None:
    dtype = file["dataset/image_3/header"].dtype
    del file["dataset/image_3/header"]
    file["dataset/image_3"].create_dataset("header", (1 << 40,), dtype, chunks=(64,))


def huge_data(file) -> None:
    file["dataset/image_3/header"][0] = damaged(file, "matrix_size", (60_000, 60_000, 1))
    file["dataset/image_3/header"][1] = damaged(file, "matrix_size", (60_000, 60_000, 1))
    del file["dataset/image_3/data"]
    shape = (2, 1, 1, 60_000, 60_000)
    file["dataset/image_3"].create_dataset("data", shape, "<u2", chunks=(1, 1, 1, 64, 64))


def few_attributes(file) -> None:
    del file["dataset/image_3/attributes"]
    text = h5py.special_dtype(vlen=bytes)
    file["dataset/image_3"].create_dataset("attributes", (1,), text)


def no_dataset(file) -> None:
    del file["dataset/image_3/header"]
    file["dataset/image_3"].create_group("header")


def no_xml(file) -> None:
    del file["dataset/xml"]
    file["dataset"].create_dataset("xml", (0,), h5py.special_dtype(vlen=bytes))


def external_data(file) -> None:
    del file["dataset/image_3/data"]
    secret = Path(file.filename).with_name("secret")
    secret.write_bytes(bytes(64))
    file["dataset/image_3"].create_dataset(
        "data", (2, 1, 1, 4, 4), "<u2", external=[(str(secret), 0, 64)]
    )


def virtual_data(file) -> None:
    del file["dataset/image_3/data"]
    layout = h5py.VirtualLayout((2, 1, 1, 4, 4), "<u2")
    layout[:] = h5py.VirtualSource("other.h5", "x", (2, 1, 1, 4, 4))
    file["dataset/image_3"].create_virtual_dataset("data", layout)


def linked_data(file) -> None:
    del file["dataset/image_3/data"]
    other = Path(file.filename).with_name("other.h5")
    with h5py.File(other, "w") as target:
        target["x"] = np.zeros((2, 1, 1, 4, 4), "<u2")
    file["dataset/image_3/data"] = h5py.ExternalLink(str(other), "/x")


def linked_group(file) -> None:
    other = Path(file.filename).with_name("other.h5")
    with h5py.File(other, "w") as target:
        file.copy("dataset", target)
    del file["dataset"]
    file["dataset"] = h5py.ExternalLink(str(other), "/dataset")


def linked_xml(file) -> None:
    file.move("dataset/xml", "x")
    file["dataset/xml"] = h5py.SoftLink("/x")


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (break_type, "data type 99"),
        (break_matrix, "their headers say"),
        (break_second, "differ in channels"),
        (replace_header, "not those of ISMRMRD"),
        (huge_header, "1099511627776 images"),
        (huge_data, "an image has"),
        (few_attributes, "attributes of shape"),
        (no_dataset, "'header' is a Group"),
        (no_xml, "XML header has shape"),
        (external_data, "'data' are stored in other files"),
        (virtual_data, "'data' are stored in other files"),
        (linked_data, "'data' is missing, or a link"),
        (linked_group, "0 groups of images"),
        (linked_xml, "'xml' is missing, or a link"),
    ],
)
def test_hostile_files_are_refused(tmp_path, damage, why) -> None:
    path = write(tmp_path / "a.h5", [smooth_voxels(1, (1, 1, 4, 4), n) for n in range(2)])
    with h5py.File(path, "r+") as file:
        damage(file)
    with pytest.raises(SourceError, match=why):
        open_source(path)


def test_bytes_that_are_no_hdf5_are_refused(tmp_path) -> None:
    (tmp_path / "a.h5").write_bytes(b"something else entirely")
    with pytest.raises(SourceError, match="cannot be read as ISMRMRD"):
        open_source(tmp_path / "a.h5")


def test_a_cut_file_is_refused(tmp_path) -> None:
    path = write(tmp_path / "a.h5", [smooth_voxels(1, (1, 1, 40, 40), n) for n in range(2)])
    data = path.read_bytes()
    for size in range(0, len(data), len(data) // 20):
        path.write_bytes(data[:size])
        with pytest.raises(SourceError):
            open_source(path)


def test_streams_of_other_sources_have_no_mrd_headers(tmp_path) -> None:
    spec = StreamSpec(CineInfo(1, 1, 4, 4, np.dtype(np.int16)), 0, 9)
    with pytest.raises(SourceError, match=r"write \.nii"):
        open_sink(tmp_path / "a.h5", spec)
    assert list(tmp_path.iterdir()) == []
