"""What is unlikely in a heart is found, and nothing in a likely one."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_codec.runtime.segmentation_checks import (
    FEWEST_PHASES,
    JUMP,
    MISSING,
    OPEN_RING,
    check_exam,
    jumps,
    surrounded,
)

PHASES = 12


def ring(radius: float) -> NDArray[np.uint8]:
    y, x = np.mgrid[:40, :48]
    distance = np.hypot(y - 20, x - 28)
    beside = np.hypot(y - 20, x - 10) <= 0.7 * radius
    return np.select([distance <= radius, distance <= radius + 3, beside], [3, 2, 1]).astype(
        np.uint8
    )


@pytest.fixture
def exam() -> NDArray[np.uint8]:
    """Two slices of a beat."""
    radii = 8 + 2 * np.cos(2 * np.pi * np.arange(PHASES) / PHASES)
    return np.stack([[ring(radius), ring(radius - 1)] for radius in radii], axis=1)


def test_a_beating_ring_is_likely(exam: NDArray[np.uint8]) -> None:
    assert check_exam(exam) == []


def test_an_open_ring_is_found_with_its_place(exam: NDArray[np.uint8]) -> None:
    frame = exam[1, 4]
    frame[(frame == 2) & (np.arange(48) > 30)] = 0
    (finding,) = check_exam(exam)
    assert (finding.kind, finding.slice_index, finding.phase_index) == (OPEN_RING, 1, 4)
    assert 0.4 < finding.value < 0.8
    assert "slice 1, phase 4" in finding.text


def test_a_volume_that_jumps_is_found(exam: NDArray[np.uint8]) -> None:
    exam[:, 5] = exam[:, 0]
    findings = [finding for finding in check_exam(exam) if finding.phase_index == 5]
    assert {finding.kind for finding in findings} == {JUMP}
    assert any("LV" in finding.text for finding in findings)


def test_missing_classes_are_named(exam: NDArray[np.uint8]) -> None:
    exam[exam == 1] = 0
    (finding,) = check_exam(exam)
    assert (finding.kind, finding.text) == (MISSING, "no RV in any frame")
    assert len(check_exam(np.zeros_like(exam))) == 3


def test_the_outline_counts_sides_of_pixels() -> None:
    labels = np.zeros((5, 5), np.uint8)
    assert surrounded(labels) == 1.0
    labels[2, 2] = 3
    assert surrounded(labels) == 0.0
    labels[1, 2] = labels[3, 2] = labels[2, 1] = 2
    assert surrounded(labels) == 0.75


def test_jumps_are_distances_from_the_neighbors_mean_around_the_beat() -> None:
    volumes = np.full(FEWEST_PHASES, 100)
    volumes[0] = 80
    expected = np.zeros(FEWEST_PHASES)
    expected[[0, 1, -1]] = 0.2, 0.1, 0.1
    np.testing.assert_allclose(jumps(volumes), expected)
    assert not jumps(volumes[:-1]).any()
    assert not jumps(np.zeros(FEWEST_PHASES, np.int64)).any()
