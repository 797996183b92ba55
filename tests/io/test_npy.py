import io
import itertools

import numpy as np
import pytest

from edge_codec.errors import FrameError, SourceError
from edge_codec.io import npy, open_sink, open_source
from edge_codec.spec import CineInfo, SampleFormat, StreamSpec

DTYPES = ["u1", "i1", "<u2", ">u2", "<i2", ">i2", "<i4", ">u4", "<i8", ">u8", "<f4", ">f8"]
SHAPES = [(5, 7), (3, 5, 7), (2, 3, 5, 7)]


@pytest.fixture(params=[npy.BLOCK_BYTES, 200], ids=["whole", "blocks"])
def blocks(request, monkeypatch):
    monkeypatch.setattr(npy, "BLOCK_BYTES", request.param)


def save(path, array):
    np.save(path, array)
    return path


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize(("dtype", "shape"), list(itertools.product(DTYPES, SHAPES)))
@pytest.mark.parametrize("order", ["C", "F"])
def test_file_round_trip_is_byte_exact(tmp_path, copy, dtype, shape, order):
    values = np.random.default_rng(1).integers(0, 100, shape).astype(dtype)
    source = save(tmp_path / "a.npy", np.asarray(values, order=order))
    info = copy(source, tmp_path / "b.npy").info
    assert (tmp_path / "b.npy").read_bytes() == source.read_bytes()
    full = (1, 1, 1, 1)[: 4 - len(shape)] + shape
    assert (info.n_slices, info.n_phases, info.rows, info.columns) == full
    frames = list(open_source(source).frames())
    assert [(f.phase_index, f.slice_index) for f in frames] == list(
        itertools.product(range(full[1]), range(full[0]))
    )
    for frame in frames:
        expected = values.reshape(full)[frame.slice_index, frame.phase_index]
        assert frame.samples.dtype.isnative
        assert np.array_equal(frame.samples, expected)


def test_floats_keep_their_bits(tmp_path, copy):
    values = np.array([[[-0.0, np.nan, np.inf], [0.1, 1e-42, -7]]], np.float32)
    source = save(tmp_path / "a.npy", values)
    info = copy(source, tmp_path / "b.npy").info
    assert info.sample_format is SampleFormat.FLOAT32_ORDERED
    assert (tmp_path / "b.npy").read_bytes() == source.read_bytes()


@pytest.mark.parametrize(
    ("array", "match"),
    [
        (np.zeros((3, 3), bool), "uint8"),
        (np.zeros((3, 3), np.float16), "float32"),
        (np.zeros((3, 3), complex), "magnitude"),
        (np.zeros((3, 3), "S3"), "integers"),
        (np.zeros((3, 3), [("a", "i2")]), "integers"),
        (np.zeros((3, 0), np.int16), "not a cine"),
        (np.zeros(3, np.int16), "not a cine"),
        (np.zeros((1, 1, 1, 2, 2), np.int16), "not a cine"),
        (np.zeros((1, 70000), np.int16), "columns"),
    ],
)
def test_unsuited_arrays_are_refused(tmp_path, array, match):
    with pytest.raises(SourceError, match=match):
        open_source(save(tmp_path / "a.npy", array))


def test_objects_are_never_unpickled(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[{}, {}]], object), allow_pickle=True)
    with pytest.raises(SourceError, match="never unpickled"):
        open_source(tmp_path / "a.npy")


def damaged_files():
    file = io.BytesIO()
    np.save(file, np.zeros((2, 3, 5, 7), np.int16))
    data = file.getvalue()
    huge = data.replace(b"(2, 3, 5, 7), ", b"(9999,9999,9,9), ".replace(b", ", b","))
    yield from (b"", data[:5], data[:60], data[:-1], data + b"\0", b"x" * 300, huge)
    yield data[:10] + b"{" * 117 + b"\n" + data[128:]
    yield data[:6] + b"\x03" + data[7:]
    yield data.replace(b"'<i2'", b"'|a2'")
    yield data.replace(b"(2, 3, 5, 7)", b"(2L,3L,5, 7)")


@pytest.mark.parametrize("data", list(damaged_files()))
def test_damaged_files_are_refused(tmp_path, data):
    (tmp_path / "a.npy").write_bytes(data)
    with pytest.raises(SourceError):
        open_source(tmp_path / "a.npy")


def test_other_sources_become_four_dimensional(tmp_path):
    info = CineInfo(2, 3, 4, 5, np.dtype(np.uint16))
    with open_sink(tmp_path / "a.npy", StreamSpec(info, 0, 9)) as sink:
        for index in range(6):
            sink.write(index % 2, index // 2, np.full((4, 5), index))
    array = np.load(tmp_path / "a.npy")
    assert array.shape == (2, 3, 4, 5)
    assert array.dtype == np.uint16
    assert array[:, :, 0, 0].tolist() == [[0, 2, 4], [1, 3, 5]]


def test_header_that_disagrees_with_the_stream_is_refused(tmp_path, spec_of):
    source = open_source(save(tmp_path / "a.npy", np.zeros((2, 3, 5, 7), np.int16)))
    other = open_source(save(tmp_path / "b.npy", np.zeros((2, 3, 5, 8), np.int16)))
    spec = spec_of(other)
    object.__setattr__(spec.info, "source", source.info.source)
    with pytest.raises(SourceError, match=r"write \.nii instead"):
        open_sink(tmp_path / "c.npy", spec)
    assert not (tmp_path / "c.npy").exists()


def test_frames_out_of_order_or_missing_leave_nothing(tmp_path):
    spec = StreamSpec(CineInfo(2, 2, 4, 4, np.dtype(np.int16)), 0, 9)
    frame = np.zeros((4, 4), np.int16)
    sink = open_sink(tmp_path / "a.npy", spec)
    sink.write(0, 0, frame)
    with pytest.raises(FrameError, match="expected slice 1, phase 0"):
        sink.write(0, 1, frame)
    with pytest.raises(FrameError, match="frame is"):
        sink.write(1, 0, frame[:3])
    with pytest.raises(FrameError, match="1 of 4"):
        sink.close()
    with pytest.raises(FrameError, match="out of order"):
        sink.write(1, 0, frame)
    assert list(tmp_path.iterdir()) == []


def test_damaged_headers_raise_source_errors_only(tmp_path):
    path = save(tmp_path / "a.npy", np.zeros((2, 3, 5, 7), np.int16))
    data = path.read_bytes()
    rng = np.random.default_rng(8)
    for _ in range(300):
        damaged = bytearray(data)
        for place in rng.integers(0, 80, rng.integers(1, 4)):
            damaged[place] = rng.integers(256)
        path.write_bytes(bytes(damaged))
        try:
            list(open_source(path).frames())
        except SourceError:
            continue
