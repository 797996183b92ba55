"""The segmentation network as the evaluation calls it.

Original and decoded frames go through the same call, each exam with the window that the network
takes from the very voxels it is given: what a user who has the decoded exam alone would get.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.bench.evaluate.expert import Labels
from edge_codec.errors import FrameError

# Voxels (slices, phases, rows, columns) -> labels of the same shape, uint8.
Segment = Callable[[NDArray[Any]], Labels]


@dataclass(frozen=True, slots=True)
class Network:
    """A network, and what a record says of it.

    Attributes
    ----------
    segment : callable
        Voxels (slices, phases, rows, columns) to labels of the same shape, uint8.
    name : str
        Backend, precision and threads.
    sha256 : str
        Of its file.
    """

    segment: Segment
    name: str
    sha256: str


def load_network(threads: int | None = None) -> Network:
    """Load the segmentation network of the zoo.

    Raises
    ------
    EngineError
        If the network is missing or altered, or no backend is installed.
    """
    from edge_codec.manifest import load_manifest
    from edge_codec.runtime.segmenter import MODEL, NETWORK, load_segmenter

    segmenter = load_segmenter(threads)
    return Network(segmenter.exam, segmenter.name, load_manifest(MODEL).hashes[NETWORK])


def segmented(segment: Segment, voxels: NDArray[Any]) -> Labels:
    """Return the network's labels of voxels.

    Raises
    ------
    FrameError
        If it gives labels of another shape.
    """
    labels = segment(voxels)
    if labels.shape != voxels.shape:
        raise FrameError(
            f"the segmentation has shape {labels.shape}, expected {voxels.shape} of the voxels"
        )
    return np.asarray(labels, np.uint8)
