"""What a segmentation says of the heart, in 16 numbers and a small map, for the titok encoder.

All is counted on the canvas, so that it means the same for frames of any size. The encoder alone is
told: nothing of it is in the stream, and it needs none of it.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

CLASSES = (1, 2, 3)
"""RV, myocardium, LV."""

PER_CLASS = 5
ANATOMY = PER_CLASS * len(CLASSES) + 1
PATCH = 16

Floats = NDArray[np.float32]


def anatomy_features(probabilities: Floats) -> Floats:
    """Describe the classes of a segmented canvas.

    Parameters
    ----------
    probabilities : ndarray, shape (4, rows, columns), float32
        Of background, RV, myocardium and LV. A pixel belongs to the likeliest class.

    Returns
    -------
    ndarray, shape (16,), float32
        For RV, myocardium and LV: square root of the class's share of the canvas; row and column of
        its center, -1..1 from edge to edge; compactness, 4 pi area / perimeter^2, about 1 for a
        disc; mean probability of the class over its pixels. All 0 for a class that is not there.
        Last a 1 where there is any.
    """
    labels = probabilities.argmax(axis=0)
    features = np.zeros(ANATOMY, np.float32)
    for place, label in enumerate(CLASSES):
        mask = labels == label
        if mask.any():
            start = place * PER_CLASS
            features[start : start + PER_CLASS] = _describe(mask, probabilities[label])
            features[-1] = 1
    return features


def heart_shares(probabilities: Floats) -> Floats:
    """Return the share of the heart in each 16x16 pixels of a segmented canvas.

    Parameters
    ----------
    probabilities : ndarray, shape (4, 16 h, 16 w), float32

    Returns
    -------
    ndarray, shape (h, w), float32, 0..1
    """
    heart = (probabilities.argmax(axis=0) > 0).astype(np.float32)
    rows, columns = (length // PATCH for length in heart.shape)
    shares: Floats = heart.reshape(rows, PATCH, columns, PATCH).mean(axis=(1, 3))
    return shares


def _describe(mask: NDArray[np.bool_], probability: Floats) -> tuple[float, ...]:
    """Size, center, compactness and mean probability of a class with at least one pixel."""
    rows, columns = np.nonzero(mask)
    center = (
        2 * (float(at.mean()) + 0.5) / length - 1
        for at, length in zip((rows, columns), mask.shape, strict=True)
    )
    size = math.sqrt(len(rows) / mask.size)
    return (size, *center, _compactness(mask), float(probability[mask].mean()))


def _compactness(mask: NDArray[np.bool_]) -> float:
    """4 pi area / perimeter^2; pixel edges are pi / 4 of the length of a boundary on average."""
    padded = np.pad(mask, 1)
    edges = sum(np.count_nonzero(padded != np.roll(padded, 1, axis)) for axis in (0, 1))
    perimeter = math.pi / 4 * edges
    return 4 * math.pi * np.count_nonzero(mask) / perimeter**2
