"""Where the heart is: the network `segmentation` of the zoo on frames and exams, and its clean-up.

A frame is brought to window codes, extended by its edges to multiples of 16, and classified pixel
by pixel into background, RV (1), myocardium (2) and LV (3). What lies apart from the heart is
removed: in one frame the pieces apart from the largest; in an exam the pieces that hang together
with the heart neither in their frame nor over slices and phases.

The network is an integer network whose scales are powers of two: ONNX Runtime gives the same labels
on every processor. OpenVINO is no choice here, since it adds without the rounding in between.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.engine import Engine
from edge_codec.errors import FrameError
from edge_codec.io.statistics import Histogram
from edge_codec.manifest import load_manifest
from edge_codec.runtime.components import largest_component
from edge_codec.runtime.pick import load_engine
from edge_codec.runtime.progress import Progress, silent
from edge_codec.spec import WINDOW_ONE
from edge_codec.window import pad

RV, MYOCARDIUM, LV = 1, 2, 3
N_CLASSES = 4
STRIDE = 16
"""Sides of the network's frames are multiples of it."""

MODEL = "segmentation"
NETWORK = "segmentation.onnx"


@dataclass(frozen=True, slots=True, eq=False)
class Segmentation:
    """What the network says of one frame.

    Attributes
    ----------
    labels : ndarray, shape (rows, columns), uint8
        0 background, 1 RV, 2 myocardium, 3 LV; cleaned up by `clean`.
    probabilities : ndarray, shape (4, rows, columns), float32
        Of the classes, before the clean-up; their sum is 1.
    confidence : float
        Mean over the heart's pixels of the largest probability; 0 where there is no heart.
    """

    labels: NDArray[np.uint8]
    probabilities: NDArray[np.float32]
    confidence: float


class Segmenter:
    """Segments frames and exams.

    Parameters
    ----------
    engine : Engine
        The network: (n, 1, 16 h, 16 w) uint8 window codes to (n, 4, 16 h, 16 w) float32 logits,
        whose magnitudes stay below 80.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def name(self) -> str:
        """Backend, precision and threads, for reports."""
        return self._engine.name

    def probe(self) -> int:
        """Return the CRC-32 of the logits of a ramp, codes 0 to 255 in 32x32 pixels.

        An exact backend gives that of the manifest.
        """
        ramp = (np.arange(1024) // 4).astype(np.uint8).reshape(32, 32)
        return zlib.crc32(np.ascontiguousarray(self._logits(ramp)).tobytes())

    def frame(self, samples: NDArray[Any], window: tuple[float, float]) -> Segmentation:
        """Segment one frame.

        Parameters
        ----------
        samples : ndarray, shape (rows, columns), integer or float
            Values as stored, of any size.
        window : (float, float)
            0.1th and 99.9th percentile of the exam; see `exam_window`.

        Raises
        ------
        FrameError
            If it is no frame, a value is not finite, or the window is not two finite rising
            numbers.
        EngineError
            If the backend fails.
        """
        probabilities = _softmax(self._logits(window_codes(samples, window)))
        labels, largest = _most_likely(probabilities)
        labels = clean(labels)
        heart = labels > 0
        confidence = float(largest[heart].mean()) if heart.any() else 0.0
        return Segmentation(labels, probabilities, confidence)

    def exam(self, voxels: NDArray[Any], progress: Progress = silent) -> NDArray[np.uint8]:
        """Segment all frames of an exam and clean up over slices and phases.

        Parameters
        ----------
        voxels : ndarray, shape (slices, phases, rows, columns), integer or float
            Values as stored.
        progress : callable
            Wraps the frames; see `edge_codec.runtime.progress`.

        Returns
        -------
        ndarray, same shape, uint8
            0 background, 1 RV, 2 myocardium, 3 LV.

        Raises
        ------
        FrameError
            If it is no exam, or a value is not finite.
        EngineError
            If the backend fails.
        """
        if voxels.ndim != 4 or 0 in voxels.shape:
            raise FrameError(
                f"an array of shape {voxels.shape} is no exam; expected (slices, phases, rows, "
                "columns)"
            )
        _check_values(voxels)
        window = exam_window(voxels)
        labels = np.empty(voxels.shape, np.uint8)
        places = list(np.ndindex(voxels.shape[:2]))
        for place in progress(places, len(places), "segment"):
            labels[place] = _most_likely(self._logits(window_codes(voxels[place], window)))[0]
        return clean(labels)

    def _logits(self, codes: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the logits of a frame of window codes, shape (4, rows, columns)."""
        rows, columns = codes.shape
        logits: NDArray[np.float32] = self._engine.run(pad(codes, STRIDE)[None, None])
        return logits[0, :, :rows, :columns]


