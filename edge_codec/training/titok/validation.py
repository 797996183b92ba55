"""What the tokenizer keeps of held-out patients' cines."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_codec.metrics.image import psnr, ssim
from edge_codec.metrics.overlap import dice
from edge_codec.metrics.temporal import temporal_ratio
from edge_codec.nn.titok import TiTok, nothing_before
from edge_codec.spec import WINDOW_ONE
from edge_codec.training.titok.cines import FittedCine, Library
from edge_codec.training.titok.conditions import conditions
from edge_codec.training.titok.config import ToldOptions
from edge_codec.training.titok.judge import BRIGHTEST, Judge
from edge_codec.training.titok.masking import Masking
from edge_codec.training.titok.streams import Batch

AGES = (0, 1, 2, 4, 8, 16, 23)
CLASSES = (1, 2, 3)


@dataclass(slots=True)
class _Exam:
    """What was found of one patient's slices."""

    peak: float = 0.0
    errors: list[NDArray[np.float64]] = field(default_factory=list)
    similarities: list[float] = field(default_factory=list)
    overlaps: list[float] = field(default_factory=list)
    motions: list[float] = field(default_factory=list)


@torch.no_grad()
def validate(
    model: TiTok,
    held_out: Library,
    judge: Judge | None,
    frames: int,
    told: ToldOptions,
    cosine: float | None = None,
) -> dict[str, Any]:
    """Code held-out cines from their first phase on and compare them on the canvas.

    Parameters
    ----------
    model : TiTok
        In evaluation mode.
    held_out : Library
    judge : Judge, optional
        Segments both; without it there is no Dice.
    frames : int
        Of each cine, at most.
    told : ToldOptions
        What was told in training is told here, always.
    cosine : float, optional
        Noise in the quantizer's place, where training has none yet.

    Returns
    -------
    dict
        `psnr_db`: mean over exams of the PSNR within the frame (peak: the exam's maximum);
        `exams`: that of each; `ages`: over all exams, by frames since the first; `ssim`; `usage`:
        part of the codes that were chosen; `entropy_bits`: of a token, by its frequencies;
        `dice`: of the segmentations, mean over classes and slices; `temporal_ratio`: mean over
        slices of the standard deviation over time against the original's. None for what cannot be.
    """
    torch.manual_seed(0)  # of the noise
    exams: dict[str, _Exam] = {}
    chosen: list[Tensor] = []
    for number in range(len(held_out)):
        cine = held_out[number]
        exam = exams.setdefault(cine.patient, _Exam())
        _compare(model, cine, judge, frames, told, cosine, exam, chosen)
    quality = {name: _exam_psnr(exam) for name, exam in sorted(exams.items())}
    return {
        "psnr_db": _rounded_mean(list(quality.values())),
        "exams": quality,
        "ages": _ages(list(exams.values())),
        "ssim": _rounded_mean([x for exam in exams.values() for x in exam.similarities], 4),
        "dice": _rounded_mean([x for exam in exams.values() for x in exam.overlaps], 4),
        "temporal_ratio": _rounded_mean([x for exam in exams.values() for x in exam.motions], 4),
        **_token_use(chosen, model.config.codes),
    }


@torch.no_grad()
def validate_masking(model: TiTok, task: Masking, held_out: Library) -> dict[str, Any]:
    """Fill in hidden patches of the first phase of each held-out cine."""
    torch.manual_seed(0)  # of the masks
    trained, task.model = task.model, model
    errors = []
    for number in range(len(held_out)):
        cine = held_out[number]
        device = next(model.parameters()).device.type
        _, terms = task.loss(_batch(cine, 0).to(device), 0)
        errors.append(float(terms["window_error"]))
    task.model = trained
    return {"window_psnr": round(psnr(float(np.mean(errors)), 1.0), 2)}


