"""The region of interest of a file: the heart, found by the segmentation network, or a mask.

A slice has one region for all of its phases: whatever is inside at any of them. The heart is taken
with a margin; slices without a heart have no region.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.cine import Cine
from edge_codec.errors import SourceError, SpecError
from edge_codec.io import FrameSource, open_source
from edge_codec.io.npy import read_array_header
from edge_codec.metrics.motion import dilated
from edge_codec.region import Region
from edge_codec.runtime.options import CompressOptions
from edge_codec.runtime.progress import Progress
from edge_codec.spec import CineInfo, ModelId

HEART = "heart"
HEART_MARGIN = 4  # pixels around the labels of the network; squares add some more
DEFAULT_GAIN = 6


def find_region(source: FrameSource, options: CompressOptions, progress: Progress) -> Region | None:
    """Return the region that options ask for; None without one, and where there is no heart.

    Parameters
    ----------
    source : FrameSource
        The cine, which is read once more, and for the heart as a whole.
    options : CompressOptions
        `roi`, and what shall hold in it.
    progress : callable
        Wraps the frames.

    Raises
    ------
    SourceError
        If a mask cannot be read, is empty, or has another size than the cine.
    EngineError
        If the segmentation network is not there.
    """
    if options.roi is None:
        return None
    if isinstance(options.roi, str) and options.roi == HEART:
        mask = _heart(source, options, progress)
        if not mask.any():
            return None
    else:
        mask = read_mask(options.roi, source.info)
    return Region.of_mask(mask, chosen_gain(options), options.roi_max_error)


def chosen_gain(options: CompressOptions) -> int:
    """Return the quality steps by which a base layer is finer in the region."""
    if options.roi_gain is not None:
        return options.roi_gain
    usual = options.model is ModelId.DWT_CAL and options.roi_max_error is None
    return DEFAULT_GAIN if usual else 0


def _heart(source: FrameSource, options: CompressOptions, progress: Progress) -> NDArray[np.bool_]:
    """Return where the heart is in any phase of a slice, shape (slices, rows, columns)."""
    from edge_codec.runtime.segmenter import load_segmenter

    segmenter = load_segmenter(options.threads)
    labels = segmenter.exam(Cine.from_source(source).voxels, progress)
    heart: NDArray[np.bool_] = np.any(labels > 0, axis=1)
    return dilated(heart, HEART_MARGIN)


def read_mask(roi: str | Path | NDArray[Any], info: CineInfo) -> NDArray[np.bool_]:
    """Return a mask of a cine's size, from an array or a file.

    Parameters
    ----------
    roi : ndarray or path
        Other than 0 inside: (rows, columns) for all slices, (slices, rows, columns), or with
        phases, which are united; a path names a `.npy` file, or one of the formats of a cine.
    info : CineInfo
        The cine.

    Returns
    -------
    ndarray, shape (slices, rows, columns), bool

    Raises
    ------
    SourceError
        If the file cannot be read, or the mask is empty, of another size, or holds what is no
        number.
    """
    name = "the mask" if isinstance(roi, np.ndarray) else f"the mask {roi}"
    values = roi if isinstance(roi, np.ndarray) else _load(Path(roi))
    if values.dtype.kind not in "biuf" or not np.isfinite(values).all():
        raise SourceError(f"{name} holds {values.dtype} that are not all numbers; write 0 and 1")
    inside = values != 0
    if inside.ndim == 4:
        inside = inside.any(axis=1)
    if inside.ndim == 3 and info.n_slices == 1:
        inside = inside.any(axis=0)
    expected = (info.n_slices, *info.frame_shape)
    if inside.ndim not in (2, 3) or inside.shape != expected[-inside.ndim :]:
        raise SourceError(
            f"{name} has shape {values.shape}; expected that of the cine, {expected[0]} slices of "
            f"{expected[1]}x{expected[2]}, with or without phases"
        )
    if not inside.any():
        raise SourceError(f"{name} has nothing inside: all of it is 0; leave it out")
    return np.broadcast_to(inside, expected)


def _load(path: Path) -> NDArray[Any]:
    """Return the values of a mask's file."""
    if path.suffix.lower() != ".npy":
        return Cine.from_source(open_source(path)).voxels
    try:
        with path.open("rb") as file:
            shape, _, dtype = read_array_header(file)
            if dtype.kind not in "biu":
                raise SourceError(f"it has values of {dtype}; a mask has integers or booleans")
            # Before the array is made, as the header may say anything.
            promised = file.tell() + math.prod(shape) * dtype.itemsize
            size = os.fstat(file.fileno()).st_size
            if min(shape, default=0) < 0 or promised != size:
                raise SourceError(f"it has {size} bytes, its header says {promised}")
            file.seek(0)
            values: NDArray[Any] = np.load(file, allow_pickle=False)
    except (OSError, ValueError, SourceError) as error:
        raise SourceError(f"{path} cannot be read as a mask: {error}") from error
    return values


def check_roi(options: CompressOptions) -> None:
    """Refuse what cannot hold in a region, before anything is read.

    Raises
    ------
    SpecError
        If options of the region exclude each other, or the model does not offer them.
    """
    gain, bound = options.roi_gain, options.roi_max_error
    if options.roi is None:
        if gain is not None or bound is not None:
            raise SpecError("roi_gain and roi_max_error need a region; give roi (--roi) as well")
        return
    if gain and options.model is not ModelId.DWT_CAL:
        raise SpecError(
            f"model '{options.model.label}' has one quality for whole frames; use model dwt-cal "
            "for roi_gain"
        )
    if bound is not None and options.max_error is None:
        raise SpecError(
            "roi_max_error is for a residual layer; give a larger max_error (--max-error), or a "
            "roi_gain alone"
        )
    if not chosen_gain(options) and bound is None:
        raise SpecError(
            "nothing would differ in the region: give roi_max_error below max_error "
            "(--roi-max-error below --max-error), or model dwt-cal with a roi_gain"
        )
