"""Fitting of the listener: matrices that turn codes into what a place looks like.

A place's coarse picture, 4 by 8 means of 4x4 pixels, is brought to its 12 principal components of
variance 1. Age by age the matrix is fitted that tells these components best from what the matrices
before it had told and from the codes of the frame, by least squares over all places.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_codec.errors import TrainingError
from edge_codec.retrieval.listener import AGES, CODE_DIM, KNOWN, facts_of, follow

RIDGE = 1e-3

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """A key frame and those that follow it, in one slice.

    Attributes
    ----------
    codes : ndarray, shape (frames, 32, 12), float32
    truth : ndarray, shape (frames, 32, KNOWN), float32
        Components of the places' pictures.
    """

    codes: Floats
    truth: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Basis:
    """Principal components of places' pictures.

    Attributes
    ----------
    mean : ndarray, shape (32,), float32
    axes : ndarray, shape (32, KNOWN), float32
        Pictures less the mean, times these, have variance 1.
    """

    mean: Floats
    axes: Floats

    def components(self, pictures: NDArray[np.uint8]) -> Floats:
        """Turn pictures (..., 32) into components (..., KNOWN)."""
        return np.asarray((pictures - self.mean) @ self.axes, np.float32)


def fit_basis(pictures: Iterable[NDArray[np.uint8]]) -> Basis:
    """Find the components of pictures, (..., 32) each."""
    rows = np.concatenate([part.reshape(-1, part.shape[-1]) for part in pictures])
    mean = rows.mean(axis=0, dtype=np.float64)
    apart = rows.astype(np.float32) - mean.astype(np.float32)
    variances, directions = np.linalg.eigh(apart.T.astype(np.float64) @ apart / len(apart))
    best = directions[:, ::-1][:, :KNOWN] / np.sqrt(np.maximum(variances[::-1][:KNOWN], 1e-6))
    # The sign of an axis means nothing; its largest number is made positive.
    best *= np.sign(best[np.abs(best).argmax(axis=0), np.arange(KNOWN)])
    return Basis(mean.astype(np.float32), best.astype(np.float32))


def groups_of(codes: Floats, truth: Floats, keys: NDArray[np.bool_]) -> list[Group]:
    """Cut an exam's slices at their key frames.

    Parameters
    ----------
    codes : ndarray, shape (slices, phases, 32, 12), float32
    truth : ndarray, shape (slices, phases, 32, KNOWN), float32
    keys : ndarray, shape (slices, phases), bool
    """
    found = []
    for index, key in enumerate(keys):
        cuts = np.flatnonzero(key)[1:]
        parts = zip(np.split(codes[index], cuts), np.split(truth[index], cuts), strict=True)
        found += [Group(*part) for part in parts]
    return found


def fit_steps(groups: Sequence[Group]) -> Floats:
    """Fit the matrices.

    Returns
    -------
    ndarray, shape (AGES, KNOWN + CODE_DIM + 1, KNOWN), float32

    Raises
    ------
    TrainingError
        If there is no group.
    """
    if not groups:
        raise TrainingError("no frames to fit the listener on; use more exams")
    steps = np.zeros((AGES, KNOWN + CODE_DIM + 1, KNOWN), np.float32)
    known = [np.zeros_like(group.truth[:1]) for group in groups]
    for age in range(AGES):
        there = [number for number, group in enumerate(groups) if len(group.codes) > age]
        if not there:
            steps[age:] = steps[age - 1]
            break
        now = [groups[number].codes[age : age + 1] for number in there]
        facts = np.concatenate([facts_of(known[n], c) for n, c in zip(there, now, strict=True)])
        truth = np.concatenate([groups[number].truth[age : age + 1] for number in there])
        steps[age] = _least_squares(
            facts.reshape(-1, facts.shape[-1]), truth.reshape(-1, truth.shape[-1])
        )
        for number, codes in zip(there, now, strict=True):
            known[number] = follow(known[number], codes, steps[age])
    return steps


def _least_squares(facts: Floats, truth: Floats) -> Floats:
    rows = facts.astype(np.float64)
    square = rows.T @ rows / len(rows) + RIDGE * np.eye(rows.shape[1])
    best: Floats = np.linalg.solve(square, rows.T @ truth / len(rows)).astype(np.float32)
    return best
