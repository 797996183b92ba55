import numpy as np
import pytest

from edge_codec.cine import Cine
from edge_codec.errors import FrameError, SpecError
from edge_codec.spec import CineInfo, SampleFormat

INFO = CineInfo(2, 3, 4, 5, np.dtype(np.int16))


def voxels(shape=(2, 3, 4, 5), dtype=np.int16):
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def test_frames_are_phase_major_and_come_back():
    cine = Cine.from_array(voxels())
    frames = list(cine.frames())
    places = [(frame.slice_index, frame.phase_index) for frame in frames]
    assert places == [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2)]
    assert all(
        np.array_equal(frame.samples, cine.voxels[place])
        for frame, place in zip(frames, places, strict=True)
    )
    assert np.array_equal(Cine.from_source(cine).voxels, cine.voxels)


@pytest.mark.parametrize(
    ("shape", "full"),
    [((4, 5), (1, 1, 4, 5)), ((3, 4, 5), (1, 3, 4, 5)), ((2, 3, 4, 5), (2, 3, 4, 5))],
)
def test_missing_axes_are_added_in_front(shape, full):
    assert Cine.from_array(voxels(shape)).voxels.shape == full


def test_description_is_kept():
    cine = Cine.from_array(
        voxels(),
        spacing_mm=(8, 1.5, 1.25),
        trigger_time_ms=[0, 40, 80],
        rescale_slope=2,
        rescale_intercept=-1,
    )
    assert cine.info.spacing_mm == (8, 1.5, 1.25)
    assert cine.info.trigger_time_ms == (0.0, 40.0, 80.0)
    assert (cine.info.rescale_slope, cine.info.rescale_intercept) == (2, -1)


@pytest.mark.parametrize("dtype", ["u1", ">i2", "<u4", "i8", "f4", ">f8"])
def test_byte_order_becomes_native(dtype):
    cine = Cine.from_array(voxels(dtype=dtype))
    assert cine.voxels.dtype.isnative
    assert np.array_equal(cine.voxels, voxels())
    assert np.array_equal(Cine.from_source(cine).voxels, voxels())


def test_floats_are_coded_as_integers():
    cine = Cine.from_array(voxels(dtype=np.float32) / 3)
    assert cine.info.sample_format is SampleFormat.FLOAT32_ORDERED
    assert next(cine.frames()).samples.dtype == np.int32
    assert np.array_equal(Cine.from_source(cine).voxels, cine.voxels)


@pytest.mark.parametrize(
    ("array", "match"),
    [
        (np.zeros(4, np.int16), "not a cine"),
        (np.zeros((1, 1, 1, 2, 2), np.int16), "not a cine"),
        (np.zeros((0, 4), np.int16), "not a cine"),
        (np.zeros((4, 4), bool), "not supported"),
        (np.zeros((4, 4), np.float16), "not supported"),
        (np.zeros((4, 4), complex), "not supported"),
        (np.full((4, 4), 0.1), "float64 voxels"),
    ],
)
def test_arrays_that_are_no_cine(array, match):
    with pytest.raises(FrameError, match=match):
        Cine.from_array(array)


def test_wrong_number_of_trigger_times():
    with pytest.raises(FrameError, match="2 trigger times for 3 phases"):
        Cine.from_array(voxels(), trigger_time_ms=[0, 1])


def test_numbers_of_the_geometry_are_checked():
    with pytest.raises(SpecError, match="finite"):
        Cine.from_array(voxels(), spacing_mm=(np.nan, 1, 1))


def test_parts_must_belong_together():
    with pytest.raises(FrameError, match="shape"):
        Cine(voxels((2, 3, 5, 4)), INFO)
    with pytest.raises(FrameError, match="dtype"):
        Cine(voxels(dtype=np.int32), INFO)
    with pytest.raises(FrameError, match="metadata"):
        Cine(voxels(), INFO, metadata=(b"",))
    with pytest.raises(FrameError, match="at least one phase"):
        Cine(voxels((2, 0, 4, 5)), CineInfo(2, 0, 4, 5, np.dtype(np.int16)))


def test_metadata_travels_with_the_frames():
    metadata = tuple(bytes([index]) for index in range(6))
    cine = Cine.from_source(Cine(voxels(), INFO, metadata))
    assert [frame.metadata for frame in cine.frames()] == list(metadata)


def frames_of(places):
    return [(*place, np.zeros((4, 5), np.int16)) for place in places]


ALL = [(s, p) for p in range(3) for s in range(2)]


def test_frames_in_any_order():
    assert Cine.from_frames(INFO, frames_of(ALL[::-1])).voxels.shape == (2, 3, 4, 5)


@pytest.mark.parametrize(
    ("frames", "match"),
    [
        (frames_of(ALL[:-1]), "5 of 6"),
        (frames_of([*ALL, (0, 0)]), "twice"),
        (frames_of([(2, 0)]), "outside"),
        (frames_of([(0, -1)]), "outside"),
        ([(0, 0, np.zeros((4, 4), np.int16))], "shape"),
        ([(0, 0, np.full((4, 5), 40_000))], "do not fit"),
        ([(0, 0, np.zeros((4, 5)))], "pass integers"),
    ],
)
def test_frames_that_do_not_fit(frames, match):
    with pytest.raises(FrameError, match=match):
        Cine.from_frames(INFO, frames)


def test_a_cine_beyond_the_memory_is_refused():
    info = CineInfo(65_535, 2**31 - 1, 4096, 4096, np.dtype(np.int64))
    with pytest.raises(FrameError, match="memory"):
        Cine.from_frames(info, [])
