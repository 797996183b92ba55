"""Frames as they come, and the description of a stream from its first one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from edge_codec.bitstream.live import Policy
from edge_codec.errors import FrameError, SpecError
from edge_codec.runtime.live_frame import FrameChecker, check_fit, check_frame
from edge_codec.runtime.live_options import LiveOptions, parse_policy
from edge_codec.runtime.live_spec import bounds_with_room, make_segment_spec
from edge_codec.spec import CineInfo, Effort, ModelId, SampleFormat

DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4"]


def spec_of(frame, before=None, geometry=None, **options):
    return make_segment_spec(
        check_frame(frame, lossless=True), LiveOptions(**options), geometry, before
    )


@settings(deadline=None)
@given(st.data())
def test_any_integer_frame_has_a_description_that_holds_it_and_its_double(data):
    dtype = np.dtype(data.draw(st.sampled_from(DTYPES)))
    frame = data.draw(arrays(dtype, array_shapes(min_dims=2, max_dims=2, max_side=5)))
    spec = spec_of(frame)
    checked = check_frame(frame, lossless=True)
    assert checked.fits(spec)
    if spec.high - spec.low < (1 << 32) - 1:
        limits = np.iinfo(dtype)
        assert spec.high >= min(2 * checked.high, limits.max)
        assert spec.low <= max(2 * checked.low, limits.min)
        assert spec.high & (spec.high + 1) == 0 or spec.high == limits.max


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 830, (0, 2047)),
        (5, 1023, (0, 2047)),
        (0, 1024, (0, 4095)),
        (0, 30_000, (0, 32_767)),
        (0, 0, (0, 255)),
        (-1, 100, (-2, 255)),
        (-1024, 3000, (-2048, 8191)),
        (-20_000, -5, (-32_768, 255)),
    ],
)
def test_bounds(low, high, expected):
    frame = np.array([[low, high]], np.int16)
    assert bounds_with_room(check_frame(frame, lossless=True)) == expected


def test_later_bounds_hold_the_earlier_frames_too():
    first = spec_of(np.array([[-100, 100]], np.int16))
    second = spec_of(np.array([[0, 3000]], np.int16), before=first)
    assert (second.low, second.high) == (-256, 8191)


def test_bounds_of_frames_of_another_kind_are_forgotten():
    first = spec_of(np.array([[-100, 30_000]], np.int16))
    second = spec_of(np.array([[0, 10, 20]], np.int16), before=first)
    assert (second.low, second.high) == (0, 255)


def test_the_window_is_that_of_the_percentiles():
    frame = np.arange(10_000, dtype=np.int16).reshape(100, 100)
    spec = spec_of(frame)
    assert (spec.window_low, spec.window_high) == (9, 9989)


def test_wide_integers_that_use_few_bits_are_held():
    frame = np.array([[1 << 40, (1 << 40) + (1 << 31)]], np.int64)
    spec = spec_of(frame)
    # As much room on both sides, so that a little more does not begin a segment each time.
    assert (spec.low, spec.high) == ((1 << 40) - (1 << 30) + 1, (1 << 40) + 3 * (1 << 30))
    lowest = spec_of(np.array([[0, 5 << 30]], np.uint64) - np.array([[0, 2 << 30]], np.uint64))
    assert (lowest.low, lowest.high) == (0, (1 << 32) - 1)


def test_the_options_and_the_geometry_are_in_the_description():
    geometry = CineInfo(
        1, 3, 9, 9, np.dtype(np.uint8), spacing_mm=(8.0, 1.4, 1.4), rescale_slope=2.0
    )
    frame = np.ones((5, 6), np.uint16)
    spec = spec_of(
        frame, geometry=geometry, n_slices=4, n_phases=7, max_error=3, effort=Effort.BEST
    )
    assert (spec.info.n_slices, spec.info.n_phases, spec.info.frame_shape) == (4, 7, (5, 6))
    assert spec.info.spacing_mm == (8.0, 1.4, 1.4)
    assert (spec.info.dtype, spec.info.rescale_slope) == (np.uint16, 2.0)
    assert (spec.max_error, spec.effort) == (3, Effort.BEST)


def test_a_promise_of_phases_is_not_repeated_after_a_change():
    first = spec_of(np.ones((2, 2), np.int16), n_phases=5)
    assert spec_of(np.ones((3, 3), np.int16), before=first, n_phases=5).info.n_phases == 0


def test_the_hashes_of_the_model_are_in_the_description():
    frame = np.ones((8, 8), np.uint16)
    checked = check_frame(frame, lossless=False)
    spec = make_segment_spec(checked, LiveOptions(model=ModelId.VQVAE, max_error=4), None)
    assert spec.model_hashes


@pytest.mark.parametrize("dtype", [">i2", ">u4", ">f4"])
def test_byte_order_is_of_no_account(dtype):
    frame = np.array([[1, 2], [3, 400]], dtype)
    checked = check_frame(frame, lossless=True)
    assert checked.dtype.isnative
    assert (checked.low, checked.high) == (1, 400)
    assert checked.fits(spec_of(frame))


def test_whole_floats_are_held_as_integers():
    checked = check_frame(np.array([[1.0, -7.0]]), lossless=False)
    assert checked.sample_format is SampleFormat.FLOAT_INTEGER
    assert (checked.low, checked.high) == (-7, 1)


def test_other_floats_are_held_by_their_order():
    frame = np.array([[0.5, -0.25]], np.float32)
    checked = check_frame(frame, lossless=True)
    assert checked.sample_format is SampleFormat.FLOAT32_ORDERED
    assert checked.fits(spec_of(frame))
    with pytest.raises(FrameError, match="no whole numbers"):
        check_frame(frame, lossless=False)


def test_whole_floats_stay_ordered_after_others():
    frame = np.array([[1.0, 2.0]], np.float32)
    checked = check_frame(frame, lossless=True, ordered=True)
    assert checked.sample_format is SampleFormat.FLOAT32_ORDERED


def test_whole_floats_that_are_not_exact_as_float32_do_not():
    frame = np.array([[2.0**24 + 1, 2.0]])
    checked = check_frame(frame, lossless=True, ordered=True)
    assert checked.sample_format is SampleFormat.FLOAT_INTEGER
    assert (checked.samples == frame).all()


def test_a_refused_frame_changes_nothing_for_a_fixed_description():
    whole, other = np.array([[1.0, 2.0]], np.float32), np.array([[0.5, 2.0]], np.float32)
    checker = FrameChecker(LiveOptions(), spec_of(whole))
    with pytest.raises(FrameError, match="the stream was opened for"):
        checker.check(other, 0, 0)
    assert checker.check(whole, 0, 0).sample_format is SampleFormat.FLOAT_INTEGER


def test_whole_floats_fit_a_description_of_ordered_ones():
    checker = FrameChecker(LiveOptions(), spec_of(np.array([[0.5, 9.0]], np.float32)))
    checked = checker.check(np.array([[1.0, 2.0]], np.float32), 0, 0)
    assert checked.sample_format is SampleFormat.FLOAT32_ORDERED


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (np.array([[1.0, np.nan]]), "NaN or infinity"),
        (np.array([[-np.inf, 1.0]], np.float32), "NaN or infinity"),
        (np.array([[0.1, 0.2]]), "neither whole numbers nor exact as float32"),
        (np.array([[1j]]), "frame is complex128"),
        (np.array([[True]]), "frame is bool"),
        (np.array([[1.0]], np.float16), "frame is float16"),
        (np.array([["a"]]), "frame is <U1"),
        (np.array([[None]]), "frame is object"),
        (np.zeros((2, 2, 2), np.int16), "rows x columns"),
        (np.zeros((0, 5), np.int16), "rows x columns"),
        (np.zeros(5, np.int16), "rows x columns"),
        (np.zeros((1, 70_000), np.int16), "larger than the limit"),
        (np.zeros((4097, 4097), np.uint8), "larger than the limit"),
        (np.array([[0, 1 << 40]], np.int64), "more than 32 bits"),
    ],
)
def test_what_is_no_frame_is_refused(frame, message):
    with pytest.raises(FrameError, match=message):
        check_frame(frame, lossless=True)


def test_a_frame_outside_of_fixed_bounds_is_refused():
    spec = spec_of(np.array([[0, 100]], np.int16))
    check_fit(check_frame(np.array([[0, 255]], np.int16), lossless=True), spec)
    for frame in (
        np.array([[0, 256]], np.int16),
        np.array([[-1, 0]], np.int16),
        np.array([[0, 1]], np.uint16),
        np.array([[0], [1]], np.int16),
    ):
        with pytest.raises(FrameError, match="the stream was opened for"):
            check_fit(check_frame(frame, lossless=True), spec)


@pytest.mark.parametrize(
    "options",
    [
        {"policy": Policy.STRICT_LOSSLESS, "max_error": 1},
        {"policy": Policy.STRICT_LOSSLESS, "max_error": None, "model": ModelId.VQVAE},
        {"max_error": None},
        {"queue_frames": 0},
        {"n_slices": 0},
        {"n_phases": -1},
        {"key_interval": 0},
        {"budget_ms": -1.0},
        {"budget_ms": float("nan")},
        {"threads": 0},
    ],
)
def test_options_that_cannot_be_kept_are_refused(options):
    with pytest.raises(SpecError):
        LiveOptions(**options)


def test_policies_have_names():
    assert parse_policy("strict-lossless") is Policy.STRICT_LOSSLESS
    assert parse_policy("drop-oldest") is Policy.DROP_OLDEST
    with pytest.raises(SpecError, match="'never' is unknown"):
        parse_policy("never")
