"""Integer wavelets modulo 2**32: the steps of `edge_codec.transform.wavelet` without its refusals.

Bands are (ll, hl, lh, hh).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.transform import wavelet

Bands = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]


def analyze2d(frames: NDArray[Any]) -> Bands:
    """Split frames, shape (n, rows, columns), into the subbands of one level."""
    low, high = wavelet.lift(frames.astype(np.int32), axis=-2)
    ll, hl = wavelet.lift(low, axis=-1)
    lh, hh = wavelet.lift(high, axis=-1)
    return ll, hl, lh, hh


def synthesize2d(bands: Bands) -> NDArray[np.int32]:
    """Undo `analyze2d`."""
    ll, *detail = bands
    return wavelet.synthesize2d(ll, wavelet.Detail(*detail))


def analyze_time(frames: NDArray[Any]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Split a sequence of frames into means and differences of its pairs."""
    return wavelet.haar(frames.astype(np.int32))


def analyze3d(frames: NDArray[Any]) -> Bands:
    """Split a sequence in time, then each low frame and then each high frame in space."""
    return analyze2d(np.concatenate(analyze_time(frames)))


def synthesize3d(bands: Bands) -> NDArray[np.int32]:
    """Undo `analyze3d`."""
    frames = synthesize2d(bands)
    half = (len(frames) + 1) // 2
    return wavelet.synthesize_time(frames[:half], frames[half:])
