"""Axes on which the same thing stays and different things part: Fisher's discriminant, shrunk."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_codec.errors import TrainingError

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


class Scatter:
    """Sums over rows of which some show the same thing; rows come in portions.

    Parameters
    ----------
    width : int
        Of the rows.
    """

    def __init__(self, width: int) -> None:
        self._count = 0
        self._sum = np.zeros(width)
        self._total = np.zeros((width, width))
        self._within = np.zeros((width, width))

    def add(self, rows: Floats, things: NDArray[np.int64]) -> None:
        """Add all rows of some things.

        Parameters
        ----------
        rows : ndarray, shape (n, width), float32
        things : ndarray, shape (n,), int64
            Which rows show the same; all rows of a thing come in one call.
        """
        _, inverse, counts = np.unique(things, return_inverse=True, return_counts=True)
        means = np.zeros((len(counts), rows.shape[1]), np.float32)
        np.add.at(means, inverse, rows)
        means /= counts[:, None]
        apart = rows - means[inverse]
        self._count += len(rows)
        self._sum += rows.sum(axis=0)
        self._total += rows.T @ rows
        self._within += apart.T @ apart

    def axes(self, dim: int, shrinkage: float) -> tuple[Floats, Floats]:
        """Return the mean and the best axes.

        Parameters
        ----------
        dim : int
            How many axes.
        shrinkage : float
            What is added to the variances within things, in mean variances of the rows.

        Returns
        -------
        mean : ndarray, shape (width,), float32
        axes : ndarray, shape (width, dim), float32
            Of variance 1 within things; the first parts them most.

        Raises
        ------
        TrainingError
            If there are fewer rows than axes.
        """
        if self._count <= dim:
            raise TrainingError(f"{self._count} rows do not give {dim} axes; use more exams")
        mean = self._sum / self._count
        total = self._total / self._count - np.outer(mean, mean)
        within = self._within / self._count
        within[np.diag_indices_from(within)] += shrinkage * np.trace(total) / len(total)
        variances, directions = np.linalg.eigh(within)
        whitening = directions / np.sqrt(variances)
        best = np.linalg.eigh(whitening.T @ total @ whitening)[1][:, ::-1][:, :dim]
        axes: Doubles = whitening @ best
        # The sign of an axis means nothing; its largest number is made positive.
        axes *= np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(dim)])
        return mean.astype(np.float32), axes.astype(np.float32)
