"""Slices of a `titok` file, decoded whole before their first frame is handed out, and refined.

Only files that say that they hold a whole heart cycle are refined. Everything else comes as it was
painted: live streams, single frames, previews, slices of which a frame is lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from edge_codec.base.titok.conditions import unpack_facts
from edge_codec.base.titok.refining import FEWEST, MOST, CineRefinement
from edge_codec.manifest import load_manifest
from edge_codec.runtime.float_network import load_network
from edge_codec.runtime.frame_reader import DecodedFrame
from edge_codec.runtime.options import DecompressOptions, TransferReport
from edge_codec.spec import ModelId, StreamSpec

REFINER = "refiner.onnx"
MOST_VOXELS = 1 << 27
"""Of an exam that is refined: all its frames are kept, as files go phase by phase."""

Read = Callable[[int, int], DecodedFrame]


class WholeSlices:
    """Reads all phases of a slice when its first is asked for, refines them, hands them out.

    Parameters
    ----------
    report : TransferReport
        Of the stream, its number of phases known. Refined slices are counted there, and the time
        that this takes is added to their frames.
    read : callable
        (slice index, phase index) -> a frame, in rising order of phases.
    refinement : CineRefinement
    """

    def __init__(self, report: TransferReport, read: Read, refinement: CineRefinement) -> None:
        self._report, self._read, self._refinement = report, read, refinement
        self._waiting: dict[tuple[int, int], DecodedFrame] = {}

    def take(self, slice_index: int, phase_index: int) -> DecodedFrame:
        """Return a frame, each once; phases in rising order only."""
        if phase_index == 0:
            self._read_slice(slice_index)
        return self._waiting.pop((slice_index, phase_index))

    def _read_slice(self, slice_index: int) -> None:
        phases = range(self._report.spec.info.n_phases)
        frames = [self._read(slice_index, phase) for phase in phases]
        if not any(frame.lost for frame in frames):
            frames = self._refined(frames)
        self._waiting.update({(slice_index, phase): frames[phase] for phase in phases})

    def _refined(self, frames: list[DecodedFrame]) -> list[DecodedFrame]:
        """Return better frames of the slice that was read last."""
        report, start = self._report, time.perf_counter()
        painted = np.stack([frame.samples for frame in frames])
        better = self._refinement.refine(painted, [frame.key for frame in frames], report.spec)
        share = 1e3 * (time.perf_counter() - start) / len(frames)
        report.frame_ms[-len(frames) :] = [ms + share for ms in report.frame_ms[-len(frames) :]]
        report.refined_slices += 1
        pairs = zip(frames, better, strict=True)
        return [replace(frame, samples=samples) for frame, samples in pairs]


def load_refinement(spec: StreamSpec, options: DecompressOptions) -> CineRefinement | None:
    """Return what refines the slices of a stream; None where they stay as they are painted.

    Raises
    ------
    EngineError
        If the network's file is missing or altered, or the backend is not there.
    BitstreamError
        If the stream's header holds impossible facts.
    """
    if spec.model is not ModelId.TITOK or options.preview:
        return None
    info = spec.info
    is_cycle = unpack_facts(spec.model_data).n_phases == info.n_phases
    voxels = info.n_slices * info.n_phases * info.rows * info.columns
    if not (is_cycle and FEWEST <= info.n_phases <= MOST and voxels <= MOST_VOXELS):
        return None
    manifest = load_manifest(ModelId.TITOK)
    if REFINER not in manifest.hashes:  # networks that nobody trained one for yet
        return None
    network = load_network(manifest.read(REFINER), options.backend, options.threads)
    return CineRefinement(network)
