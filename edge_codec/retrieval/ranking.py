"""Which frames, slices and exams are most like a given one: cosines of descriptors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_codec.errors import FrameError
from edge_codec.retrieval.descriptor import ExamDescriptors

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Match:
    """One thing found.

    Attributes
    ----------
    stream : str
        Name of its stream.
    similarity : float, -1..1
        Cosine of the descriptors; for an exam the mean over the query's slices of the best one.
    slice_index : int or None
        None for an exam.
    phase_index : int or None
        None for an exam or a slice.
    """

    stream: str
    similarity: float
    slice_index: int | None = None
    phase_index: int | None = None


def frames_like(frame: Floats, gallery: Mapping[str, ExamDescriptors], top: int) -> list[Match]:
    """Return the best frames, of each slice only the best: its neighbors in time are much alike.

    Parameters
    ----------
    frame : ndarray, shape (dim,)
        Descriptor of a frame.
    gallery : mapping of str to ExamDescriptors
        By name of the stream.
    top : int
        How many at most.
    """
    found = []
    for stream, exam in gallery.items():
        cosines = exam.frames.astype(np.float32) @ frame
        for index, phase in enumerate(cosines.argmax(axis=1)):
            found.append(Match(stream, _rounded(cosines[index, phase]), index, int(phase)))
    return _best(found, top)


def slices_like(described: Floats, gallery: Mapping[str, ExamDescriptors], top: int) -> list[Match]:
    """Return the best slices for the descriptor of one, shape (dim,)."""
    found = []
    for stream, exam in gallery.items():
        cosines = exam.slices.astype(np.float32) @ described
        found += [Match(stream, _rounded(cosine), index) for index, cosine in enumerate(cosines)]
    return _best(found, top)


def exams_like(
    query: ExamDescriptors, gallery: Mapping[str, ExamDescriptors], top: int
) -> list[Match]:
    """Return the best exams: those that have a like slice for every slice of the query."""
    slices = query.slices.astype(np.float32)
    found = []
    for stream, exam in gallery.items():
        cosines = slices @ exam.slices.astype(np.float32).T
        found.append(Match(stream, _rounded(cosines.max(axis=1).mean())))
    return _best(found, top)


def frame_of(exam: ExamDescriptors, slice_index: int, phase_index: int) -> Floats:
    """Return the descriptor of a frame.

    Raises
    ------
    FrameError
        If the exam has none of that place.
    """
    n_slices, n_phases = exam.frames.shape[:2]
    if not (0 <= slice_index < n_slices and 0 <= phase_index < n_phases):
        raise FrameError(
            f"the query has no frame of slice {slice_index}, phase {phase_index}; it has "
            f"{n_slices} slices x {n_phases} phases, counted from 0"
        )
    frame: Floats = exam.frames[slice_index, phase_index].astype(np.float32)
    return frame


def slice_of(exam: ExamDescriptors, slice_index: int) -> Floats:
    """Return the descriptor of a slice.

    Raises
    ------
    FrameError
        If the exam has no such slice.
    """
    if not 0 <= slice_index < len(exam.slices):
        raise FrameError(
            f"the query has no slice {slice_index}; it has {len(exam.slices)}, counted from 0"
        )
    described: Floats = exam.slices[slice_index].astype(np.float32)
    return described


def _rounded(cosine: np.float32) -> float:
    """Drop the digits in which machines differ."""
    return round(float(cosine), 4)


def _best(found: list[Match], top: int) -> list[Match]:
    """Return the most similar; equals stay in the order of names and places."""
    return sorted(found, key=lambda match: -match.similarity)[:top]
