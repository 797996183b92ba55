"""Runs a coder before its first frame, which then is not late, and measures what FAST takes."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.codec import coded_dtype
from edge_codec.runtime.live_coder import FrameCoder, MakeCoder
from edge_codec.runtime.phantom import heart
from edge_codec.spec import ModelId, StreamSpec

FULL_FRAMES = 2  # a key frame and one that follows it
FAST_FRAMES = 3
TOGETHER = 4
GAIN = 0.7  # of the time that frames take one by one is what they may take together, to be worth it


@dataclass(frozen=True, slots=True)
class WarmTimes:
    """What was measured.

    Attributes
    ----------
    before_ns : int
        From a frame until its residual layer begins.
    fast_ns : int
        Coding the residual layer as FAST.
    n_voxels : int
        Of a frame.
    together : int
        How many frames of different slices should be coded together where so many wait.
    """

    before_ns: int
    fast_ns: int
    n_voxels: int
    together: int = 1


def warm_up(make_coder: MakeCoder, spec: StreamSpec) -> WarmTimes:
    """Code some frames of a phantom, with all effort and as FAST.

    Parameters
    ----------
    make_coder : callable
        Makes the coder of a segment.
    spec : StreamSpec
        Gives size, dtype and model of the frames to come.
    """
    rows, columns = spec.info.frame_shape
    dtype = coded_dtype(spec)
    high = min(2047, int(np.iinfo(dtype).max))
    info = replace(spec.info, n_phases=0)
    bounded = replace(spec, info=info, low=0, high=high, window_low=0, window_high=high // 3)
    frames = heart(2, rows, columns, dtype)
    ends: dict[str, int] = {}

    def mark(step: str) -> None:
        ends[step] = time.monotonic_ns()

    coder = make_coder(bounded, mark)
    before, fast = [], []
    for i in range(FULL_FRAMES + FAST_FRAMES):
        ends.clear()
        start_ns = time.monotonic_ns()
        coder.push(frames[i % 2], give_up_ns=None if i < FULL_FRAMES else start_ns)
        begun_ns = ends.get("infer", ends["normalize"])
        before.append(begun_ns - start_ns)
        fast.append(ends.get("code", begun_ns) - begun_ns)
    together = 1
    if spec.model is not ModelId.NONE and spec.info.n_slices >= TOGETHER:
        alone_ns = min(before[FULL_FRAMES:])
        if _time_together(coder, frames[0], ends) < GAIN * TOGETHER * alone_ns:
            together = TOGETHER
    return WarmTimes(max(before[FULL_FRAMES:]), max(fast[FULL_FRAMES:]), rows * columns, together)


def _time_together(coder: FrameCoder, frame: NDArray[Any], ends: dict[str, int]) -> int:
    """Return how long the networks take for frames of several slices at once."""
    for _ in range(2):  # the first time, engines prepare for inputs of this shape
        start_ns = time.monotonic_ns()
        coder.push_many([(i, frame) for i in range(TOGETHER)], give_up_ns=start_ns)
        taken_ns = ends["infer"] - start_ns
    return taken_ns
