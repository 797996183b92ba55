import gzip
import itertools
import struct
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest

from edge_codec.errors import SourceError
from edge_codec.io import open_sink, open_source
from edge_codec.spec import CineInfo, SampleFormat, StreamSpec

CODES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]
SHAPES = [(7, 5), (7, 5, 3), (7, 5, 3, 4), (7, 5, 1, 4, 1, 1, 1)]


def nifti_bytes(values, order="<", version=1, change=None, extension=None):
    kind = nib.Nifti1Header if version == 1 else nib.Nifti2Header
    header = kind(endianness=order)
    header.set_data_dtype(values.dtype.newbyteorder(order))
    header.set_data_shape(values.shape)
    header.set_xyzt_units("mm", "sec")
    header["magic"] = header.single_magic
    tail = b"\0\0\0\0"
    if extension:
        tail = b"\1\0\0\0" + struct.pack(f"{order}ii", 16 * len(extension) + 16, 6)
        tail += extension.ljust(16 * len(extension) + 8, b"\0")
    header["vox_offset"] = header.sizeof_hdr + len(tail)
    if change:
        change(header)
    voxels = values.astype(values.dtype.newbyteorder(order)).tobytes(order="F")
    return bytes(header.binaryblock) + tail + voxels


def cine_values(shape=(7, 5, 3, 4), dtype="i2"):
    return np.random.default_rng(2).integers(0, 100, shape).astype(dtype)


@pytest.fixture
def write(tmp_path):
    def write(data, name="a.nii"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


@pytest.mark.parametrize(("code", "shape"), list(itertools.product(CODES, SHAPES)))
@pytest.mark.parametrize(("order", "version"), [("<", 1), (">", 1), ("<", 2), (">", 2)])
def test_file_round_trip_is_byte_exact(write, copy, tmp_path, code, shape, order, version):
    values = cine_values(shape, code)
    source = write(nifti_bytes(values, order, version, extension=b"made by a test"))
    info = copy(source, tmp_path / "b.nii").info
    assert (tmp_path / "b.nii").read_bytes() == source.read_bytes()
    expected = values.reshape((*shape, 1, 1)[:4])
    assert (info.columns, info.rows, info.n_slices, info.n_phases) == expected.shape
    frames = list(open_source(source).frames())
    assert len(frames) == info.n_slices * info.n_phases
    for frame in frames:
        assert frame.samples.dtype.isnative
        assert np.array_equal(frame.samples.T, expected[..., frame.slice_index, frame.phase_index])


def test_frames_come_in_file_order(write):
    source = open_source(write(nifti_bytes(cine_values())))
    order = [(frame.phase_index, frame.slice_index) for frame in source.frames()]
    assert order == list(itertools.product(range(4), range(3)))


def test_gzip_is_read_and_written_always_the_same(write, copy, tmp_path):
    data = nifti_bytes(cine_values())
    source = write(gzip.compress(data), "a.nii.gz")
    copy(source, tmp_path / "b.nii.gz")
    copy(source, tmp_path / "c.nii.gz")
    packed = (tmp_path / "b.nii.gz").read_bytes()
    assert gzip.decompress(packed) == data
    assert packed == (tmp_path / "c.nii.gz").read_bytes()
    assert packed[4:8] == b"\0\0\0\0"


def test_nibabel_agrees(write, copy, tmp_path):
    values = cine_values()
    copy(write(nifti_bytes(values)), tmp_path / "b.nii.gz")
    assert np.array_equal(np.asarray(nib.load(tmp_path / "b.nii.gz").dataobj), values)


def test_floats_keep_their_bits(write, copy, tmp_path):
    values = np.array([-0.0, np.nan, np.inf, 0.1, 1e-42, -7], np.float32).reshape(3, 2, 1)
    values.view(np.uint32)[0, 1] = 0x7F800001  # a signaling NaN with a payload
    source = write(nifti_bytes(values, ">"))
    info = copy(source, tmp_path / "b.nii").info
    assert info.sample_format is SampleFormat.FLOAT32_ORDERED
    assert (tmp_path / "b.nii").read_bytes() == source.read_bytes()


def test_float64_that_fits_nothing_is_refused(write):
    with pytest.raises(SourceError, match="float64 voxels"):
        open_source(write(nifti_bytes(cine_values(dtype="f8") / 3)))


def test_geometry_and_rescale(write):
    def change(header):
        header.set_zooms((1.25, 1.5, 8.0, 0.04))
        header["scl_slope"], header["scl_inter"] = 2.0, -5.0

    info = open_source(write(nifti_bytes(cine_values(), change=change))).info
    assert info.spacing_mm == (8.0, 1.5, 1.25)
    assert info.trigger_time_ms == pytest.approx((0, 40, 80, 120))
    assert (info.rescale_slope, info.rescale_intercept) == (2.0, -5.0)


@pytest.mark.parametrize("slope", [0.0, np.nan])
def test_no_scaling(write, slope):
    def change(header):
        header["scl_slope"], header["scl_inter"] = slope, 7.0

    info = open_source(write(nifti_bytes(cine_values(), change=change))).info
    assert (info.rescale_slope, info.rescale_intercept) == (1.0, 0.0)


def test_odd_spacing_is_unknown_and_the_header_is_kept(write, copy, tmp_path):
    def change(header):
        header["pixdim"][1:5] = np.nan, np.inf, -3, np.nan
        header["xyzt_units"] = 3 + 16  # micrometers, milliseconds

    source = write(nifti_bytes(cine_values(), change=change))
    info = copy(source, tmp_path / "b.nii").info
    assert info.spacing_mm == (pytest.approx(0.003), 0.0, 0.0)
    assert info.trigger_time_ms == ()
    assert (tmp_path / "b.nii").read_bytes() == source.read_bytes()


def setting(name, value):
    def change(header):
        header[name] = value

    return change


def dims(*values):
    def change(header):
        header["dim"][: len(values)] = values

    return change


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (setting("magic", b"ni1"), "pair"),
        (setting("magic", b"xx"), "magic"),
        (setting("datatype", 128), "RGB"),
        (setting("datatype", 32), "complex"),
        (setting("datatype", 1), "1-bit"),
        (setting("datatype", 1536), "128-bit"),
        (setting("datatype", 999), "unknown"),
        (setting("vox_offset", 0), "vox_offset"),
        (setting("vox_offset", np.nan), "vox_offset"),
        (setting("vox_offset", 1e30), "vox_offset"),
        (setting("vox_offset", 352.5), "vox_offset"),
        (setting("vox_offset", 1e6), "cut off"),
        (setting("scl_slope", np.inf), "finite"),
        (dims(1, 7), r"dim\[0\]"),
        (dims(8), r"dim\[0\]"),
        (dims(-1), r"dim\[0\]"),
        (dims(4, 7, 5, 3, 0), "positive"),
        (dims(4, 7, 5, -3), "positive"),
        (dims(5, 7, 5, 3, 2, 2), "split"),
        (dims(4, 7, 5, 3, 5), "cut off"),
        (dims(4, 7, 5, 3, 3), "goes on after"),
        (dims(4, 32767, 32767, 32767, 32767), "cut off"),
    ],
)
def test_bad_headers_are_refused(write, change, match):
    with pytest.raises(SourceError, match=match):
        open_source(write(nifti_bytes(cine_values(), change=change)))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("size", [0, 1, 3, 4, 100, 347, 348, 351, 352, 400])
