"""Whether a segmentation can be that of a heart: what to look at before its volumes are believed.

A check that finds nothing proves nothing; what one finds is a reason to look. Of 1,575 frames with
an LV that experts labeled, none is below the limit of its ring; of eight exams that the network
segmented, no volume jumps by more than a tenth.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_codec.runtime.segmenter import LV, MYOCARDIUM, RV

OPEN_RING = "open ring"
JUMP = "jump"
MISSING = "missing"

LEAST_SURROUNDED = 0.8
"""Part of the LV's outline that borders on myocardium."""

LARGEST_JUMP = 0.15
"""Of a cavity's volume against the mean of the phases before and after, over its largest volume."""

FEWEST_PHASES = 8
"""Of an exam whose volumes are looked at: with fewer, a heart beats between two of them."""

NAMES = {RV: "RV", MYOCARDIUM: "myocardium", LV: "LV"}


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is unlikely in a heart.

    Attributes
    ----------
    kind : str
        `OPEN_RING`, `JUMP` or `MISSING`.
    slice_index : int or None
        None where it is about all slices together.
    phase_index : int or None
        None where it is about all phases together.
    value : float
        What was measured: part of the outline, part of the volume, or 0 for what is missing.
    text : str
        One sentence for people.
    """

    kind: str
    slice_index: int | None
    phase_index: int | None
    value: float
    text: str


def check_exam(labels: NDArray[np.uint8]) -> list[Finding]:
    """Look for what is unlikely in the labels of an exam.

    Parameters
    ----------
    labels : ndarray, shape (slices, phases, rows, columns), uint8
        0 background, 1 RV, 2 myocardium, 3 LV.

    Returns
    -------
    list of Finding
        Classes that are nowhere; frames whose myocardium does not surround the LV; phases at which
        a cavity's volume jumps.
    """
    return [*_missing(labels), *_open_rings(labels), *_jumps(labels)]


def _missing(labels: NDArray[np.uint8]) -> Iterator[Finding]:
    for label, name in NAMES.items():
        if not (labels == label).any():
            yield Finding(MISSING, None, None, 0.0, f"no {name} in any frame")


def _open_rings(labels: NDArray[np.uint8]) -> Iterator[Finding]:
    for place in np.ndindex(labels.shape[:2]):
        share = surrounded(labels[place])
        if share < LEAST_SURROUNDED:
            text = (
                f"slice {place[0]}, phase {place[1]}: myocardium borders on {share:.0%} of the "
                f"LV's outline, expected {LEAST_SURROUNDED:.0%} or more"
            )
            yield Finding(OPEN_RING, place[0], place[1], share, text)


def _jumps(labels: NDArray[np.uint8]) -> Iterator[Finding]:
    for label in (RV, LV):
        for phase, jump in enumerate(jumps((labels == label).sum(axis=(0, 2, 3)))):
            if jump > LARGEST_JUMP:
                text = (
                    f"phase {phase}: the {NAMES[label]}'s volume is {jump:.0%} of its largest away "
                    f"from its neighbors' mean, expected at most {LARGEST_JUMP:.0%}"
                )
                yield Finding(JUMP, None, phase, float(jump), text)


def surrounded(labels: NDArray[np.uint8]) -> float:
    """Return the part of the LV's outline that borders on myocardium.

    Parameters
    ----------
    labels : ndarray, shape (rows, columns), uint8

    Returns
    -------
    float
        Over all pairs of an LV pixel and a neighbor that is none; 1 without an LV. What lies at the
        frame's edge has no neighbor there.
    """
    lv, myocardium = labels == LV, labels == MYOCARDIUM
    outline = wall = 0
    for here, there in (
        (np.s_[1:], np.s_[:-1]),
        (np.s_[:-1], np.s_[1:]),
        (np.s_[:, 1:], np.s_[:, :-1]),
        (np.s_[:, :-1], np.s_[:, 1:]),
    ):
        outline += int((lv[here] & ~lv[there]).sum())
        wall += int((lv[here] & myocardium[there]).sum())
    return wall / outline if outline else 1.0


def jumps(volumes: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return how far each phase's volume is from the mean of its neighbors', over the largest.

    Parameters
    ----------
    volumes : ndarray, shape (phases,)
        Of a cavity over one beat, whose last phase is followed by its first.

    Returns
    -------
    ndarray, shape (phases,), float64
        Zeros for fewer than `FEWEST_PHASES` phases, and for a cavity that is nowhere.
    """
    values = np.asarray(volumes, np.float64)
    if len(values) < FEWEST_PHASES or not values.any():
        return np.zeros(len(values))
    neighbors = (np.roll(values, 1) + np.roll(values, -1)) / 2
    distances: NDArray[np.float64] = np.abs(values - neighbors) / values.max()
    return distances
