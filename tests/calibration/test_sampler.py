"""The stratified sample: even shares, the same frames again, and what is refused."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from edge_codec.calibration.sampler import Stratum, draw
from edge_codec.calibration.sources import find_sources
from edge_codec.errors import CalibrationError, SourceError

EXAMPLES = Path(__file__).parents[2] / "examples"
TINY = EXAMPLES / "tiny.nii.gz"


def save(path: Path, slices: int, phases: int, seed: int = 0, size: int = 12) -> Path:
    """An exam whose voxels say which frame they are of."""
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, rng.integers(0, 900, (slices, phases, size, size)).astype(np.int16))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for case in range(4):
        save(tmp_path / "one" / f"p{case}" / f"p{case}_4d.npy", 6, 9, case)
        save(tmp_path / "one" / f"p{case}" / f"p{case}_4d_gt.npy", 6, 9, case)
    save(tmp_path / "two" / "q_4d.npy", 3, 3, 9)
    save(tmp_path / "two" / "single.npy", 1, 1, 9)
    return tmp_path


def test_every_stratum_gives_the_same_number(folder: Path) -> None:
    sample = draw(folder, 36, pattern="*_4d.npy")
    counts = sample.strata()
    assert len(counts) == 18
    assert {stratum.group for stratum in counts} == {"one", "two"}
    thirds = {(stratum.position, stratum.phase) for stratum in counts}
    assert len(thirds) == 9
    # Data set two has one frame for each; the rest comes from data set one.
    assert [n for stratum, n in counts.items() if stratum.group == "two"] == [1] * 9
    assert [n for stratum, n in counts.items() if stratum.group == "one"] == [3] * 9
    assert sample.left == 4 * 54 + 9 - 36


def test_strata_are_thirds_of_slices_and_phases(folder: Path) -> None:
    for frame in draw(folder, 60, pattern="p*_4d.npy").frames:
        assert frame.stratum.position == ("base", "mid", "apex")[frame.place.slice_index // 2]
        assert frame.stratum.phase == ("early", "middle", "late")[frame.place.phase_index // 3]


def test_frames_come_from_all_exams(folder: Path) -> None:
    sample = draw(folder, 36, pattern="p*_4d.npy")
    exams = Counter(frame.place.file for frame in sample.frames)
    assert set(exams.values()) == {9}
    assert len(sample.places()) == 36


def test_seed_and_folder_decide_the_sample(folder: Path, tmp_path: Path) -> None:
    first, again = draw(folder, 20), draw(folder, 20)
    assert first.sha256 == again.sha256
    assert first.places() == again.places()
    assert draw(folder, 20, seed=1).sha256 != first.sha256
    copy = tmp_path / "elsewhere"
    shutil.copytree(folder / "one", copy / "one")
    shutil.copytree(folder / "two", copy / "two")
    assert draw(copy, 20).sha256 == first.sha256


def test_the_hash_is_of_the_window_codes(folder: Path) -> None:
    path = next(folder.glob("one/p0/*_4d.npy"))
    before = draw(path, 54)
    voxels = np.load(path)
    np.save(path, voxels + 1000)  # another offset gives the same codes
    assert draw(path, 54).sha256 == before.sha256
    voxels[0, 0, 0, 0] += 100
    np.save(path, voxels)
    assert draw(path, 54).sha256 != before.sha256


def test_codes_are_the_codec_s_window(folder: Path) -> None:
    frame = draw(folder, 20).frames[0]
    assert np.array_equal(frame.window.normalize(frame.samples), frame.codes)
    voxels = np.load(folder / frame.place.file)
    index = frame.place[1:]
    assert np.array_equal(frame.samples, voxels[index] - voxels.min())
    assert frame.peak == voxels.max()


def test_excluded_frames_are_not_drawn(folder: Path) -> None:
    first = draw(folder, 30)
    second = draw(folder, 30, seed=5, exclude=first.places())
    assert not first.places() & second.places()
    rest = draw(folder, exclude=first.places() | second.places())
    assert len(rest.frames) == 48
    everything = draw(folder, first.left + 30).places()
    with pytest.raises(CalibrationError, match="no frame left"):
        draw(folder, exclude=everything)


def test_a_single_file_is_enough() -> None:
    sample = draw(TINY)
    assert sample.strata() == {
        Stratum("tiny", "any", phase): 2 for phase in ("early", "late", "middle")
    }
    assert sample.left == 0


def test_dicom_tells_vendor_and_field_strength() -> None:
    groups = {stratum.group for stratum in draw(EXAMPLES / "dicom_tiny").strata()}
    assert groups == {"dicom_tiny GE MEDICAL SYSTEMS 1.5 T"}


def test_label_maps_are_not_sources(folder: Path) -> None:
    names = {path.name for path in find_sources(folder)}
    assert "p0_4d.npy" in names
    assert not any("_gt" in name for name in names)


def test_too_few_frames_are_refused(folder: Path) -> None:
    with pytest.raises(CalibrationError, match="17 frames cannot represent 18 strata"):
        draw(folder, 17, pattern="*_4d.npy")
    with pytest.raises(CalibrationError, match="has 6 frames to draw from, 7 are wanted"):
        draw(TINY, 7)


def test_nothing_to_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="holds no"):
        draw(tmp_path)
    with pytest.raises(SourceError, match="does not exist"):
        draw(tmp_path / "nowhere")


def test_a_damaged_file_among_others_is_left_out_and_said(folder: Path, caplog) -> None:
    (folder / "two" / "broken.npy").write_bytes(b"\x93NUMPY damaged")
    sample = draw(folder, 20)
    assert list(sample.skipped) == ["two/broken.npy"]
    assert "1 files cannot be read" in caplog.text
    with pytest.raises(SourceError):
        draw(folder / "two" / "broken.npy")


def test_a_label_map_of_another_name_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "labels.npy", np.tile(np.arange(4, dtype=np.uint8), (3, 3, 8, 2)))
    with pytest.raises(CalibrationError, match="a label map or an empty exam"):
        draw(tmp_path)


def test_float_voxels_without_integers_are_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "float.npy", rng.normal(0, 1, (3, 3, 8, 8)).astype(np.float32))
    with pytest.raises(CalibrationError, match="float voxels"):
        draw(tmp_path)
