"""A whole source into a stream, frame by frame: memory does not grow with their number."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO

from edge_codec.bitstream.container import StreamWriter
from edge_codec.bitstream.metadata import pack_metadata
from edge_codec.codec import Encoder
from edge_codec.engine import Mapper
from edge_codec.errors import FrameError
from edge_codec.io import FrameSource
from edge_codec.runtime.base_choice import FileEncoder
from edge_codec.runtime.base_rate import BaseRate
from edge_codec.runtime.coding_order import FrameAhead, in_coding_order, looking_ahead
from edge_codec.runtime.models import load_model, make_model_data, rate_report, warm_up
from edge_codec.runtime.options import CompressOptions, TransferReport
from edge_codec.runtime.progress import Progress, silent
from edge_codec.runtime.shared import band_mapper
from edge_codec.runtime.stream_spec import make_spec
from edge_codec.runtime.target_psnr import BaseError, find_quality
from edge_codec.spec import StreamSpec


def encode_stream(
    source: FrameSource, file: BinaryIO, options: CompressOptions, progress: Progress = silent
) -> TransferReport:
    """Write a source as a stream into an open file."""
    spec = make_spec(source, options, progress)
    mapper, rate, quality = band_mapper(options.threads), options.rate, None
    if options.psnr_db is not None:
        quality = _quality_for(options, options.psnr_db, source, spec, mapper, progress)
        rate = BaseRate(quality)
        spec = _of_rate(spec, rate, options)
    report = TransferReport(spec, quality=quality)
    model = load_model(
        spec.model,
        backend=options.backend,
        threads=options.threads,
        rate=rate,
        effort=spec.effort,
        video_encoder=options.chosen_video_encoder,
    )
    warm_up(model, spec)
    error = BaseError()
    watch = error.add if spec.max_error is None else None
    encoder = FileEncoder(spec, model, mapper, options.base_cost_limit, watch)
    writer = StreamWriter(file, spec)
    total = spec.info.n_slices * spec.info.n_phases
    for frame in progress(_frames(source, spec, options), total, "compress"):
        metadata = b""
        if frame.metadata:
            metadata = pack_metadata(frame.metadata, spec.info.source.data)
        start = time.perf_counter()
        packets = encoder.push(frame, metadata)
        report.frame_ms.append(1e3 * (time.perf_counter() - start))
        for packet in packets:
            writer.write(packet)
        report.frames += 1
    if report.frames != total:
        raise FrameError(f"source gave {report.frames} frames, its header says {total}")
    writer.close()
    report.stream_bytes = writer.offset
    report.base_psnr_db = error.psnr_db(spec.high)
    report.rate = rate_report(model)
    report.groups_without_base = encoder.groups_without_base
    return report


def _frames(
    source: FrameSource, spec: StreamSpec, options: CompressOptions
) -> Iterator[FrameAhead]:
    """Yield the frames of a source in the order of coding, with what follows key frames."""
    return in_coding_order(looking_ahead(source.frames(), spec, options.key_look_ahead), spec)


def _quality_for(
    options: CompressOptions,
    psnr_db: float,
    source: FrameSource,
    spec: StreamSpec,
    mapper: Mapper,
    progress: Progress,
) -> int:
    """Code the source until the least quality is found that reaches a PSNR."""

    def measure(quality: int) -> float | None:
        error, rate, video_encoder = BaseError(), BaseRate(quality), options.chosen_video_encoder
        model = load_model(spec.model, rate=rate, effort=spec.effort, video_encoder=video_encoder)
        encoder = Encoder(_of_rate(spec, rate, options), model, mapper, watch=error.add)
        frames, total = _frames(source, spec, options), spec.info.n_slices * spec.info.n_phases
        for frame in progress(frames, total, f"try quality {quality}"):
            encoder.push(frame.samples, frame.slice_index, ahead=frame.ahead)
        return error.psnr_db(spec.high)

    return find_quality(measure, psnr_db)


def _of_rate(spec: StreamSpec, rate: BaseRate, options: CompressOptions) -> StreamSpec:
    """Describe the stream as an encoder of another rate makes it."""
    encoder, shape = options.chosen_video_encoder, spec.info.frame_shape
    model_data = make_model_data(spec.model, shape, rate, spec.effort, encoder)
    return replace(spec, model_data=model_data)
