"""Exams as sets of tokens to learn from: each seen in several ways, coded, and kept on disk.

A view is a stretch of the cycle, moved, turned, enlarged and with another contrast; it is coded as
a stream of its own with the shipped `titok`, and its tokens are read from that stream. What the
tokens are to tell goes with them, of the frames before coding: each place's coarse picture, and the
share of it that RV, myocardium and LV take by the segmentation network. The encoder is told nothing
of the patient.
"""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own convention)
from numpy.typing import NDArray

from edge_codec.base.titok.canvas import canvas_of
from edge_codec.cine import Cine
from edge_codec.errors import SourceError
from edge_codec.io.atomic import atomic_file
from edge_codec.retrieval.exam_tokens import TOKENS, ExamTokens, read_exam
from edge_codec.retrieval.token_reader import PARTS_OF_HEART
from edge_codec.runtime.arrays import compress
from edge_codec.runtime.segmenter import Segmenter, exam_window, window_codes
from edge_codec.training.shards.patient import read_patient

TURNED_VIEWS = 3
PLACE_ROWS, PLACE_COLUMNS = 16, 32
"""Of the canvas, that a token's latent starts from: two patches side by side."""
COARSE = 4
"""Side of the blocks of pixels that a coarse picture is made of."""

Labels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class View:
    """A way of seeing an exam.

    Attributes
    ----------
    name : str
    first : float, 0..1
        Where in the cycle it begins.
    length : float, 0..1
        Share of the cycle that it takes, going on at the start where the cycle ends.
    shift : (float, float)
        To the right and downwards, in parts of the frame.
    angle_degrees, scale, gamma : float
    """

    name: str
    first: float = 0.0
    length: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)
    angle_degrees: float = 0.0
    scale: float = 1.0
    gamma: float = 1.0

    def phases(self, n_phases: int) -> NDArray[np.int64]:
        """Return the phases of the exam that it takes, in their order."""
        begin, count = round(self.first * n_phases), max(1, round(self.length * n_phases))
        if self.first + self.length == 1:
            count = n_phases - begin
        return (begin + np.arange(count)) % n_phases


WHOLE = View("whole")
FIRST_HALF = View("first-half", 0.0, 0.5)
SECOND_HALF = View("second-half", 0.5, 0.5)


@dataclass(frozen=True, slots=True, eq=False)
class SeenExam:
    """A view of an exam, coded.

    Attributes
    ----------
    patient, group : str
    view : str
    exam : ExamTokens
    phases : ndarray, shape (phases,), int64
        Of the exam.
    shares : ndarray, shape (slices, phases, 32, 3), float16, 0..1
    pictures : ndarray, shape (slices, phases, 32, 32), uint8
        Coarse picture of each place, 4 rows of 8, in window codes.
    """

    patient: str
    group: str
    view: str
    exam: ExamTokens
    phases: NDArray[np.int64]
    shares: NDArray[np.float16]
    pictures: NDArray[np.uint8]


def learning_views(patient: str) -> list[View]:
    """Return the views of a patient to learn from; the same at every call."""
    chance = np.random.default_rng(zlib.crc32(patient.encode()))
    views = [WHOLE, SECOND_HALF]
    for number in range(TURNED_VIEWS):
        shift = chance.uniform(-0.1, 0.1, 2)
        views.append(
            View(
                f"turned-{number}", chance.uniform(), chance.uniform(0.25, 0.5),
                (float(shift[0]), float(shift[1])), chance.uniform(-6, 6),
                chance.uniform(0.88, 1.14), chance.uniform(0.75, 1.33),
            )
        )  # fmt: skip
    return views


class ViewCoder:
    """Codes views of patients, each once.

    Parameters
    ----------
    data : Path
        Folder of ACDC patients.
    cache : Path
        Folder of what was coded; made where there is none. What is there is believed to be of the
        same patients, encoder and segmentation network.
    tokenizer : str
        SHA-256 of the codebook: another tokenizer keeps its tokens elsewhere.
    segmenter : Segmenter
    """

    def __init__(self, data: Path, cache: Path, tokenizer: str, segmenter: Segmenter) -> None:
        self._data = data
        self._cache = cache / tokenizer[:16]
        self._cache.mkdir(parents=True, exist_ok=True)
        self._segmenter = segmenter

    def see(self, patient: str, views: list[View]) -> Iterator[SeenExam]:
        """Yield views of a patient.

        Raises
        ------
        SourceError
            If the patient cannot be read, or a file of the cache is damaged.
        EngineError
            If a model fails.
        """
        voxels: NDArray[Any] | None = None
        labels, group = np.zeros((), np.uint8), ""
        for view in views:
            path = self._cache / f"{patient}-{view.name}.npz"
            if not path.exists():
                if voxels is None:
                    read = read_patient(self._data / patient, partial=False)
                    voxels, group = read.voxels, read.info.group or ""
                    labels = self._labels(patient, voxels)
                _keep(path, group, code_view(voxels, labels, view))
            yield _seen(path, patient, view.name)

    def _labels(self, patient: str, voxels: NDArray[Any]) -> Labels:
        path = self._cache / f"{patient}-labels.npy"
        if not path.exists():
            labels = self._segmenter.exam(voxels)
            with atomic_file(path, force=True) as file:
                np.save(file, labels)
        kept: Labels = np.load(path)
        return kept


@dataclass(frozen=True, slots=True, eq=False)
class CodedView:
    """What is kept of a view; attributes as those of `SeenExam`."""

    exam: ExamTokens
    phases: NDArray[np.int64]
    shares: NDArray[np.float16]
    pictures: NDArray[np.uint8]


