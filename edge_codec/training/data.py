"""Frames to train on: NIfTI exams as 8-bit window codes, and random crops of them.

Expected layout, as `data/README.md` of the data set describes it::

    DATA/acdc/<case>/<case>_4d.nii.gz             all phases, cropped to the heart
    DATA/fullfov/<case>/<case>_frame01.nii.gz     one phase, full field of view
    DATA/sunnybrook/<case>/<case>_4d.nii.gz       all phases, full field of view

and a JSON file `{"train": [case, ...], "test": [case, ...]}`. Only cases of `train` are ever read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own convention)
from numpy.typing import NDArray
from torch import Tensor

from edge_codec.spec import WINDOW_ONE

PATTERNS = {
    "acdc": "acdc/{case}/{case}_4d.nii.gz",
    "fullfov": "fullfov/{case}/{case}_frame01.nii.gz",
    "sunnybrook": "sunnybrook/{case}/{case}_4d.nii.gz",
}


@dataclass(frozen=True, slots=True)
class Exam:
    """One volume as the network sees it.

    Attributes
    ----------
    case, group : str
        Patient and data set.
    codes : ndarray, shape (slices, phases, rows, columns), uint8
        Window codes.
    peak_codes : float
        Exam maximum on the scale of the codes (may exceed 255): the peak of its PSNR.
    """

    case: str
    group: str
    codes: NDArray[np.uint8]
    peak_codes: float


def window_codes(
    voxels: NDArray[np.integer], low: int | None = None, high: int | None = None
) -> tuple[NDArray[np.uint8], float]:
    """Normalize an exam exactly as the codec's window does.

    Parameters
    ----------
    voxels : ndarray, integer
        Stored values of the whole exam.
    low, high : int, optional
        The window; minimum and 99.9th percentile of the exam unless given.

    Returns
    -------
    codes : ndarray, uint8
        Round half up of `(x - low) * 192 / (high - low)`, clipped to 0..255.
    peak_codes : float
        The exam's maximum on the same scale, not clipped.
    """
    low = int(voxels.min()) if low is None else low
    high = round(float(np.percentile(voxels, 99.9))) if high is None else high
    width = max(high - low, 1)
    numerator = (voxels.astype(np.int64) - low) * (2 * WINDOW_ONE) + width
    codes = np.clip(numerator // (2 * width), 0, 255).astype(np.uint8)
    return codes, (int(voxels.max()) - low) * WINDOW_ONE / width


def read_exam(path: Path, case: str, group: str) -> Exam:
    """Read a NIfTI volume (x, y, z[, t]) as window codes (slice, phase, row = y, column = x)."""
    import nibabel  # a file reader of the training extra, not needed to import this module

    voxels = np.asanyarray(nibabel.Nifti1Image.from_filename(path).dataobj)
    if voxels.ndim == 3:
        voxels = voxels[..., None]
    codes, peak_codes = window_codes(np.rint(voxels).astype(np.int64))
    return Exam(case, group, np.ascontiguousarray(codes.transpose(2, 3, 1, 0)), peak_codes)


def read_split(data: Path, splits: Path, held_out: frozenset[str]) -> tuple[list[Exam], list[Exam]]:
    """Read the training cases and, among them, set aside those to validate on.

    Parameters
    ----------
    data : Path
        Folder in the layout above.
    splits : Path
        The JSON file; its `test` cases are not touched.
    held_out : frozenset of str
        Cases of `train` to keep for validation.

    Returns
    -------
    train, validation : list of Exam
    """
    cases = json.loads(splits.read_text())["train"]
    train: list[Exam] = []
    validation: list[Exam] = []
    for case in cases:
        for group, pattern in PATTERNS.items():
            path = data / pattern.format(case=case)
            if path.exists():
                exam = read_exam(path, case, group)
                (validation if case in held_out else train).append(exam)
    if not train:
        raise FileNotFoundError(f"none of the {len(cases)} training cases is under {data}")
    return train, validation


@dataclass(frozen=True, slots=True)
class CropOptions:
    """How crops are drawn.

    Attributes
    ----------
    size : int
        Rows and columns, a multiple of 8.
    batch : int
    shares : dict of str to float
        Probability of each data set; within one, exams are equally likely.
    zoom_chance, gain_chance, noise_chance : float
        Probability of each augmentation per crop.
    """

    size: int = 96
    batch: int = 24
    shares: dict[str, float] | None = None
    zoom_chance: float = 0.25
    gain_chance: float = 0.5
    noise_chance: float = 0.1


def crops(
    exams: list[Exam], options: CropOptions, rng: np.random.Generator
) -> Iterator[tuple[Tensor, list[str]]]:
    """Yield batches for ever: codes as float 0..255, shape (batch, 1, size, size), and groups."""
    groups = {name: [exam for exam in exams if exam.group == name] for name in PATTERNS}
    shares = options.shares or dict.fromkeys(PATTERNS, 1.0)
    names = [name for name in PATTERNS if groups[name] and shares.get(name, 0.0) > 0]
    chances = np.array([shares[name] for name in names])
    chances /= chances.sum()
    while True:
        picks = [names[i] for i in rng.choice(len(names), size=options.batch, p=chances)]
        batch = [
            _crop(groups[name][rng.integers(len(groups[name]))], options, rng) for name in picks
        ]
        yield torch.stack(batch), picks


def _crop(exam: Exam, options: CropOptions, rng: np.random.Generator) -> Tensor:
    """Draw one augmented crop, shape (1, size, size), float 0..255."""
    frame = exam.codes[rng.integers(exam.codes.shape[0]), rng.integers(exam.codes.shape[1])]
    size = options.size
    zoom = rng.uniform(0.7, 1.3) if rng.random() < options.zoom_chance else 1.0
    span = max(8, round(size / zoom))
    window = _random_window(frame, span, rng).astype(np.float32)
    if zoom != 1.0:
        source = torch.from_numpy(window)[None, None]
        resized = F.interpolate(
            source, (size, size), mode="bilinear", antialias=zoom < 1.0, align_corners=False
        )
        window = resized[0, 0].numpy()
    window = _vary_intensity(_flip(window, rng), options, rng)
    return torch.from_numpy(np.ascontiguousarray(window))[None]


def _random_window(
    frame: NDArray[np.uint8], span: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Cut a square of `span` pixels, after extending a smaller frame by its edges."""
    rows, columns = frame.shape
    if rows < span or columns < span:
        frame = np.pad(frame, ((0, max(0, span - rows)), (0, max(0, span - columns))), mode="edge")
        rows, columns = frame.shape
    top, left = rng.integers(rows - span + 1), rng.integers(columns - span + 1)
    return frame[top : top + span, left : left + span]


def _flip(window: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    if rng.random() < 0.5:
        window = window[::-1]
    if rng.random() < 0.5:
        window = window[:, ::-1]
    return window.T if rng.random() < 0.5 else window


def _vary_intensity(
    window: NDArray[np.float32], options: CropOptions, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Change gain, gamma and noise modestly, and round, since real codes are integers."""
    if rng.random() < options.gain_chance:
        gain, gamma = rng.uniform(0.6, 1.15), rng.uniform(0.85, 1.15)
        window = gain * 255.0 * (window / 255.0) ** gamma
    if rng.random() < options.noise_chance:
        noise = rng.normal(0.0, rng.uniform(0.5, 3.0), window.shape)
        window = window + noise.astype(np.float32)
    return np.clip(np.rint(window), 0, 255).astype(np.float32)
