"""Frames to window codes and back: the kernel against the codec's own window."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from edge_codec.errors import EngineError  # noqa: E402
from edge_codec.kernels import normalize as kernel  # noqa: E402
from edge_codec.kernels.reference import normalize as reference  # noqa: E402
from edge_codec.spec import CineInfo, StreamSpec  # noqa: E402
from edge_codec.window import Window, pad  # noqa: E402


def make_spec(low=0, high=4095, window=(10, 3000)):
    info = CineInfo(1, 1, 8, 8, dtype=np.dtype(np.int32))
    return StreamSpec(info, low=low, high=high, window_low=window[0], window_high=window[1])


def tables(spec):
    return reference.code_table(spec), reference.sample_table(spec)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 13), (2, 3, 5), (1, 95, 100), (3, 8, 16)])
def test_codes_and_samples_are_those_of_the_window(shape):
    spec = make_spec()
    to_code, to_sample = tables(spec)
    frames = np.random.default_rng(0).integers(0, 4096, shape).astype(np.uint16)
    codes = kernel.normalize(torch.from_numpy(frames), torch.from_numpy(to_code)).numpy()
    window = Window(spec)
    expected = [pad(window.normalize(frame.astype(np.uint32)), 8) for frame in frames]
    assert np.array_equal(codes, expected)
    assert np.array_equal(codes, reference.normalize(frames, to_code))
    back = kernel.denormalize(torch.from_numpy(codes), torch.from_numpy(to_sample), *shape[1:])
    assert np.array_equal(back, window.denormalize(codes[:, : shape[1], : shape[2]]))
    assert np.array_equal(back, reference.denormalize(codes, to_sample, *shape[1:]))


@settings(max_examples=30, deadline=None)
@given(
    st.integers(-40_000, 40_000), st.integers(1, 65_535), st.integers(-100, 99), st.integers(1, 200)
)
def test_the_tables_hold_for_every_sample(low, span, first, width):
    spec = make_spec(
        low, low + span, (low + span * first // 100, low + span * first // 100 + width)
    )
    to_code, to_sample = tables(spec)
    samples = np.arange(span + 1)
    numerator = (samples - (spec.window_low - low)) * 384 + width
    assert np.array_equal(to_code[: span + 1], np.clip(numerator // (2 * width), 0, 255))
    assert to_code[-1] == to_code[span]
    assert to_sample.max() <= span


def test_every_16_bit_sample_passes_the_kernel():
    frames = np.arange(1 << 16, dtype=np.uint16).reshape(1, 256, 256)
    to_code, _ = tables(make_spec(0, 65_535, (0, 60_000)))
    codes = kernel.normalize(torch.from_numpy(frames), torch.from_numpy(to_code))
    assert np.array_equal(codes.numpy().ravel(), to_code)


def test_out_is_written_whole_and_returned():
    frames = torch.zeros((1, 3, 3), dtype=torch.uint16)
    to_code = torch.full((1 << 16,), 7, dtype=torch.uint8)
    out = torch.full((1, 8, 8), 99, dtype=torch.uint8)
    assert kernel.normalize(frames, to_code, out=out) is out
    assert (out == 7).all()


def test_wide_samples_are_refused():
    spec = make_spec(0, 1 << 16)
    for table in (reference.code_table, reference.sample_table):
        with pytest.raises(EngineError, match="65537 values"):
            table(spec)


def test_wrong_tensors_are_refused():
    frames = torch.zeros((1, 3, 3), dtype=torch.uint16)
    to_code = torch.zeros(1 << 16, dtype=torch.uint8)
    codes = torch.zeros((1, 8, 8), dtype=torch.uint8)
    to_sample = torch.zeros(256, dtype=torch.uint16)
    for bad in (frames.int(), frames[0], frames[:0]):
        with pytest.raises(EngineError, match=r"frames is|expected"):
            kernel.normalize(bad, to_code)
    with pytest.raises(EngineError, match="to_code"):
        kernel.normalize(frames, to_code[:-1])
    with pytest.raises(EngineError, match="out"):
        kernel.normalize(frames, to_code, out=codes[:, :, :4])
    with pytest.raises(EngineError, match="not within"):
        kernel.denormalize(codes, to_sample, 9, 3)
    with pytest.raises(EngineError, match="fewer frames"):
        kernel.normalize(frames, to_code, 1 << 16)
