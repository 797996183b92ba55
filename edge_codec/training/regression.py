"""Multinomial logistic regression with a penalty, for few rows, by Newton's method."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
Classes = NDArray[np.int64]

STEPS = 50
TOLERANCE = 1e-10


def fit_regression(
    rows: Doubles, classes: Classes, n_classes: int, penalty: float
) -> tuple[Doubles, Doubles]:
    """Fit weights and biases.

    Parameters
    ----------
    rows : ndarray, shape (n, width), float64
        Scaled to variance 1 or so.
    classes : ndarray, shape (n,), int64
    n_classes : int
    penalty : float
        Half of it times the squared weights is added to the mean negative log-likelihood.

    Returns
    -------
    weights : ndarray, shape (width, n_classes), float64
    bias : ndarray, shape (n_classes,), float64
    """
    n, width = rows.shape
    design = np.concatenate([rows, np.ones((n, 1))], axis=1)
    truth = np.eye(n_classes)[classes]
    costs = np.full((width + 1, n_classes), penalty)
    costs[-1] = 1e-6  # the same added to all biases changes nothing, so they need a hold too
    weights = np.zeros((width + 1, n_classes))
    for _ in range(STEPS):
        likely = softmax(design @ weights)
        slope = design.T @ (likely - truth) / n + costs * weights
        spread = np.eye(n_classes) * likely[:, :, None] - likely[:, :, None] * likely[:, None]
        curvature = np.einsum("ni,nab,nj->iajb", design, spread, design) / n
        size = weights.size
        step = np.linalg.solve(
            curvature.reshape(size, size) + np.diag(costs.ravel()), slope.ravel()
        )
        weights -= step.reshape(weights.shape)
        if np.abs(step).max() < TOLERANCE:
            break
    return weights[:-1], weights[-1]


def softmax(logits: Doubles) -> Doubles:
    """Return probabilities of logits (..., classes)."""
    likely = np.exp(logits - logits.max(axis=-1, keepdims=True))
    normal: Doubles = likely / likely.sum(axis=-1, keepdims=True)
    return normal
