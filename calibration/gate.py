"""The gate: a calibrated model that decodes worse than the stated limits is refused.

Both models code the same exams; PSNR and SSIM are those of this project (peak = maximum of the
exam, `edge_codec.metrics.image`), in stored units through the codec's window, so that the window's
own loss is part of both. Bits are those of the tokens by the token model, or of any function given.
With a segmenter, what the heart looks like counts as well: Dice of the decoded against the
original exam's labels, and the ejection fraction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_codec.calibration.chain import Passed, Rate
from edge_codec.errors import CalibrationError
from edge_codec.metrics.image import SSIM_WINDOW, psnr, squared_error, ssim
from edge_codec.window import Window, pad

LV_LABEL = 3
"""Cavity of the left ventricle in ACDC's labels, from whose volume the ejection fraction comes."""

Segmenter = Callable[[NDArray[np.uint32]], NDArray[Any]]
"""Samples (slices, phases, rows, columns) -> labels of the same shape, 0 for the background."""


class FrameCodec(Protocol):
    """What the gate asks of a model: `edge_codec.calibration.chain.Chain` has it."""

    def run(self, frames: NDArray[np.uint8]) -> Passed:
        """Code and decode frames (n, 1, rows, columns)."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """What a calibrated model may lose against the float model, on average over the exams.

    Attributes
    ----------
    psnr_loss_db, ssim_loss : float
    bpp_increase : float
        Relative: 0.02 for two percent.
    dice_loss : float
    ef_difference : float
        Percentage points of ejection fraction, either way.
    """

    psnr_loss_db: float = 0.2
    ssim_loss: float = 0.005
    bpp_increase: float = 0.02
    dice_loss: float = 0.01
    ef_difference: float = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class GateExam:
    """Frames to compare on.

    Attributes
    ----------
    name : str
    samples : ndarray, shape (slices, phases, rows, columns), uint32
        Stored values minus the exam's lowest.
    window : Window
    peak : float
        Largest stored value.
    """

    name: str
    samples: NDArray[np.uint32]
    window: Window
    peak: float


@dataclass(frozen=True, slots=True)
class Quality:
    """How well a model codes one exam; None where it was not asked for.

    Attributes
    ----------
    psnr_db : float
    ssim : float or None
        None for frames that are smaller than its window, too.
    bpp : float or None
        Bits per voxel of the tokens.
    dice : float or None
        Mean over the labels, decoded against original.
    ef_percent : float or None
        Ejection fraction of the decoded exam.
    """

    psnr_db: float
    ssim: float | None
    bpp: float | None = None
    dice: float | None = None
    ef_percent: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The comparison.

    Attributes
    ----------
    exams : tuple of str
    reference, calibrated : tuple of Quality
        Of the float and of the calibrated model, per exam.
    limits : Limits
    """

    exams: tuple[str, ...]
    reference: tuple[Quality, ...]
    calibrated: tuple[Quality, ...]
    limits: Limits

    def losses(self) -> dict[str, float]:
        """Return the mean loss of every figure that both models have; positive is worse."""
        pairs = list(zip(self.reference, self.calibrated, strict=True))
        found = {
            "psnr_loss_db": [_loss(a.psnr_db, b.psnr_db) for a, b in pairs],
            "ssim_loss": _differences(pairs, "ssim"),
            "bpp_increase": [b.bpp / a.bpp - 1 for a, b in pairs if a.bpp and b.bpp is not None],
            "dice_loss": _differences(pairs, "dice"),
            "ef_difference": [abs(found) for found in _differences(pairs, "ef_percent")],
        }
        return {name: float(np.mean(values)) for name, values in found.items() if values}

    def failures(self) -> list[str]:
        """Return a sentence for each limit that is exceeded."""
        allowed = asdict(self.limits)
        return [
            f"{name.replace('_', ' ')} is {value:.4g}, at most {allowed[name]:g} is allowed"
            for name, value in self.losses().items()
            if not value <= allowed[name]  # a NaN is a failure, too
        ]

    def require(self) -> None:
        """Refuse the calibrated model if it exceeds a limit.

        Raises
        ------
        CalibrationError
        """
        failures = self.failures()
        if failures:
            raise CalibrationError(
                f"the calibrated model is refused: {'; '.join(failures)} (mean of "
                f"{len(self.exams)} exams). Calibrate on more frames, or with --mixed"
            )

    def record(self) -> dict[str, Any]:
        """Return the verdict for JSON."""
        return {
            "passed": not self.failures(),
            "limits": asdict(self.limits),
            "losses": self.losses(),
            "exams": {
                name: {"float": asdict(a), "calibrated": asdict(b)}
                for name, a, b in zip(self.exams, self.reference, self.calibrated, strict=True)
            },
        }


