"""A whole stream into a sink, frame by frame.

Memory does not grow with the number of frames, but where slices of `TITOK` are refined whole.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import BinaryIO

from edge_codec.bitstream.container import StreamReader
from edge_codec.codec import Decoder
from edge_codec.errors import BitstreamError
from edge_codec.io import FrameSink
from edge_codec.runtime.coding_order import Ahead
from edge_codec.runtime.frame_reader import DecodedFrame, FrameReader
from edge_codec.runtime.models import check_hashes, load_model, warm_up
from edge_codec.runtime.options import DecompressOptions, TransferReport
from edge_codec.runtime.progress import Progress, silent
from edge_codec.runtime.shared import band_mapper
from edge_codec.runtime.whole_slices import WholeSlices, load_refinement
from edge_codec.spec import StreamSpec

MAX_FILL = 1000  # missing frames that recovery fills in, for each frame that is there


def decode_stream(
    file: BinaryIO,
    open_target: Callable[[StreamSpec], FrameSink],
    options: DecompressOptions,
    progress: Progress = silent,
) -> TransferReport:
    """Decode an open stream into a sink, which is completed, or aborted where decoding fails."""
    reader = StreamReader(file, recover=options.recover)
    spec = _with_phases(reader)
    check_hashes(spec)
    model = load_model(
        spec.model, backend=options.backend, threads=options.threads, decode_only=True
    )
    warm_up(model, spec)
    decoder = Decoder(spec, model, options.preview, band_mapper(options.threads))
    report = TransferReport(spec, stream_bytes=file.seek(0, io.SEEK_END))
    read = FrameReader(reader, decoder, report, recover=options.recover).read
    refinement = load_refinement(spec, options)
    frames = Ahead(spec, read) if refinement is None else WholeSlices(report, read, refinement)
    sink = open_target(_of_base(spec) if options.preview else spec)
    _hand_out(frames, sink, report, progress)
    report.damage[:0] = [f"byte {found.offset}: {found.what}" for found in reader.damage]
    return report


def _hand_out(
    frames: Ahead[DecodedFrame] | WholeSlices,
    sink: FrameSink,
    report: TransferReport,
    progress: Progress,
) -> None:
    """Give all frames to the sink."""
    spec, total = report.spec, report.spec.info.n_slices * report.spec.info.n_phases
    try:
        for slice_index, phase_index in progress(_places(spec), total, "decompress"):
            frame = frames.take(slice_index, phase_index)
            sink.write(slice_index, phase_index, frame.samples, frame.metadata)
            report.frames += 1
        sink.close()
    except BaseException:
        sink.abort()
        raise


def _with_phases(reader: StreamReader) -> StreamSpec:
    """Return the stream's description with the number of phases that it turned out to have."""
    info = replace(reader.spec.info, n_phases=reader.n_phases)
    if info.n_phases == 0:
        raise BitstreamError("the stream has a header and no whole frame")
    if info.n_slices * info.n_phases > MAX_FILL * reader.n_packets:
        raise BitstreamError(
            f"the header promises {info.n_slices} x {info.n_phases} frames and the stream holds "
            f"{reader.n_packets}; too little is left to recover"
        )
    return replace(reader.spec, info=info)


def _of_base(spec: StreamSpec) -> StreamSpec:
    """Describe what a preview shows: the base layer, without the residual layer's promises."""
    return replace(spec, max_error=None, noise_sigma=0.0, snr_loss_percent=0.0, region=None)


def _places(spec: StreamSpec) -> Iterator[tuple[int, int]]:
    """Yield (slice, phase) in the order of NIfTI's voxels, whatever order they were coded in."""
    for phase_index in range(spec.info.n_phases):
        for slice_index in range(spec.info.n_slices):
            yield slice_index, phase_index
