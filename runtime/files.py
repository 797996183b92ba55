"""Whole files and arrays through the codec, frame by frame.

Memory does not grow with the number of frames, but where slices of `TITOK` are refined whole.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from edge_codec.bitstream.container import StreamReader, StreamWriter
from edge_codec.bitstream.metadata import pack_metadata, unpack_metadata
from edge_codec.bitstream.packet import LayerId, Packet
from edge_codec.cine import Cine
from edge_codec.codec import Decoder, Encoder, coded_dtype
from edge_codec.engine import Mapper
from edge_codec.errors import BitstreamError, FrameError, SourceError, SpecError
from edge_codec.io import FrameSink, FrameSource, open_sink, open_source
from edge_codec.io.atomic import atomic_file
from edge_codec.runtime.base_choice import FileEncoder
from edge_codec.runtime.base_rate import BaseRate
from edge_codec.runtime.coding_order import Ahead, FrameAhead, in_coding_order, looking_ahead
from edge_codec.runtime.memory_sink import MemorySink
from edge_codec.runtime.models import (
    check_hashes,
    load_model,
    make_model_data,
    rate_report,
    warm_up,
)
from edge_codec.runtime.options import (
    CompressOptions,
    DecompressOptions,
    TransferReport,
    parse_effort,
    parse_model,
    parse_tokens_per,
)
from edge_codec.runtime.pick import default_threads
from edge_codec.runtime.progress import Progress, silent
from edge_codec.runtime.shared import share
from edge_codec.runtime.stream_spec import make_spec
from edge_codec.runtime.target_psnr import BaseError, find_quality
from edge_codec.runtime.whole_slices import WholeSlices, load_refinement
from edge_codec.spec import StreamSpec

if TYPE_CHECKING:
    from edge_codec.base.titok.conditions import ClinicalFacts

SOURCE_SUFFIXES = (".nii", ".nii.gz", ".npy", ".h5", ".dcm")
MAX_FILL = 1000  # missing frames that recovery fills in, for each frame that is there


def band_mapper(threads: int | None = None) -> Mapper:
    """Return how to go over the bands of a frame: on several threads where there are any."""
    count = default_threads() if threads is None else threads
    if count < 1:
        raise SpecError(f"threads is {count}; use 1 or more")
    return share(count)


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
    total = _count(spec)
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
        frames = _frames(source, spec, options)
        for frame in progress(frames, _count(spec), f"try quality {quality}"):
            encoder.push(frame.samples, frame.slice_index, ahead=frame.ahead)
        return error.psnr_db(spec.high)

    return find_quality(measure, psnr_db)


def _of_rate(spec: StreamSpec, rate: BaseRate, options: CompressOptions) -> StreamSpec:
    """Describe the stream as an encoder of another rate makes it."""
    encoder, shape = options.chosen_video_encoder, spec.info.frame_shape
    model_data = make_model_data(spec.model, shape, rate, spec.effort, encoder)
    return replace(spec, model_data=model_data)


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
    refinement = load_refinement(spec, options)
    sink = open_target(_of_base(spec) if options.preview else spec)
    lost = _placeholder(spec) if options.recover else None

    def read(slice_index: int, phase_index: int) -> tuple[NDArray[Any], bytes]:
        place = (slice_index, phase_index)
        try:
            return _read(reader, decoder, place, report)
        except (BitstreamError, FrameError) as error:
            if lost is None:
                raise
            report.lose(place, error)
            return lost, b""

    frames: Ahead[tuple[NDArray[Any], bytes]] | WholeSlices = Ahead(spec, read)
    if refinement is not None:
        frames = WholeSlices(report, read, refinement, lost)
    try:
        places: Iterable[tuple[int, int]] = _places(spec)
        for slice_index, phase_index in progress(places, _count(spec), "decompress"):
            frame, metadata = frames.take(slice_index, phase_index)
            sink.write(slice_index, phase_index, frame, metadata)
            report.frames += 1
        sink.close()
    except BaseException:
        sink.abort()
        raise
    report.damage[:0] = [f"byte {found.offset}: {found.what}" for found in reader.damage]
    return report


def _placeholder(spec: StreamSpec) -> NDArray[Any]:
    """Return the frame that stands for every lost one, as many may wait for their turn."""
    frame = np.full(spec.info.frame_shape, spec.low, coded_dtype(spec))
    frame.flags.writeable = False
    return frame


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


def _count(spec: StreamSpec) -> int:
    return spec.info.n_slices * spec.info.n_phases


def _read(
    reader: StreamReader, decoder: Decoder, place: tuple[int, int], report: TransferReport
) -> tuple[NDArray[Any], bytes]:
    """Return a frame and its source header, and time the decoding."""
    packet = reader.read(*place)
    start = time.perf_counter()
    frame = decoder.push(packet)
    report.frame_ms.append(1e3 * (time.perf_counter() - start))
    return frame, _metadata(packet, decoder.spec)


def _metadata(packet: Packet, spec: StreamSpec) -> bytes:
    packed = packet.layers.get(LayerId.METADATA, b"")
    return unpack_metadata(packed, spec.info.source.data) if packed else b""


def compress_file(
    source: Path, target: Path, options: CompressOptions, progress: Progress = silent
) -> TransferReport:
    """Compress a NIfTI, DICOM or npy file or folder into a stream file.

    The target appears only when it is whole.

    Raises
    ------
    SourceError
        If the source cannot be read or kept without loss, or the target exists.
    SpecError, FrameError, EngineError
        If its values, the options or the model do not fit.
    """
    if target.name.lower().endswith(SOURCE_SUFFIXES):
        raise SourceError(f"{target} is to be a stream but named like a source; name it .ecd")
    if target.exists() and target.samefile(source):
        raise SourceError(f"{target} is the source itself; choose another target")
    with atomic_file(target, force=options.force) as file:
        return encode_stream(open_source(source, series=options.series), file, options, progress)


def decompress_file(
    source: Path, target: Path, options: DecompressOptions, progress: Progress = silent
) -> TransferReport:
    """Decompress a stream file into NIfTI, npy or DICOM, chosen by the target's suffix.

    Raises
    ------
    BitstreamError
        If the stream is damaged and `options.recover` is not set.
    SourceError, EngineError
        If the target cannot be written, or the model is not the stream's.
    """
    if target.exists() and target.samefile(source):
        raise SourceError(f"{target} is the stream itself; choose another target")
    with source.open("rb") as file:
        size = file.seek(0, io.SEEK_END)

        def open_target(spec: StreamSpec) -> FrameSink:
            voxel_bytes = (
                _count(spec) * spec.info.rows * spec.info.columns * spec.info.dtype.itemsize
            )
            return open_sink(target, spec, force=options.force, lossy_ratio=voxel_bytes / size)

        return decode_stream(file, open_target, options, progress)


def compress(
    cine: Cine,
    *,
    model: str = "none",
    max_error: int | None = 0,
    snr_loss_percent: float | None = None,
    effort: str = "default",
    quality: int | None = None,
    bits_per_frame: float | None = None,
    psnr_db: float | None = None,
    archive: bool = False,
    look_ahead: int | None = None,
    video_encoder: str | None = None,
    base_cost_percent: float | None = None,
    roi: str | Path | NDArray[Any] | None = None,
    roi_gain: int | None = None,
    roi_max_error: int | None = None,
    patient: ClinicalFacts | None = None,
    tokens_per: str = "frame",
) -> bytes:
    """Compress a cine in memory.

    Parameters
    ----------
    cine : Cine
        The voxels and their geometry.
    model : {'none', 'vqvae', 'dwt-cal', 'video', 'dwt-cal-vae', 'titok'}
        Model of the base layer; 'titok' takes no bound (`max_error` None).
    max_error : int or None
        Bound in stored units, 0 for lossless, None for the base layer alone.
    snr_loss_percent : float, optional
        Loss of signal-to-noise ratio to allow, above 0 and up to 50, instead of `max_error`: the
        bound is derived from the noise of the cine, and 0 where there is too little of it.
    effort : {'fast', 'default', 'best'}
        How hard to work: more is smaller and slower.
    quality : int, optional
        Of the base layer of 'dwt-cal', 'dwt-cal-vae' and 'video', 0 to 63, the best.
    bits_per_frame : float, optional
        Bits that a frame of that base layer may take on average, instead of a quality.
    psnr_db : float, optional
        What that base layer shall reach over the whole cine, instead of a quality, its peak the
        largest voxel; with `max_error` None.
    archive : bool
        Code the heart cycle of 'dwt-cal' as a hierarchy, which is smaller, and cannot be live.
    look_ahead : int, optional
        Phases that a key frame of 'dwt-cal' is filtered with before it is coded: 16 without it, 0
        for none, as live streams do.
    video_encoder : {'x265', 'x265-main10', 'svt-av1', 'nvenc'}, optional
        Encoder of 'video', x265 without it.
    base_cost_percent : float, optional
        How many percent more bytes a group of frames may take with its base layer than with the
        residual layer alone; one that would take more has none. Not with bits per frame. Without
        it 5 of 'dwt-cal' where no quality is chosen, else any.
    roi : 'heart', path or ndarray, optional
        Region of interest, which shall come back better: the heart, found by the segmentation
        network, or a mask of (rows, columns), (slices, rows, columns) or the cine's shape, not 0
        inside. It is coded in squares of 16 x 16.
    roi_gain : int, optional
        Quality steps by which the base layer of 'dwt-cal' is finer in the region, 0 to 63; without
        it 6, or 0 where `roi_max_error` is given.
    roi_max_error : int, optional
        Bound in the region, below `max_error`; 0 for a region without loss.
    patient : edge_codec.base.titok.conditions.ClinicalFacts, optional
        What the networks of 'titok' are told of the patient; it is kept in the stream's header.
    tokens_per : {'frame', 'cine', 'exam'}
        What shares 32 tokens of 'titok': each frame, all phases of a slice, or the whole exam.

    Raises
    ------
    SpecError, FrameError, EngineError
        If the options exclude each other, or the voxels or the model do not fit.
    SourceError
        If the mask does not fit.
    """
    file = io.BytesIO()
    options = CompressOptions(
        parse_model(model),
        max_error,
        effort=parse_effort(effort),
        snr_loss_percent=snr_loss_percent,
        rate=BaseRate(quality, bits_per_frame),
        psnr_db=psnr_db,
        archive=archive,
        look_ahead=look_ahead,
        video_encoder=video_encoder,
        base_cost_percent=base_cost_percent,
        roi=roi,
        roi_gain=roi_gain,
        roi_max_error=roi_max_error,
        patient=patient,
        tokens_per=parse_tokens_per(tokens_per),
    )
    encode_stream(cine, file, options)
    return file.getvalue()


def decompress(data: bytes, *, preview: bool = False) -> Cine:
    """Return the cine of a whole stream in memory; `preview` decodes base layers where possible."""
    sink = MemorySink()
    report = decode_stream(io.BytesIO(data), lambda _: sink, DecompressOptions(preview=preview))
    return sink.cine(report.spec.info)


def read_frame(
    file: BinaryIO, slice_index: int, phase_index: int, *, backend: str = "auto"
) -> NDArray[Any]:
    """Decode one frame of a stream without decoding what it does not depend on.

    Parameters
    ----------
    file : seekable binary file
        The stream.
    slice_index, phase_index : int
        Which frame.

    Returns
    -------
    ndarray, shape (rows, columns), integer
        The stored values.

    Raises
    ------
    FrameError
        If the stream has no such frame.
    """
    reader = StreamReader(file)
    check_hashes(reader.spec)
    decoder = Decoder(reader.spec, load_model(reader.spec.model, backend=backend, decode_only=True))
    frame = None
    for packet in reader.read_chain(slice_index, phase_index):
        frame = decoder.push(packet)
    if frame is None:
        raise FrameError(f"the stream has no frame of slice {slice_index}, phase {phase_index}")
    return np.ascontiguousarray(frame)