def load_segmenter(threads: int | None = None) -> Segmenter:
    """Load the zoo's network on ONNX Runtime.

    Parameters
    ----------
    threads : int, optional
        For one frame; by default `edge_codec.runtime.pick.default_threads()`.

    Raises
    ------
    EngineError
        If the network is missing or altered, or ONNX Runtime is not installed.
    """
    return Segmenter(load_engine(load_manifest(MODEL).read(NETWORK), "onnxruntime", threads))


def exam_window(voxels: NDArray[Any]) -> tuple[float, float]:
    """Return the window of an exam as the codec chooses it: its 0.1th and 99.9th percentile.

    Parameters
    ----------
    voxels : ndarray, integer or float
        All of the exam's values as stored.
    """
    if voxels.dtype.kind == "f":
        low, high = np.percentile(voxels, (0.1, 99.9), method="lower")
        return float(low), float(high)
    histogram = Histogram()
    histogram.add(voxels)
    summary = histogram.summary()
    return float(summary.p001), float(summary.p999)


def window_codes(samples: NDArray[Any], window: tuple[float, float]) -> NDArray[np.uint8]:
    """Return the 8-bit codes of `edge_codec.window.Window`, for samples of any type.

    Raises
    ------
    FrameError
        If it is no frame, a value is not finite, or the window is not two finite rising numbers.
    """
    if samples.ndim != 2 or 0 in samples.shape:
        raise FrameError(f"samples have shape {samples.shape}; expected (rows, columns)")
    _check_values(samples)
    low, high = (float(edge) for edge in window)
    if not (np.isfinite(low) and np.isfinite(high) and low <= high):
        raise FrameError(f"the window is from {low} to {high}; expected finite rising numbers")
    width = high - low if high > low else 1.0
    # floor((x - low) * 192 / width + 1/2), exact for integers, in one array.
    values: NDArray[np.float64] = np.subtract(samples, low, dtype=np.float64)
    values *= 2 * WINDOW_ONE
    values += width
    values /= 2 * width
    np.floor(values, out=values)
    np.clip(values, 0, 255, out=values)
    return values.astype(np.uint8)


def _check_values(samples: NDArray[Any]) -> None:
    """Refuse what no frame holds: a number that is none would become any code."""
    if samples.dtype.kind not in "biuf":
        raise FrameError(f"samples of {samples.dtype}; expected integers or floats")
    if samples.dtype.kind == "f" and not np.isfinite(samples).all():
        count = samples.size - int(np.count_nonzero(np.isfinite(samples)))
        raise FrameError(f"{count} samples are infinite or not a number; replace them")


def clean(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Remove what lies apart: keep the heart's largest component, and of each cavity the largest.

    The myocardium of a frame may be in pieces: near the base its ring is open.

    Parameters
    ----------
    labels : ndarray, shape (rows, columns) or (slices, phases, rows, columns), uint8
        Pixels next to each other along any of the axes hang together.

    Returns
    -------
    ndarray, same shape, uint8
    """
    cleaned = np.zeros_like(labels)
    box = _box(labels > 0)
    inside = np.where(largest_component(labels[box] > 0), labels[box], np.uint8(0))
    for label in (RV, LV):
        mask = inside == label
        inside[mask & ~largest_component(mask)] = 0
    cleaned[box] = inside
    return cleaned


def _box(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    """Return the smallest box that holds all that is set; an empty one where nothing is."""
    sides = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        places = np.flatnonzero(mask.any(axis=others))
        sides.append(slice(int(places[0]), int(places[-1]) + 1) if places.size else slice(0, 0))
    return tuple(sides)


def _most_likely(scores: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return the class of the largest score of each pixel, of equal ones the first, and the score.

    Some times as fast as `argmax` along the first axis.
    """
    labels = np.zeros(scores.shape[1:], np.uint8)
    largest = scores[0].copy()
    for label in range(1, N_CLASSES):
        labels[scores[label] > largest] = label
        np.maximum(largest, scores[label], out=largest)
    return labels, largest


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn logits, whose exponentials float32 holds, into probabilities along the first axis."""
    powers = np.exp(logits)
    powers /= powers.sum(axis=0)
    return powers
