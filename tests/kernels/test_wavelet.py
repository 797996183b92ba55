"""The GPU's wavelets against the normative ones, in Triton's interpreter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from triton.runtime import interpreter  # noqa: E402

from edge_codec.errors import EngineError  # noqa: E402
from edge_codec.kernels import wavelet  # noqa: E402
from edge_codec.kernels.reference import wavelet as reference  # noqa: E402
from edge_codec.kernels.tables import Config  # noqa: E402
from edge_codec.transform.wavelet import analyze_time  # noqa: E402

# The interpreter takes its time per row, whatever the columns: few rows, and one strip of them.
SPACE = [
    ((1, 1, 1), np.int16),
    ((2, 1, 7), np.uint16),
    ((1, 5, 1), np.int32),
    ((1, 2, 2), np.int16),
    ((2, 3, 5), np.int32),
    ((1, 1, 8), np.int32),  # a multiple of four columns, but a single row
    ((2, 4, 4), np.uint16),
    ((1, 5, 12), np.int32),
    ((1, 95, 100), np.int16),
    ((1, 19, 257), np.int16),
]
TIME = [
    ((1, 1, 1), np.int32),
    ((2, 1, 3), np.int16),
    ((3, 3, 5), np.uint16),
    ((1, 2, 4), np.int16),
    ((3, 5, 8), np.int32),
]
SMALL_TILE = Config({"ROWS": 2, "BLOCK": 2}, num_warps=1, num_stages=1)


@pytest.fixture(autouse=True)
def _undefined_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give loads without a value for masked lanes some other than the interpreter's 0."""
    load = interpreter.InterpreterBuilder.create_masked_load

    def load_or_poison(self: Any, pointers: Any, mask: Any, other: Any, *rest: Any) -> Any:
        loaded = load(self, pointers, mask, other, *rest)
        if other is None:
            loaded.data[~mask.data] = 85
        return loaded

    monkeypatch.setattr(interpreter.InterpreterBuilder, "create_masked_load", load_or_poison)


def one_strip(rows: int) -> Config:
    return Config({"ROWS": (rows + 1) // 2, "BLOCK": 128}, num_warps=1, num_stages=1)


def random_frames(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """All values of a dtype, its extremes often."""
    rng = np.random.default_rng(sum(shape))
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    frames = rng.integers(low, high, shape, endpoint=True, dtype=dtype)
    frames[rng.random(shape) < 0.2] = low
    frames[rng.random(shape) < 0.2] = high
    return frames


def poisoned(shape: tuple[int, ...], dtype: Any = torch.int32) -> Any:
    return torch.full(shape, 77, dtype=dtype)


def check(
    frames: np.ndarray,
    analyze: Callable[..., Any],
    synthesize: Callable[..., Any],
    expected: Any,
    tile: Config,
) -> None:
    out = wavelet.Subbands(*(poisoned(band.shape) for band in expected))
    assert analyze(torch.from_numpy(frames), out=out, tile=tile) is out
    for name, band, correct in zip(out._fields, out, expected, strict=True):
        np.testing.assert_array_equal(band.numpy(), correct, err_msg=name)
    back = poisoned(frames.shape, torch.from_numpy(frames).dtype)
    assert synthesize(out, out=back, tile=tile) is back
    np.testing.assert_array_equal(back.numpy(), frames)


@pytest.mark.parametrize(("shape", "dtype"), SPACE)
def test_a_level_equals_the_reference_and_comes_back(shape: Any, dtype: Any) -> None:
    frames = random_frames(shape, dtype)
    expected = reference.analyze2d(frames)
    check(frames, wavelet.analyze2d, wavelet.synthesize2d, expected, one_strip(shape[1]))


@pytest.mark.parametrize(("shape", "dtype"), TIME)
def test_pairs_of_frames_equal_the_reference_and_come_back(shape: Any, dtype: Any) -> None:
    frames = random_frames(shape, dtype)
    expected = reference.analyze3d(frames)
    check(frames, wavelet.analyze3d, wavelet.synthesize3d, expected, one_strip(shape[1]))


@pytest.mark.parametrize("columns", [9, 12])
def test_strips_meet(columns: int) -> None:
    frames = random_frames((1, 7, columns), np.int16)
    expected = reference.analyze2d(frames)
    check(frames, wavelet.analyze2d, wavelet.synthesize2d, expected, SMALL_TILE)


def test_strips_of_pairs_meet() -> None:
    frames = random_frames((2, 7, 8), np.int16)
    expected = reference.analyze3d(frames)
    check(frames, wavelet.analyze3d, wavelet.synthesize3d, expected, SMALL_TILE)


def test_subbands_no_frame_has_give_what_the_reference_gives() -> None:
    rng = np.random.default_rng(1)
    shapes = [band.shape for band in reference.analyze2d(np.zeros((2, 3, 4), np.int32))]
    bands = [rng.integers(-(1 << 31), 1 << 31, shape, dtype=np.int32) for shape in shapes]
    tensors = wavelet.Subbands(*map(torch.from_numpy, bands))
    tile = one_strip(3)
    expected = reference.synthesize2d(tuple(bands))
    assert np.array_equal(wavelet.synthesize2d(tensors, tile=tile).numpy(), expected)
    expected = reference.synthesize3d(tuple(bands))
    assert np.array_equal(wavelet.synthesize3d(tensors, tile=tile).numpy(), expected)


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.int32])
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 5), (5, 4, 10), (4, 255, 257)])
def test_time_alone_equals_the_reference_and_comes_back(shape: Any, dtype: Any) -> None:
    frames = random_frames(shape, dtype)
    expected = reference.analyze_time(frames)
    out = tuple(poisoned(part.shape) for part in expected)
    low, high = wavelet.analyze_time(torch.from_numpy(frames), out=out)
    assert np.array_equal(low.numpy(), expected[0])
    assert np.array_equal(high.numpy(), expected[1])
    back = poisoned(shape, torch.from_numpy(frames).dtype)
    assert wavelet.synthesize_time(low, high, out=back) is back
    assert np.array_equal(back.numpy(), frames)


