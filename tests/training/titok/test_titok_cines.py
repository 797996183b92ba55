"""Cines come to the canvas with their hearts, facts and peaks, from shards and packs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from titok_training_samples import beating_hearts, write_hearts

from edge_codec.base.titok.canvas import canvas_of
from edge_codec.errors import SourceError
from edge_codec.training.shards.sample import ShardCine
from edge_codec.training.titok.cines import (
    Library,
    fit_sequence,
    fit_shard,
    open_cines,
)


def shard_cine(**changes: object) -> ShardCine:
    voxels = np.arange(5 * 30 * 20, dtype=np.int16).reshape(5, 30, 20)
    labels = np.zeros((2, 30, 20), np.uint8)
    labels[0, :15], labels[1, 15:] = 3, 1
    cine = ShardCine(
        key="patient009-s02", dataset="acdc", patient="patient009", slice_index=2, voxels=voxels,
        labels=labels, label_phases=(0, 2), window=(100.0, 2100.0), ed_phase=0, es_phase=2,
        group="DCM", height_cm=180.0, weight_kg=None, spacing_mm=(10.0, 1.5, 1.5),
        rescale=(1.0, 0.0), license="CC0",
    )  # fmt: skip
    return dataclasses.replace(cine, **changes)  # type: ignore[arg-type]


def test_a_shard_is_fitted_with_its_window_and_facts() -> None:
    cine = shard_cine()
    fitted = fit_shard(cine)
    codes = np.clip(np.floor((cine.voxels - 100.0) * 192 / 2000 + 0.5), 0, 255)
    expected = np.clip(np.rint(canvas_of(30, 20).fit(codes[3].astype(np.float32))), 0, 255)
    assert np.array_equal(fitted.codes[3], expected)
    assert fitted.facts.group == "DCM"
    assert (fitted.facts.height_cm, fitted.facts.weight_kg, fitted.facts.n_phases) == (180, 0, 5)
    assert fitted.peak == pytest.approx(2999 / 2000)
    assert np.array_equal(fitted.inside, canvas_of(30, 20).inside)


def test_each_phase_takes_the_labels_of_the_nearest_one() -> None:
    heart = fit_shard(shard_cine()).heart
    assert heart is not None
    above = [bool(phase[40, 64]) for phase in heart]
    # Phase 1 is as near to 0 as to 2; the cycle goes round, so that 4 is nearer to 0.
    assert above == [True, True, False, False, True]
    assert fit_shard(shard_cine(labels=None, label_phases=())).heart is None


def test_a_group_that_is_unknown_is_not_told() -> None:
    assert fit_shard(shard_cine(group="OTHER")).facts.group == ""
    assert fit_shard(shard_cine(group=None)).facts.group == ""


def test_a_pack_is_fitted_with_one_mask_for_all_phases() -> None:
    sequence = beating_hearts()[0]
    fitted = fit_sequence(sequence)
    assert fitted.codes.shape == (6, 128, 128)
    assert fitted.heart is not None
    assert fitted.heart[0].any()
    assert np.array_equal(fitted.heart[0], fitted.heart[5])
    assert fitted.peak == sequence.peak / sequence.width
    assert fit_sequence(dataclasses.replace(sequence, heart=sequence.heart & False)).heart is None


def test_held_out_patients_are_kept_apart(tmp_path: Path) -> None:
    training, held_out = open_cines([write_hearts(tmp_path)], ["patient014", "patient099"])
    assert [training[k].patient for k in range(len(training))] == ["patient001", "patient002"]
    assert [held_out[k].patient for k in range(len(held_out))] == ["patient014"]
    both, _ = open_cines([tmp_path / "pack.zip", tmp_path / "pack.zip"], ["patient014"])
    assert len(both) == 4
    with pytest.raises(SourceError, match="nothing to train on"):
        open_cines([tmp_path / "pack.zip"], [one.case for one in beating_hearts()])
    with pytest.raises(SourceError):
        open_cines([tmp_path / "absent.zip"], [])


def test_a_cine_is_read_once() -> None:
    calls = []

    def read() -> object:
        calls.append(1)
        return fit_sequence(beating_hearts()[0])

    library = Library([read])  # type: ignore[list-item]
    assert library[0] is library[0]
    assert len(calls) == 1
