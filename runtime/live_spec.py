"""The description of a live stream's segments, derived from their first frames.

A file is read once for its range of values before it is coded; the future of a live stream cannot
be. So bounds are a power of two with room for values twice as large. They cost nearly nothing, as
the coder learns the values' distribution, and where a later frame exceeds them a new segment
begins, whose first frame is a key frame. Bounds at least double then, up to 32 bits: there can be
few such segments, unless values wander over more than 32 bits.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.io.statistics import Histogram
from edge_codec.runtime.live_frame import LiveFrame
from edge_codec.runtime.live_options import LIVE_BASE_EFFORT, LiveOptions
from edge_codec.runtime.models import decoding_hashes, make_model_data
from edge_codec.spec import CineInfo, StreamSpec

MAX_SPAN = (1 << 32) - 1
LEAST_HIGH = 255  # a first frame may be empty


def make_segment_spec(
    frame: LiveFrame,
    options: LiveOptions,
    geometry: CineInfo | None,
    before: StreamSpec | None = None,
) -> StreamSpec:
    """Describe the segment that begins with a frame.

    Parameters
    ----------
    frame : LiveFrame
        The frame.
    options : LiveOptions
        What was chosen for the stream.
    geometry : CineInfo, optional
        Where the stream's spacing, times, rescaling and source header are taken from.
    before : StreamSpec, optional
        The segment before, whose bounds are kept where the frames are of the same kind.

    Raises
    ------
    SpecError
        If the stream cannot hold the frame.
    EngineError
        If the model cannot code frames of its size.
    """
    info = _make_info(frame, options, geometry, first=before is None)
    low, high = bounds_with_room(frame)
    if before is not None and replace(before.info, n_phases=info.n_phases) == info:
        low, high = min(low, before.low), max(high, before.high)
    if high - low > MAX_SPAN:
        low, high = _widest_bounds(frame)
    window_low, window_high = _window(frame.samples)
    return StreamSpec(
        info,
        low=low,
        high=high,
        model=options.model,
        model_hashes=decoding_hashes(options.model),
        max_error=options.max_error,
        key_interval=options.key_interval,
        effort=options.effort,
        window_low=window_low,
        window_high=window_high,
        model_data=live_model_data(info, options),
    )


def live_model_data(info: CineInfo, options: LiveOptions) -> bytes:
    """Return what the header of a live stream of such frames says of its model."""
    return make_model_data(options.model, info.frame_shape, options.rate, LIVE_BASE_EFFORT)


def bounds_with_room(frame: LiveFrame) -> tuple[int, int]:
    """Return bounds for the frames to come: twice the frame's, rounded up to a power of two.

    They stay within the coded integers' own range. The lower one is 0 where no value is negative.
    """
    limits = np.iinfo(frame.samples.dtype)
    high = (1 << max(2 * frame.high, LEAST_HIGH).bit_length()) - 1
    low = -(1 << (-2 * frame.low - 1).bit_length()) if frame.low < 0 else 0
    return max(low, int(limits.min)), min(high, int(limits.max))


def _widest_bounds(frame: LiveFrame) -> tuple[int, int]:
    """Return bounds as far apart as they may be, with the frame's values in the middle."""
    limits = np.iinfo(frame.samples.dtype)
    spare = MAX_SPAN - (frame.high - frame.low)
    low = max(frame.low - spare // 2, int(limits.min))
    return low, min(low + MAX_SPAN, int(limits.max))


def _make_info(
    frame: LiveFrame,
    options: LiveOptions,
    geometry: CineInfo | None,
    first: bool,
) -> CineInfo:
    rows, columns = frame.samples.shape
    # What comes after a change is not what the opener counted.
    n_phases = options.n_phases if first else 0
    kind: dict[str, Any] = {
        "n_slices": options.n_slices,
        "n_phases": n_phases,
        "rows": rows,
        "columns": columns,
        "dtype": frame.dtype,
        "sample_format": frame.sample_format,
    }
    if geometry is None:
        return CineInfo(**kind)
    return replace(geometry, **kind)


def _window(samples: NDArray[Any]) -> tuple[int, int]:
    histogram = Histogram()
    histogram.add(samples)
    values = histogram.summary()
    return values.p001, max(values.p999, values.p001 + 1)


def is_like(one: StreamSpec, other: StreamSpec) -> bool:
    """Whether two descriptions differ in bounds and window at most: their frames are of a kind."""
    bounds = {name: getattr(other, name) for name in ("low", "high", "window_low", "window_high")}
    return replace(one, **bounds) == other