def test_parts_of_frames_meet_in_time() -> None:
    frames = random_frames((3, 3, 11), np.int16)
    tile = Config({"BLOCK": 16}, num_warps=1, num_stages=1)
    low, high = wavelet.analyze_time(torch.from_numpy(frames), tile=tile)
    assert all(map(np.array_equal, (low.numpy(), high.numpy()), analyze_time(frames)))
    assert np.array_equal(wavelet.synthesize_time(low, high, tile=tile).numpy(), frames)


def test_results_are_new_int32_tensors_unless_given() -> None:
    frames = random_frames((2, 3, 6), np.int16)
    bands = wavelet.analyze2d(torch.from_numpy(frames))
    assert all(map(np.array_equal, bands, reference.analyze2d(frames)))
    back = wavelet.synthesize2d(bands)
    assert back.dtype == torch.int32
    assert np.array_equal(back.numpy(), frames)


def frames_of(*shape: int, dtype: Any = torch.int16) -> Any:
    return torch.zeros(shape, dtype=dtype)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (frames_of(3, 5), r"\(3, 5\) torch.int16; expected \(n, rows, columns\)"),
        (frames_of(0, 3, 5), r"\(0, 3, 5\)"),
        (frames_of(1, 0, 5), r"\(1, 0, 5\)"),
        (frames_of(1, 3, 5, dtype=torch.float32), "float32"),
        (frames_of(1, 3, 5, dtype=torch.int64), "int64"),
        (frames_of(1, 5, 3).transpose(1, 2), "not contiguous"),
        (frames_of(1, 1, 1).expand(70_000, 1, 1), "frames at once is 70000"),
        (frames_of(1, 3, 5).to("meta"), "put them on a GPU"),
    ],
)
@pytest.mark.parametrize("analyze", [wavelet.analyze2d, wavelet.analyze3d, wavelet.analyze_time])
def test_frames_that_no_kernel_reads_are_refused(analyze: Any, frames: Any, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        analyze(frames)


def test_frames_too_large_for_32_bit_places_are_refused() -> None:
    frames = torch.empty((1, 1 << 16, 1 << 15), dtype=torch.int16, device="meta")
    tile = Config({"ROWS": 2, "BLOCK": 64}, num_warps=1, num_stages=1)
    for analyze in (wavelet.analyze2d, wavelet.analyze3d, wavelet.analyze_time):
        with pytest.raises(EngineError, match="samples of a frame is 2147483648"):
            analyze(frames, tile=tile)


def bands_of(**others: Any) -> wavelet.Subbands:
    bands = wavelet.analyze2d(frames_of(1, 3, 5))
    return bands._replace(**others)


@pytest.mark.parametrize(
    ("bands", "message"),
    [
        (bands_of(ll=frames_of(1, 2, 3)), "ll is"),
        (bands_of(hl=frames_of(1, 2, 9, dtype=torch.int32)), "ll is|lh is"),
        (bands_of(hl=frames_of(2, 2, dtype=torch.int32)), "all have 3"),
        (bands_of(hh=frames_of(1, 1, 3, dtype=torch.int32)), "hh is"),
    ],
)
def test_subbands_that_do_not_fit_are_refused(bands: Any, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        wavelet.synthesize2d(bands)


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        (frames_of(3, 2, 2, dtype=torch.int32), frames_of(1, 2, 2), "no sequence"),
        (frames_of(2, 2, 2, dtype=torch.int32), frames_of(2, 2), "no sequence"),
        (frames_of(1, 2, 2, dtype=torch.int32), frames_of(1, 2, 2), "high is"),
        (frames_of(1, 2, 2), frames_of(1, 2, 2), "low is"),
    ],
)
def test_halves_that_are_no_sequence_are_refused(low: Any, high: Any, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        wavelet.synthesize_time(low, high)


@pytest.mark.parametrize("out", [frames_of(1, 3, 5, dtype=torch.float32), frames_of(1, 3, 6)])
def test_a_place_for_frames_that_does_not_fit_is_refused(out: Any) -> None:
    with pytest.raises(EngineError, match="out is"):
        wavelet.synthesize2d(bands_of(), out=out)
