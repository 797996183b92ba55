"""The segmenter on stub networks, and the shipped one on the example exam."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_codec.cine import Cine
from edge_codec.errors import EngineError, FrameError
from edge_codec.io import open_source
from edge_codec.manifest import ZOO, load_manifest
from edge_codec.runtime.ort_backend import OrtEngine
from edge_codec.runtime.segmentation_checks import check_exam
from edge_codec.runtime.segmenter import (
    MODEL,
    NETWORK,
    Segmenter,
    clean,
    exam_window,
    load_segmenter,
    window_codes,
)
from edge_codec.spec import CineInfo, StreamSpec
from edge_codec.window import Window, pad

EXAMPLE = Path(__file__).parents[2] / "examples" / "sunnybrook_scd0000301_slice.nii.gz"


class ThresholdEngine:
    """LV where codes are above 150, myocardium above 100, RV above 50; sides are checked."""

    name = "stub"

    def run(self, tensor: NDArray[Any]) -> NDArray[Any]:
        assert tensor.dtype == np.uint8
        assert tensor.shape[2] % 16 == tensor.shape[3] % 16 == 0
        codes = tensor[0, 0].astype(np.float32)
        classes = np.digitize(codes, [50.5, 100.5, 150.5])
        return np.float32(9 * (classes == np.arange(4)[:, None, None]))[None]


@pytest.fixture(scope="module")
def example() -> NDArray[Any]:
    return Cine.from_source(open_source(EXAMPLE)).voxels


@pytest.fixture(scope="module")
def shipped() -> Segmenter:
    return load_segmenter(threads=1)


@pytest.fixture(scope="module")
def labels(example: NDArray[Any], shipped: Segmenter) -> NDArray[np.uint8]:
    return shipped.exam(example[:, ::4])


def test_the_example_has_a_beating_heart_that_nothing_is_wrong_with(
    labels: NDArray[np.uint8],
) -> None:
    assert labels.shape == (2, 5, 256, 256)
    assert check_exam(labels) == []
    areas = np.stack([(labels == label).sum(axis=(2, 3)) for label in (1, 2, 3)])
    assert (areas[2].max(axis=1) < 2200).all()
    assert (areas[2].min(axis=1) > 1200).all()
    # Phase 0 is end-diastole, phase 8 near end-systole: the cavities shrink and the wall stays.
    assert (areas[2][:, 2] < 0.95 * areas[2][:, 0]).all()
    assert (areas[0][:, 2] < 0.6 * areas[0][:, 0]).all()
    assert (abs(areas[1][:, 2] / areas[1][:, 0] - 1) < 0.3).all()


def test_a_frame_of_the_example(
    example: NDArray[Any], shipped: Segmenter, labels: NDArray[np.uint8]
) -> None:
    found = shipped.frame(example[0, 0], exam_window(example[:, ::4]))
    np.testing.assert_array_equal(found.labels, labels[0, 0])
    assert found.probabilities.dtype == np.float32
    np.testing.assert_allclose(found.probabilities.sum(axis=0), 1, atol=1e-5)
    heart = found.labels > 0
    likeliest = found.probabilities.argmax(axis=0)
    np.testing.assert_array_equal(found.labels[heart], likeliest[heart])
    assert found.confidence == pytest.approx(found.probabilities.max(axis=0)[heart].mean())
    assert found.confidence > 0.9


def test_cropping_and_a_gain_move_few_labels(
    example: NDArray[Any], shipped: Segmenter, labels: NDArray[np.uint8]
) -> None:
    window = exam_window(example[:, ::4])
    cut = np.s_[60:187, 55:181]
    brighter = shipped.frame(example[0, 0][cut] * 3.0 + 10, tuple(3 * x + 10 for x in window))
    assert brighter.labels.shape == (127, 126)
    assert (brighter.labels != labels[0, 0][cut]).mean() < 0.01


def test_the_shipped_network_is_exact_however_it_is_run(example: NDArray[Any]) -> None:
    network = load_manifest(MODEL).read(NETWORK)
    codes = pad(window_codes(example[1, 3][40:230, 30:220], exam_window(example)), 16)
    plain = OrtEngine(network, threads=1, optimize=False).run(codes[None, None])
    assert plain.any()
    for threads in (1, 2):
        np.testing.assert_array_equal(OrtEngine(network, threads).run(codes[None, None]), plain)


def test_openvino_says_the_same_of_nearly_all_pixels(example: NDArray[Any]) -> None:
    pytest.importorskip("openvino")
    from edge_codec.runtime.openvino_backend import OpenVinoEngine

    network = load_manifest(MODEL).read(NETWORK)
    codes = window_codes(example[0, 0], exam_window(example))[None, None]
    ours = OrtEngine(network, threads=1).run(codes).argmax(axis=1)
    theirs = OpenVinoEngine(network, threads=1).run(codes).argmax(axis=1)
    assert (ours != theirs).mean() < 0.002


@pytest.mark.parametrize("shape", [(1, 1), (16, 32), (33, 47)])
def test_labels_are_in_their_place_at_any_size(shape: tuple[int, int]) -> None:
    samples = np.zeros(shape, np.int16)
    samples[-1, -1] = 1000
    found = Segmenter(ThresholdEngine()).frame(samples, (0, 1000))
    expected = np.zeros(shape)
    expected[-1, -1] = 3
    np.testing.assert_array_equal(found.labels, expected)
    assert found.probabilities.shape == (4, *shape)


def test_without_a_heart_there_is_no_confidence() -> None:
    found = Segmenter(ThresholdEngine()).frame(np.zeros((20, 20)), (0, 100))
    assert not found.labels.any()
    assert found.confidence == 0.0


def test_an_exam_is_cleaned_over_slices_and_phases_and_tells_its_progress() -> None:
    voxels = np.zeros((2, 3, 24, 24), np.int16)
    voxels[:, :, 4:9, 4:9] = 1000
    voxels[1, 2, 4:9, 4:9] = 0
    voxels[1, 2, 5, 5] = 1000  # hangs together with slice 0 and phase 1
    voxels[1, 2, 20:23, 20:23] = 1000  # larger in its frame, but apart
    seen = []

    def progress(items: Any, total: int | None, what: str) -> Any:
        seen.append((total, what))
        return items

    found = Segmenter(ThresholdEngine()).exam(voxels, progress)
    assert seen == [(6, "segment")]
    assert found.dtype == np.uint8
    expected = np.where(voxels > 0, 3, 0)
    expected[1, 2, 20:23, 20:23] = 0
    np.testing.assert_array_equal(found, expected)


def test_cleaning_keeps_pieces_of_the_wall_and_one_piece_of_a_cavity() -> None:
    labels = np.zeros((9, 12), np.uint8)
    labels[1:4, 1:9] = 2  # the wall, cut in two by a cavity
    labels[1:4, 4] = 3
    labels[2, 7] = 3  # a second cavity, smaller
    labels[7, 10] = 1  # apart
    expected = labels.copy()
    expected[2, 7] = expected[7, 10] = 0
    before = labels.copy()
    np.testing.assert_array_equal(clean(labels), expected)
    np.testing.assert_array_equal(labels, before)
    assert not clean(np.zeros((4, 4), np.uint8)).any()


def test_codes_are_those_of_the_codecs_window() -> None:
    rng = np.random.default_rng(0)
    samples = rng.integers(-300, 4000, (40, 50)).astype(np.int16)
    info = CineInfo(1, 1, 40, 50, dtype=samples.dtype)
    spec = StreamSpec(info, low=-300, high=4000, window_low=-17, window_high=1203)
    expected = Window(spec).normalize((samples.astype(np.int64) + 300).astype(np.uint32))
    np.testing.assert_array_equal(window_codes(samples, (-17, 1203)), expected)


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_the_window_is_that_of_the_lower_percentiles(dtype: type) -> None:
    values = np.arange(2001).astype(dtype)
    assert exam_window(values.reshape(3, 667)) == (2.0, 1998.0)


def test_a_window_without_width_gives_codes_all_the_same() -> None:
    assert not window_codes(np.full((2, 2), 7), (7, 7)).any()


@pytest.mark.parametrize(
    ("samples", "window", "problem"),
    [
        (np.zeros((2, 3, 4)), (0, 1), r"shape \(2, 3, 4\)"),
        (np.zeros((0, 4)), (0, 1), r"shape \(0, 4\)"),
        (np.zeros((3, 4)), (2, 1), "from 2.0 to 1.0"),
        (np.zeros((3, 4)), (0, float("inf")), "from 0.0 to inf"),
        (np.array([[0.0, np.nan]]), (0, 1), "1 samples are infinite or not a number"),
        (np.array([[np.inf, -np.inf]]), (0, 1), "2 samples are infinite or not a number"),
        (np.zeros((3, 4), complex), (0, 1), "samples of complex128"),
    ],
)
def test_what_is_no_frame_or_window_is_refused(
    samples: NDArray[Any], window: tuple[float, float], problem: str
) -> None:
    with pytest.raises(FrameError, match=problem):
        Segmenter(ThresholdEngine()).frame(samples, window)


def test_what_is_no_exam_is_refused() -> None:
    with pytest.raises(FrameError, match="no exam"):
        Segmenter(ThresholdEngine()).exam(np.zeros((3, 4, 5)))
    exam = np.ones((1, 2, 3, 4))
    exam[0, 1, 2, 3] = np.inf  # no percentile of so few
    with pytest.raises(FrameError, match="1 samples are infinite"):
        Segmenter(ThresholdEngine()).exam(exam)


def test_an_altered_network_is_refused(tmp_path: Path) -> None:
    shutil.copytree(ZOO / MODEL, tmp_path / MODEL)
    network = tmp_path / MODEL / NETWORK
    network.write_bytes(network.read_bytes()[:-1] + b"x")
    with pytest.raises(EngineError, match="altered"):
        load_manifest(MODEL, tmp_path).read(NETWORK)