class Gate:
    """Compares models with the float model on the same exams.

    Parameters
    ----------
    reference : FrameCodec
        The float model; it codes the exams once.
    exams : sequence of GateExam
    rate : callable, optional
        Bits of an exam's tokens.
    segmenter : callable, optional
        Adds Dice and ejection fraction; it needs whole exams.
    limits : Limits

    Raises
    ------
    CalibrationError
        If there is no exam.
    """

    def __init__(
        self,
        reference: FrameCodec,
        exams: Sequence[GateExam],
        rate: Rate | None = None,
        segmenter: Segmenter | None = None,
        limits: Limits | None = None,
    ) -> None:
        if not exams:
            raise CalibrationError("there is no exam to compare the models on")
        self._exams = tuple(exams)
        self._rate = rate
        self._segmenter = segmenter
        self._limits = Limits() if limits is None else limits
        self._labels = [segmenter(exam.samples) if segmenter else None for exam in exams]
        self._reference = tuple(self._measure(reference))

    def judge(self, model: FrameCodec) -> Verdict:
        """Compare a model."""
        names = tuple(exam.name for exam in self._exams)
        return Verdict(names, self._reference, tuple(self._measure(model)), self._limits)

    def _measure(self, model: FrameCodec) -> Iterable[Quality]:
        for exam, labels in zip(self._exams, self._labels, strict=True):
            decoded, tokens = decode(model, exam)
            quality = _fidelity(exam, decoded)
            bpp = dice = fraction = None
            if self._rate is not None and tokens is not None:
                bpp = self._rate(tokens) / exam.samples.size
            if self._segmenter is not None and labels is not None:
                found = self._segmenter(decoded)
                dice = dice_of(labels, found)
                fraction = ejection_fraction(found)
            yield Quality(*quality, bpp, dice, fraction)


def decode(
    model: FrameCodec, exam: GateExam, stride: int = 8
) -> tuple[NDArray[np.uint32], NDArray[Any] | None]:
    """Code and decode an exam; return samples of its shape, and tokens (slices, phases, h, w)."""
    slices, phases, rows, columns = exam.samples.shape
    decoded = np.empty_like(exam.samples)
    tokens = []
    for place in np.ndindex(slices, phases):
        codes = pad(exam.window.normalize(exam.samples[place]), stride)
        passed = model.run(codes[None, None])
        decoded[place] = exam.window.denormalize(passed.frames[0, 0, :rows, :columns])
        if passed.tokens is not None:
            tokens.append(passed.tokens[0])
    if not tokens:
        return decoded, None
    return decoded, np.stack(tokens).reshape(slices, phases, *tokens[0].shape)


def dice_of(wanted: NDArray[Any], found: NDArray[Any]) -> float | None:
    """Mean Dice coefficient over the foreground labels that either has; None if neither has any."""
    labels = np.union1d(wanted, found)
    scores = []
    for label in labels[labels != 0]:
        a, b = wanted == label, found == label
        scores.append(2 * float((a & b).sum()) / float(a.sum() + b.sum()))
    return float(np.mean(scores)) if scores else None


def ejection_fraction(labels: NDArray[Any], label: int = LV_LABEL) -> float | None:
    """Return 100 (largest - smallest volume) / largest of a label over the phases, in percent.

    Parameters
    ----------
    labels : ndarray, shape (slices, phases, rows, columns)

    Returns
    -------
    float or None
        None where the label does not occur.
    """
    volumes = (labels == label).sum(axis=(0, 2, 3))
    largest = int(volumes.max(initial=0))
    return 100.0 * (largest - int(volumes.min())) / largest if largest else None


def _fidelity(exam: GateExam, decoded: NDArray[np.uint32]) -> tuple[float, float | None]:
    error = squared_error(exam.samples, decoded) / exam.samples.size
    shape = exam.samples.shape[2:]
    pairs = zip(exam.samples.reshape(-1, *shape), decoded.reshape(-1, *shape), strict=True)
    if min(shape) < SSIM_WINDOW:
        return psnr(error, exam.peak), None
    return psnr(error, exam.peak), float(np.mean([ssim(a, b, exam.peak) for a, b in pairs]))


def _differences(pairs: Iterable[tuple[Quality, Quality]], name: str) -> list[float]:
    """Return what a figure falls by, of the exams where both models have it."""
    both = ((getattr(a, name), getattr(b, name)) for a, b in pairs)
    return [a - b for a, b in both if a is not None and b is not None]


def _loss(reference: float, found: float) -> float:
    """Difference of two PSNRs; equal images on both sides lose nothing."""
    return 0.0 if reference == found else reference - found
