"""What the tokens up to a frame say of it, place by place.

Only a key frame is told by its own tokens. Those of any later frame say what the decoded frame
before left open, in other words at every step, so neither one frame's codes nor a sum of them
describes a picture. The listener keeps 12 numbers for each of the 32 places that the latents start
from, and brings them up to date with each frame's codes by one small matrix: known after = (known
before, code, 1) times the matrix of that age, its number of frames since the key frame. The
matrices are fitted so that the numbers tell the 12 principal components of a place's coarse
picture (`edge_codec.training.listening`). No pixel is decoded and no network runs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_codec.errors import EngineError
from edge_codec.retrieval.exam_tokens import CODES, TOKENS, ExamTokens

CODE_DIM = 12
KNOWN = 12
"""Numbers that are known of a place."""
AGES = 12
"""Matrices; frames that are older use the last."""
WIDTH = TOKENS * KNOWN

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Listener:
    """Follows the tokens of an exam.

    Attributes
    ----------
    codebook : ndarray, shape (4096, 12), float32
    steps : ndarray, shape (AGES, KNOWN + CODE_DIM + 1, KNOWN), float32

    Raises
    ------
    EngineError
        If a shape is wrong.
    """

    codebook: Floats
    steps: Floats

    def __post_init__(self) -> None:
        """Refuse what does not fit."""
        shapes = self.codebook.shape, self.steps.shape
        expected = (CODES, CODE_DIM), (AGES, KNOWN + CODE_DIM + 1, KNOWN)
        if shapes != expected:
            raise EngineError(f"codebook and steps are {shapes}, expected {expected}; reinstall")

    def listen(self, exam: ExamTokens) -> Floats:
        """Return what is known of each place of each frame.

        Returns
        -------
        ndarray, shape (slices, phases, 32, KNOWN), float32
        """
        codes = self.codebook[exam.tokens]
        known = np.empty((*exam.tokens.shape, KNOWN), np.float32)
        now = np.zeros((exam.n_slices, TOKENS, KNOWN), np.float32)
        age = np.zeros(exam.n_slices, np.int64)
        for phase in range(exam.n_phases):
            key = exam.keys[:, phase]
            age = np.where(key, 0, age + 1)
            now = follow(now * ~key[:, None, None], codes[:, phase], self._step(age))
            known[:, phase] = now
        return known

    def _step(self, age: NDArray[np.int64]) -> Floats:
        """Return the matrices of ages, one for each slice."""
        matrices: Floats = self.steps[np.minimum(age, AGES - 1)]
        return matrices


def follow(known: Floats, codes: Floats, step: Floats) -> Floats:
    """Bring what is known up to date.

    Parameters
    ----------
    known : ndarray, shape (n, 32, KNOWN), float32
    codes : ndarray, shape (n, 32, 12), float32
    step : ndarray, shape (n, KNOWN + CODE_DIM + 1, KNOWN) or without n, float32

    Returns
    -------
    ndarray, shape (n, 32, KNOWN), float32
    """
    return facts_of(known, codes) @ step


def facts_of(known: Floats, codes: Floats) -> Floats:
    """Put what is known, the codes and a 1 side by side: (n, 32, KNOWN + CODE_DIM + 1)."""
    ones = np.ones((*known.shape[:-1], 1), np.float32)
    facts: Floats = np.concatenate([known, codes, ones], axis=-1)
    return facts
