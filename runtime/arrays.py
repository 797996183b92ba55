"""Cines and single frames in memory: the interface for Python."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from edge_codec.bitstream.container import StreamReader
from edge_codec.cine import Cine
from edge_codec.codec import Decoder
from edge_codec.errors import FrameError
from edge_codec.runtime.base_rate import BaseRate
from edge_codec.runtime.memory_sink import MemorySink
from edge_codec.runtime.models import check_hashes, load_model
from edge_codec.runtime.options import (
    CompressOptions,
    DecompressOptions,
    parse_effort,
    parse_model,
    parse_tokens_per,
)
from edge_codec.runtime.stream_decoding import decode_stream
from edge_codec.runtime.stream_encoding import encode_stream

if TYPE_CHECKING:
    from edge_codec.base.titok.conditions import ClinicalFacts


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
    options = CompressOptions(
        parse_model(model), max_error, effort=parse_effort(effort), archive=archive,
        rate=BaseRate(quality, bits_per_frame), psnr_db=psnr_db, snr_loss_percent=snr_loss_percent,
        look_ahead=look_ahead, video_encoder=video_encoder, base_cost_percent=base_cost_percent,
        roi=roi, roi_gain=roi_gain, roi_max_error=roi_max_error,
        patient=patient, tokens_per=parse_tokens_per(tokens_per),
    )  # fmt: skip
    file = io.BytesIO()
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