def _compare(
    model: TiTok,
    cine: FittedCine,
    judge: Judge | None,
    frames: int,
    told: ToldOptions,
    cosine: float | None,
    exam: _Exam,
    chosen: list[Tensor],
) -> None:
    """Code one slice and add what is found."""
    device = next(model.parameters()).device
    past = nothing_before(model.config, 1, device)
    always = ToldOptions(
        *(float(chance > 0) for chance in (told.heart, told.anatomy, told.clinical))
    )
    originals, decoded, labels = [], [], []
    for phase in range(min(frames, len(cine.codes))):
        batch = _batch(cine, phase).to(device.type)
        judged = None if judge is None else judge(batch.frame)
        heart = batch.heart if judged is None else judged.heart * batch.inside
        facts = conditions(batch.inside, heart, batch.clinical, judged, always)
        coded = model(batch.frame, past, facts, cosine)
        shown = coded.frame.clamp(0.0, BRIGHTEST)
        past = past.after(shown, coded.codes)
        originals.append(batch.frame[0, 0].cpu().numpy())
        decoded.append(shown[0, 0].cpu().numpy())
        if coded.tokens is not None:
            chosen.append(coded.tokens.flatten().cpu())
        if judge is not None and judged is not None:
            labels.append((judged.labels[0].cpu().numpy(), judge(shown).labels[0].cpu().numpy()))
    _add(exam, cine, np.stack(originals), np.stack(decoded))
    _add_overlap(exam, labels)


def _add(
    exam: _Exam,
    cine: FittedCine,
    originals: NDArray[np.float32],
    decoded: NDArray[np.float32],
) -> None:
    inside = cine.inside > 0
    exam.peak = max(exam.peak, cine.peak)
    error = np.square(originals.astype(np.float64) - decoded)[:, inside]
    exam.errors.append(error.mean(axis=1))
    rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    exam.similarities += [
        ssim(one[box], other[box], cine.peak) for one, other in zip(originals, decoded, strict=True)
    ]
    ratio = temporal_ratio(originals[None], decoded[None], inside[None])
    if ratio is not None:
        exam.motions.append(ratio)


def _add_overlap(exam: _Exam, labels: list[tuple[NDArray[Any], NDArray[Any]]]) -> None:
    if not labels:
        return
    original, decoded = (np.stack(part) for part in zip(*labels, strict=True))
    found = [dice(original == label, decoded == label) for label in CLASSES]
    exam.overlaps += [value for value in found if value is not None]


def _batch(cine: FittedCine, phase: int) -> Batch:
    """Return one phase of a cine as a batch of one, first of its life."""

    def plane(array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array.astype(np.float32))[None, None]

    frame = plane(cine.codes[phase]) / WINDOW_ONE
    heart = torch.zeros_like(frame) if cine.heart is None else plane(cine.heart[phase])
    facts = torch.from_numpy(cine.facts.vector(phase))[None]
    nothing = torch.zeros(1, dtype=torch.int64)
    inside = plane(cine.inside)
    return Batch(nothing, nothing, frame, frame, nothing, inside, heart, facts, nothing == 0)


def _exam_psnr(exam: _Exam) -> float:
    return round(psnr(float(np.concatenate(exam.errors).mean()), exam.peak), 2)


def _ages(exams: list[_Exam]) -> dict[str, float]:
    """PSNR by age, errors and peaks averaged over all slices that are so long."""
    found = {}
    for age in AGES:
        errors = [e[age] / exam.peak**2 for exam in exams for e in exam.errors if len(e) > age]
        if errors:
            found[str(age)] = round(psnr(float(np.mean(errors)), 1.0), 2)
    return found


def _token_use(chosen: list[Tensor], codes: int) -> dict[str, float | None]:
    if not chosen:
        return {"usage": None, "entropy_bits": None}
    counts = torch.bincount(torch.cat(chosen), minlength=codes).double()
    shares = counts[counts > 0] / counts.sum()
    return {
        "usage": round(len(shares) / codes, 4),
        "entropy_bits": round(float(-(shares * shares.log2()).sum()), 3),
    }


def _rounded_mean(values: list[float], digits: int = 2) -> float | None:
    """Mean of the finite values; None without any."""
    finite = [value for value in values if math.isfinite(value)]
    return round(float(np.mean(finite)), digits) if finite else None