def code_view(voxels: NDArray[Any], labels: Labels, view: View) -> CodedView:
    """Code a view of an exam.

    Parameters
    ----------
    voxels : ndarray, shape (slices, phases, rows, columns), integer
    labels : ndarray, same shape, uint8
    view : View

    Raises
    ------
    EngineError
        If a model fails.
    """
    phases = view.phases(voxels.shape[1])
    frames = seen(voxels[:, phases], view)
    stream = compress(Cine.from_array(frames), model="titok", max_error=None)
    parts = moved(labels[:, phases], view, "nearest").astype(np.uint8)
    exam = read_exam(io.BytesIO(stream))
    return CodedView(exam, phases, shares_of(parts), pictures_of(frames))


def seen(voxels: NDArray[Any], view: View) -> NDArray[Any]:
    """Move the voxels of an exam and change their contrast; dtype and shape stay."""
    if view.scale == view.gamma == 1 and view.shift == (0, 0) and not view.angle_degrees:
        return voxels
    values = moved(voxels, view, "bilinear")
    low, high = exam_window(voxels)
    if low == high:  # nothing but background between the percentiles
        return np.rint(values).astype(voxels.dtype)
    bright = np.maximum(values - low, 0) / (high - low)
    values = low + (high - low) * bright**view.gamma
    limits = np.iinfo(voxels.dtype)
    changed: NDArray[Any] = np.clip(np.rint(values), limits.min, limits.max).astype(voxels.dtype)
    return changed


def moved(frames: NDArray[Any], view: View, mode: str) -> NDArray[np.float32]:
    """Move, turn and enlarge frames (slices, phases, rows, columns); their border goes on."""
    angle = math.radians(view.angle_degrees)
    rows, columns = frames.shape[2:]
    cosine, sine = math.cos(angle) / view.scale, math.sin(angle) / view.scale
    matrix = torch.tensor(
        [[cosine, -sine * rows / columns, -2 * view.shift[0]],
         [sine * columns / rows, cosine, -2 * view.shift[1]]],
        dtype=torch.float32,
    )  # fmt: skip
    flat = torch.from_numpy(frames.astype(np.float32)).reshape(1, -1, rows, columns)
    grid = F.affine_grid(matrix[None], [1, 1, rows, columns], align_corners=False)
    there = F.grid_sample(flat, grid, mode=mode, padding_mode="border", align_corners=False)
    return there.reshape(frames.shape).numpy()


def shares_of(labels: Labels) -> NDArray[np.float16]:
    """Return the share of each token's place that each part of the heart takes.

    Parameters
    ----------
    labels : ndarray, shape (slices, phases, rows, columns), uint8

    Returns
    -------
    ndarray, shape (slices, phases, 32, 3), float16, 0..1
    """
    canvas = canvas_of(*labels.shape[2:])
    shares = np.empty((*labels.shape[:2], TOKENS, len(PARTS_OF_HEART)), np.float16)
    for place in np.ndindex(labels.shape[:2]):
        for part in range(len(PARTS_OF_HEART)):
            mask = canvas.fit((labels[place] == part + 1).astype(np.float32)) * canvas.inside
            shares[place][:, part] = np.clip(_places(mask).mean(axis=(1, 2)), 0, 1)
    return shares


def pictures_of(voxels: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the coarse picture of each token's place.

    Parameters
    ----------
    voxels : ndarray, shape (slices, phases, rows, columns), integer

    Returns
    -------
    ndarray, shape (slices, phases, 32, 32), uint8
        Means of 4x4 pixels of the canvas, in window codes, 4 rows of 8.
    """
    canvas, window = canvas_of(*voxels.shape[2:]), exam_window(voxels)
    pixels = PLACE_ROWS * PLACE_COLUMNS // COARSE**2
    pictures = np.empty((*voxels.shape[:2], TOKENS, pixels), np.uint8)
    for place in np.ndindex(voxels.shape[:2]):
        frame = canvas.fit(window_codes(voxels[place], window).astype(np.float32))
        blocks = _places(frame).reshape(
            TOKENS, PLACE_ROWS // COARSE, COARSE, PLACE_COLUMNS // COARSE, COARSE
        )
        means = blocks.mean(axis=(2, 4)).reshape(TOKENS, pixels)
        pictures[place] = np.clip(np.rint(means), 0, 255)
    return pictures


def _places(canvas: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cut a canvas (128, 128) into the places of tokens, (32, 16, 32)."""
    side = len(canvas)
    rows, columns = side // PLACE_ROWS, side // PLACE_COLUMNS
    blocks = canvas.reshape(rows, PLACE_ROWS, columns, PLACE_COLUMNS)
    return blocks.transpose(0, 2, 1, 3).reshape(TOKENS, PLACE_ROWS, PLACE_COLUMNS)


def _keep(path: Path, group: str, view: CodedView) -> None:
    with atomic_file(path, force=True) as file:
        np.savez_compressed(
            file,
            tokens=view.exam.tokens,
            keys=view.exam.keys,
            phases=view.phases,
            shares=view.shares,
            pictures=view.pictures,
            group=group,
        )


def _seen(path: Path, patient: str, view: str) -> SeenExam:
    try:
        # Opened here, since NumPy leaves what it cannot read open.
        with path.open("rb") as raw, np.load(raw) as file:
            arrays = {name: file[name] for name in file.files}
        exam = ExamTokens(arrays["tokens"], arrays["keys"])
        return SeenExam(
            patient, str(arrays["group"]), view, exam,
            arrays["phases"], arrays["shares"], arrays["pictures"],
        )  # fmt: skip
    except (OSError, ValueError, KeyError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise SourceError(f"{path} is damaged ({error}); delete it") from error
