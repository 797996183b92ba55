"""Packed sequences come back exactly, fill their room, and hold training cases alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
nibabel = pytest.importorskip("nibabel")

from edge_codec.errors import SourceError  # noqa: E402
from edge_codec.training import pack  # noqa: E402
from edge_codec.training.pack import choose, read_pack, sequences_of, write_pack  # noqa: E402


def exam(case: str, group: str = "acdc", slices: int = 3) -> list[pack.CineSequence]:
    rng = np.random.default_rng(len(case))
    voxels = rng.integers(-20, 4000, (slices, 4, 17, 12))
    heart = rng.random((slices, 17, 12)) < 0.3
    return sequences_of(voxels, case, group, heart)


def test_sequences_come_back_exactly(tmp_path: Path) -> None:
    before = exam("patient001")
    write_pack(before, tmp_path / "pack.zip")
    after = read_pack(tmp_path / "pack.zip")
    assert len(after) == len(before)
    for one, other in zip(before, after, strict=True):
        assert np.array_equal(one.voxels, other.voxels)
        assert np.array_equal(one.heart, other.heart)
        assert [getattr(one, name) for name in pack.FIELDS] == [
            getattr(other, name) for name in pack.FIELDS
        ]


def test_units_are_those_of_the_window() -> None:
    voxels = np.arange(2000).reshape(1, 2, 25, 40) - 10
    sequence = sequences_of(voxels, "case", "acdc")[0]
    assert (sequence.low, sequence.peak) == (-10, 1989)
    assert sequence.units().min() == 0.0
    assert np.percentile(sequence.units(), 99.9) == pytest.approx(1.0, abs=1e-3)
    assert not sequence.heart.any()


def test_choice_fills_each_share_with_the_first_slices_first() -> None:
    exams = [exam("patient001"), exam("patient002"), exam("SCD1", "sunnybrook")]
    size = sum(len(part) for part in pack._compress(exams[0][0]))
    chosen = list(choose(exams, round(8 * size), {"acdc": 0.4, "sunnybrook": 0.2}))
    assert [(one.case, one.slice_index) for one in chosen] == [
        ("patient001", 0),
        ("patient002", 0),
        ("SCD1", 0),
        ("patient001", 1),
    ]


def test_command_packs_training_cases_with_their_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    for case in ("patient001", "patient015"):
        folder = tmp_path / "acdc" / case
        folder.mkdir(parents=True)
        voxels = rng.integers(0, 300, (12, 17, 2, 3)).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), folder / f"{case}_4d.nii.gz")
        labels = np.zeros((12, 17, 2), np.uint8)
        labels[3, 5, 1] = 2
        gt = nibabel.Nifti1Image(labels, np.eye(4))
        nibabel.save(gt, folder / f"{case}_frame01_gt.nii.gz")
    split = {"train": ["patient001"], "test": ["patient015"]}
    (tmp_path / "splits.json").write_text(json.dumps(split))
    out = tmp_path / "pack.zip"
    arguments = ["--data", str(tmp_path), "--splits", str(tmp_path / "splits.json")]
    pack.main([*arguments, "--out", str(out)])
    assert "2 sequences" in capsys.readouterr().out
    found = {one.slice_index: one for one in read_pack(out)}
    assert {one.case for one in found.values()} == {"patient001"}
    assert found[1].voxels.shape == (3, 17, 12)
    assert found[1].heart[5, 3]
    assert int(found[0].heart.sum()) + int(found[1].heart.sum()) == 1


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x05\x06" + bytes(18)])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "pack.zip"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"edge_codec\.training\.pack"):
        read_pack(path)


def test_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pack.zip"
    write_pack(exam("patient001"), path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(SourceError):
        read_pack(path)
