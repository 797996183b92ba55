"""Short descriptors of frames and slices, whose cosine says how alike they are.

Both are linear: what is known of a frame (`listener`), or the mean of that over the phases of a
slice, less a mean, times axes that were chosen so that the same heart described by other streams
(coded from another phase on, shifted, turned, with another contrast) stays where it is, while
different hearts lie far apart: a discriminant after R. A. Fisher, "The use of multiple measurements
in taxonomic problems", Annals of Eugenics 7(2), 1936, in the space where the former vary equally.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_codec.errors import EngineError
from edge_codec.retrieval.listener import WIDTH

DIM = 64
"""Length of a descriptor."""

Floats = NDArray[np.float32]
Halves = NDArray[np.float16]


@dataclass(frozen=True, slots=True, eq=False)
class Axes:
    """A mean and axes of a discriminant.

    Attributes
    ----------
    mean : ndarray, shape (WIDTH,), float32
    axes : ndarray, shape (WIDTH, DIM), float32

    Raises
    ------
    EngineError
        If a shape is wrong.
    """

    mean: Floats
    axes: Floats

    def __post_init__(self) -> None:
        """Refuse what is no discriminant."""
        if self.mean.shape != (WIDTH,) or self.axes.shape != (WIDTH, DIM):
            raise EngineError(
                f"axes are {self.axes.shape} for a mean of {self.mean.shape}; expected "
                f"{(WIDTH, DIM)} and {(WIDTH,)}; reinstall edge-codec"
            )

    def describe(self, known: Floats) -> Halves:
        """Turn numbers (..., WIDTH) into descriptors (..., DIM) of length 1."""
        placed = (known - self.mean) @ self.axes
        lengths = np.linalg.norm(placed, axis=-1, keepdims=True)
        described: Halves = (placed / np.maximum(lengths, 1e-12)).astype(np.float16)
        return described


@dataclass(frozen=True, slots=True, eq=False)
class ExamDescriptors:
    """Descriptors of an exam.

    Attributes
    ----------
    frames : ndarray, shape (slices, phases, DIM), float16, of length 1
    slices : ndarray, shape (slices, DIM), float16, of length 1
    """

    frames: Halves
    slices: Halves


@dataclass(frozen=True, slots=True, eq=False)
class Describer:
    """Makes descriptors of exams.

    Attributes
    ----------
    frames, slices : Axes
    """

    frames: Axes
    slices: Axes

    def describe(self, known: Floats) -> ExamDescriptors:
        """Return the descriptors of an exam.

        Parameters
        ----------
        known : ndarray, shape (slices, phases, 32, KNOWN), float32
            As `Listener.listen` returns it.
        """
        rows = known.reshape(*known.shape[:2], WIDTH)
        return ExamDescriptors(self.frames.describe(rows), self.slices.describe(rows.mean(axis=1)))
