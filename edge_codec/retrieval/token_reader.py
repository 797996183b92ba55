"""Sizes of the heart's parts, read from what is known of a frame by a small network in NumPy.

Each of the 32 tokens stands for a place of the canvas, 16 rows by 32 columns, which its latent
starts from. The network looks at what is known of each place (`listener`), in the frame and on
average over the slice's phases, lets the places tell each other by
products with learned matrices (a mixer: Tolstikhin et al., 2021, "MLP-Mixer: An all-MLP
architecture for vision"), and says which share of each place RV, myocardium and LV take.
No frame is painted on the way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_codec.errors import EngineError
from edge_codec.retrieval.exam_tokens import TOKENS
from edge_codec.retrieval.listener import KNOWN

PARTS_OF_HEART = ("RV", "myocardium", "LV")
"""In the order of their labels, 1 to 3."""
WIDTH = 48
BLOCKS = 2

Floats = NDArray[np.float32]

WEIGHTS: dict[str, tuple[int, ...]] = {
    "enter": (2 * KNOWN, WIDTH),
    "places": (TOKENS, WIDTH),
    **{
        f"{name}{block}": shape
        for block in range(BLOCKS)
        for name, shape in (
            ("gather", (2 * TOKENS, TOKENS)),
            ("spread", (TOKENS, 2 * TOKENS)),
            ("widen", (WIDTH, 2 * WIDTH)),
            ("widen_bias", (2 * WIDTH,)),
            ("narrow", (2 * WIDTH, WIDTH)),
        )
    },
    "leave": (WIDTH, len(PARTS_OF_HEART)),
    "leave_bias": (len(PARTS_OF_HEART),),
}
"""Names and shapes of the network's weights."""


@dataclass(frozen=True, slots=True, eq=False)
class TokenReader:
    """Reads sizes.

    Attributes
    ----------
    weights : mapping of str to ndarray, float32
        Of the names and shapes of `WEIGHTS`.

    Raises
    ------
    EngineError
        If one is missing or has another shape.
    """

    weights: Mapping[str, Floats]

    def __post_init__(self) -> None:
        """Refuse weights of something else."""
        for name, shape in WEIGHTS.items():
            found = np.shape(self.weights[name]) if name in self.weights else None
            if found != shape:
                raise EngineError(f"weights '{name}' are {found}, expected {shape}; reinstall")

    def shares(self, known: Floats) -> Floats:
        """Return which share of each token's place each part of the heart takes.

        Parameters
        ----------
        known : ndarray, shape (slices, phases, 32, KNOWN), float32
            As `Listener.listen` returns it.

        Returns
        -------
        ndarray, shape (slices, phases, 32, 3), float32, 0..1
        """
        return np.stack([self._run(rows) for rows in with_mean(known)])

    def _run(self, seen: Floats) -> Floats:
        """Shares of the frames of a slice: (phases, 32, 2 KNOWN) to (phases, 32, 3)."""
        weights = self.weights
        known = seen @ weights["enter"] + weights["places"]
        for block in range(BLOCKS):
            told = np.maximum(weights[f"gather{block}"] @ normalized(known), 0)
            known = known + weights[f"spread{block}"] @ told
            wide = normalized(known) @ weights[f"widen{block}"] + weights[f"widen_bias{block}"]
            known = known + np.maximum(wide, 0) @ weights[f"narrow{block}"]
        logits = normalized(known) @ weights["leave"] + weights["leave_bias"]
        shares: Floats = 1 / (1 + np.exp(-np.clip(logits, -30, 30)))
        return shares


def with_mean(known: Floats) -> Floats:
    """Put what is known of each frame beside its mean over the phases: (..., 32, 2 KNOWN)."""
    mean = np.broadcast_to(known.mean(axis=1, keepdims=True), known.shape)
    both: Floats = np.concatenate([known, mean], axis=-1)
    return both


def normalized(known: Floats) -> Floats:
    """Return rows less their mean over their standard deviation (+ 1e-5 in the variance)."""
    centered = known - known.mean(axis=-1, keepdims=True)
    variance = np.square(centered).mean(axis=-1, keepdims=True)
    even: Floats = centered / np.sqrt(variance + np.float32(1e-5))
    return even
