"""All decoded frames of a slice at once, made better by what the others show; a file's last step.

Not a part of decoding a frame: whoever takes frame after frame, live or from the middle of a file,
has them as they were painted. Nothing depends on the refined ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.base.titok.canvas import SIDE, canvas_of
from edge_codec.base.titok.coder import samples_of
from edge_codec.engine import NamedEngine
from edge_codec.spec import StreamSpec

STEPS = (1, 2, 4, 8)
"""Phases along time that the network looks ahead and back, around the cycle."""

AGES = 32
"""Frames of a group that the network tells apart by their age; all later ones look alike to it."""

FEWEST, MOST = 8, 64
"""Phases of a slice that are refined; the network saw 8 to 35, and keeps all of them in memory."""

SHOWN = (-1, 3)
"""Values that the network takes; painted frames keep within, whatever a hostile window says."""


@dataclass(frozen=True, slots=True)
class CineRefinement:
    """Goes over whole slices.

    Attributes
    ----------
    network : NamedEngine
        Float network, see `edge_codec.nn.cine_refiner`: frames (phases, 1, 128, 128), `inside`
        (1, 1, 128, 128), `age` (phases,) and `near` (4, 2, phases) to better frames.
    """

    network: NamedEngine

    def refine(self, frames: NDArray[Any], keys: Sequence[bool], spec: StreamSpec) -> NDArray[Any]:
        """Return better frames of a slice.

        Parameters
        ----------
        frames : ndarray, shape (phases, rows, columns), integer
            Stored values as decoded; `FEWEST` to `MOST` phases, a whole heart cycle.
        keys : sequence of bool, one for each phase
            Which of them are key frames; the first one is.
        spec : StreamSpec
            Gives bounds and window.

        Returns
        -------
        ndarray, shape (phases, rows, columns), of the dtype of `frames`
            Detail that the canvas does not show stays as it was.
        """
        canvas = canvas_of(*frames.shape[1:])
        fitted = np.stack([canvas.fit(_shown(frame, spec)) for frame in frames])[:, None]
        fitted = np.clip(fitted, *SHOWN)
        inputs = {
            "frames": fitted,
            "inside": canvas.inside.reshape(1, 1, SIDE, SIDE),
            "age": np.minimum(ages_of(keys), AGES - 1),
            "near": places_near(len(frames)),
        }
        changes = self.network.run(inputs)[:, 0] - fitted[:, 0]
        refined = np.empty_like(frames)
        # Frame by frame, as frames may be large, and only canvases are all needed at once.
        for frame, change, target in zip(frames, changes, refined, strict=True):
            samples = samples_of(_shown(frame, spec) + canvas.restore(change), spec)
            target[:] = _least(spec, frame.dtype) + samples.astype(_unsigned(frame.dtype))
        return refined


def _shown(frame: NDArray[Any], spec: StreamSpec) -> NDArray[np.float32]:
    """Return values of which 0 to 1 is the window."""
    # Modulo 2**n, so that integers of 64 bits lose nothing: the difference is known to fit.
    samples = frame.view(_unsigned(frame.dtype)) - _least(spec, frame.dtype)
    offset, width = spec.window_low - spec.low, spec.window_high - spec.window_low
    shown: NDArray[np.float64] = (samples.astype(np.float64) - offset) / width
    return shown.astype(np.float32)


def _least(spec: StreamSpec, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the stream's least value modulo 2**n, as an array of no axes."""
    return np.array(spec.low % (1 << 8 * dtype.itemsize), _unsigned(dtype))


def _unsigned(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(f"u{dtype.itemsize}")


def ages_of(keys: Sequence[bool]) -> NDArray[np.int64]:
    """Return how many frames after the latest key frame each one stands, (phases,)."""
    every = np.arange(len(keys))
    return every - np.maximum.accumulate(np.where(keys, every, 0))


def places_near(phases: int) -> NDArray[np.int64]:
    """Return the frames that are `STEPS` later and earlier in the cycle, (4, 2, phases)."""
    every, steps = np.arange(phases), np.array(STEPS)[:, None]
    return np.stack([(every + steps) % phases, (every - steps) % phases], axis=1)
