"""Tables of groups are fitted to what is common to them, and know it again."""

from __future__ import annotations

import numpy as np
import pytest

from edge_codec.base.titok.conditions import ClinicalFacts
from edge_codec.base.titok.groups.data import GroupData
from edge_codec.base.titok.groups.gathering import Gatherer
from edge_codec.base.titok.groups.tables import GroupTables
from edge_codec.base.titok.groups.waves import CYCLE_WAVES
from edge_codec.errors import SpecError
from edge_codec.spec import CineInfo, ModelId, StreamSpec, TokensPer
from edge_codec.training.titok.cines import FittedCine, Library
from edge_codec.training.titok.groups import (
    FitOptions,
    Groups,
    cine_groups,
    exam_groups,
    fit_tables,
    judge,
    nearest,
)

SIDE = 16
FIT = FitOptions(dim=6, copies=2, iterations=2)


def discs(count: int, seed: int) -> np.ndarray:
    """Images of a bright disc that beats, at other places in each."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]
    images = np.zeros((count, CYCLE_WAVES, SIDE, SIDE), np.float32)
    for image in images:
        top, left, radius = [*rng.uniform(5, 11, 2).tolist(), rng.uniform(2, 5)]
        disc = 1 / (1 + np.exp(np.hypot(y - top, x - left) - radius))
        image[0], image[1] = 0.2 + 0.6 * disc, 0.3 * disc * (1 - disc)
    return images


@pytest.fixture(scope="module")
def tables() -> GroupTables:
    return fit_tables(discs(80, 0), FIT)


def test_what_is_new_is_known_by_what_was_fitted(tables):
    others = discs(4, 1)
    assert tables.codes.shape == (4096, 6)
    assert tables.paint.shape == (9, 6, 3, 2, 4)
    weights = np.ones_like(others)
    found = judge(tables, Groups(others, weights))
    nothing = float(((others - tables.mean) ** 2).sum() / weights[:, 0].sum())
    assert found["error"] < 0.15 * nothing
    assert 0.3 < found["motion"] < 1.2


def test_the_same_groups_give_the_same_tables(tables):
    again = fit_tables(discs(80, 0), FIT)
    assert np.array_equal(again.codes, tables.codes)
    assert np.array_equal(again.paint, tables.paint)


def test_too_few_groups_are_refused():
    with pytest.raises(SpecError, match="fewer stretches than the 4096 codes"):
        fit_tables(discs(2, 0), FIT)


def test_the_nearest_code_is_the_nearest():
    rng = np.random.default_rng(0)
    rows, codes = rng.normal(size=(50, 3)), rng.normal(size=(40, 3))
    distances = ((rows[:, None] - codes[None]) ** 2).sum(axis=2)
    found = nearest(rows.astype(np.float32), codes.astype(np.float32))
    assert np.array_equal(found, distances.argmin(axis=1))


def test_cines_of_a_patient_become_one_exam():
    cines = Groups(discs(5, 0), np.ones((5, CYCLE_WAVES, SIDE, SIDE), np.float32))
    exams = exam_groups(cines, ["a", "b", "a", "a", "b"])
    assert exams.images.shape == (2, 12, SIDE, SIDE)
    assert np.allclose(exams.images[0, :3], cines.images[[0, 2, 3]].mean(axis=0), atol=1e-6)
    assert exams.weights[0, :, 0, 0].tolist() == [1] * 9 + [0] * 3
    assert exams.weights[1, :, 0, 0].tolist() == [1] * 6 + [0] * 6


@pytest.mark.parametrize("phases", [2, 7])
def test_training_sees_what_the_encoder_gathers(phases):
    """Of three slices of one patient, whose frames are as large as the canvas."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, (3, phases, 128, 128)).astype(np.uint8)
    inside = np.ones((128, 128), np.float32)
    cines = [FittedCine("a", each, None, inside, ClinicalFacts(), 1.0) for each in codes]
    library = Library([lambda cine=cine: cine for cine in cines])
    fitted, patients = cine_groups(library, SIDE)
    exams = exam_groups(fitted, patients)
    for per, groups in ((TokensPer.CINE, fitted), (TokensPer.EXAM, exams)):
        tokens = np.zeros((len(groups.images), 32), np.uint16)
        spec = StreamSpec(
            CineInfo(3, phases, 128, 128, np.dtype(np.uint8)), 0, 255, ModelId.TITOK_GROUPS,
            max_error=None, window_high=192, model_data=GroupData(per, phases, tokens).pack(),
        )  # fmt: skip
        gatherer = Gatherer(spec, per, SIDE)
        for place, cine in enumerate(codes):
            for phase, frame in enumerate(cine):
                gatherer.add(frame.astype(np.uint32), place, phase)
        assert np.allclose(gatherer.images(), groups.images, atol=1e-5)
        assert np.array_equal(gatherer.weight(), groups.weights[0])