def test_cut_files_are_refused(write, suffix, size):
    data = nifti_bytes(cine_values())[:size]
    path = write(gzip.compress(data) if suffix.endswith("gz") else data, f"a{suffix}")
    with pytest.raises(SourceError):
        list(open_source(path).frames())


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_what_follows_the_voxels_is_refused(write, suffix):
    data = nifti_bytes(cine_values()) + b"more"
    path = write(gzip.compress(data) if suffix.endswith("gz") else data, f"a{suffix}")
    with pytest.raises(SourceError, match="goes on after"):
        list(open_source(path).frames())


def test_damaged_gzip_is_refused(write):
    data = gzip.compress(nifti_bytes(cine_values((40, 40, 3, 4))))
    rng = np.random.default_rng(5)
    for cut in (11, 30, len(data) // 2, len(data) - 9, len(data) - 1):
        with pytest.raises(SourceError):
            list(open_source(write(data[:cut], "a.nii.gz")).frames())
    for _ in range(60):
        flipped = bytearray(data)
        flipped[rng.integers(10, len(data))] ^= 1 << rng.integers(8)
        try:
            list(open_source(write(bytes(flipped), "a.nii.gz")).frames())
        except SourceError:
            continue
        pytest.fail("a flipped bit passed the check sum of gzip")


def test_huge_extents_in_a_small_gzip_are_refused_at_once(write):
    data = nifti_bytes(cine_values(), change=dims(4, 4000, 4000, 32767, 32767))
    with pytest.raises(SourceError, match="cannot hold"):
        open_source(write(gzip.compress(data), "a.nii.gz"))


def test_frames_beyond_the_limit_are_refused(write):
    data = nifti_bytes(cine_values(), version=2, change=dims(2, 70000, 1, 1, 1))
    with pytest.raises(SourceError, match="columns"):
        open_source(write(data[:544] + bytes(140_000)))


def foreign_spec(dtype="i2", phases=3, **changes):
    info = CineInfo(2, phases, 4, 5, np.dtype(dtype), **changes)
    return StreamSpec(info, 0, 100)


def write_foreign(path, spec):
    with open_sink(path, spec) as sink:
        for index in range(spec.info.n_slices * spec.info.n_phases):
            frame = np.full((4, 5), index, spec.info.dtype)
            sink.write(index % 2, index // 2, frame)
    return nib.load(path)


@pytest.mark.parametrize("dtype", CODES[:8])
def test_other_sources_get_a_header(tmp_path, dtype):
    spec = foreign_spec(
        dtype,
        spacing_mm=(8.0, 1.5, 1.25),
        trigger_time_ms=(10.0, 50.0, 90.0),
        rescale_slope=2.0,
        rescale_intercept=1.0,
    )
    image = write_foreign(tmp_path / "a.nii.gz", spec)
    assert image.shape == (5, 4, 2, 3)
    assert image.header.get_data_dtype() == dtype
    assert image.header.get_zooms() == pytest.approx((1.25, 1.5, 8.0, 0.04))
    assert image.dataobj.slope == 2.0
    assert image.get_fdata()[0, 0].tolist() == [[1, 5, 9], [3, 7, 11]]
    info = open_source(tmp_path / "a.nii.gz").info
    assert info.spacing_mm == (8.0, 1.5, 1.25)


def test_one_phase_of_unknown_spacing(tmp_path):
    image = write_foreign(tmp_path / "a.nii", foreign_spec(phases=1))
    assert image.shape == (5, 4, 2)
    assert image.header.get_zooms() == (1.0, 1.0, 1.0)


def test_header_that_disagrees_with_the_stream_is_refused(write, spec_of, tmp_path):
    source = open_source(write(nifti_bytes(cine_values())))
    spec = spec_of(source)
    other = open_source(write(nifti_bytes(cine_values((7, 5, 3, 2)))))
    object.__setattr__(spec.info, "source", other.info.source)
    with pytest.raises(SourceError, match=r"write \.npy instead"):
        open_sink(tmp_path / "b.nii", spec)
    assert [path.name for path in tmp_path.iterdir()] == ["a.nii"]


def test_existing_file_needs_force(write, copy, tmp_path):
    source = write(nifti_bytes(cine_values()))
    target = write(b"old", "b.nii")
    with pytest.raises(SourceError, match="--force"):
        copy(source, target)
    assert target.read_bytes() == b"old"
    copy(source, target, force=True)
    assert target.read_bytes() == source.read_bytes()


def test_a_file_can_replace_itself(write, copy):
    source = write(nifti_bytes(cine_values()))
    before = source.read_bytes()
    copy(source, source, force=True)
    assert source.read_bytes() == before


def test_abort_leaves_nothing(tmp_path):
    sink = open_sink(tmp_path / "a.nii.gz", foreign_spec())
    sink.write(0, 0, np.zeros((4, 5), np.int16))
    sink.abort()
    sink.close()
    assert list(tmp_path.iterdir()) == []


def test_nifti_needs_no_pydicom(write, tmp_path):
    path = write(nifti_bytes(cine_values()))
    code = (
        "import sys; from edge_codec.io import open_source, open_sink\n"
        "from edge_codec.spec import StreamSpec\n"
        "loaded = {name.split('.')[0] for name in sys.modules}\n"
        "assert not loaded & {'nibabel', 'pydicom'}, loaded\n"
        "sys.modules['pydicom'] = None\n"  # makes any import of it fail
        f"source = open_source({str(path)!r}); list(source.frames())\n"
        f"open_sink({str(tmp_path / 'b.nii')!r}, StreamSpec(source.info, 0, 99)).abort()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_damaged_headers_raise_source_errors_only(write, spec_of, tmp_path):
    data = nifti_bytes(cine_values())
    rng = np.random.default_rng(8)
    for _ in range(300):
        damaged = bytearray(data)
        for place in rng.integers(0, 352, rng.integers(1, 4)):
            damaged[place] = rng.integers(256)
        try:
            source = open_source(write(bytes(damaged)))
            list(source.frames())
            open_sink(tmp_path / "b", spec_of(source)).abort()  # reads the affine
        except SourceError:
            continue
