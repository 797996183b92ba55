"""The frames of a slice's base layer as a file that players open, not one bit of them changed."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

from edge_codec.base.video.encoders import FRAME_RATE
from edge_codec.base.video.formats import VideoFormat, coded_shape, unpack_model_data
from edge_codec.base.video.libav import load, max_pixels, reason
from edge_codec.errors import BitstreamError, SourceError
from edge_codec.io.atomic import atomic_file
from edge_codec.spec import CineInfo, StreamSpec

_RAW = {"hevc": "hevc", "av1": "obu"}  # FFmpeg's names of plain streams of these codecs

_CONTAINERS = {".mp4": "mp4", ".mkv": "matroska", ".webm": "webm", ".ivf": "ivf"}
_AV1_ONLY = (".webm", ".ivf")
_LONGEST_MS = 60_000.0  # of a frame; times from outside may be too large for a container

PLAYER_SUFFIXES = tuple(_CONTAINERS)
"""Suffixes of the files that can be written."""


def write_player_file(
    spec: StreamSpec, payloads: Iterable[bytes], path: Path, *, force: bool = False
) -> None:
    """Write the frames of one slice, one after the other; the file appears when it is whole.

    Parameters
    ----------
    spec : StreamSpec
        The stream, of model `video`.
    payloads : iterable of bytes
        Of the slice's base layer, in the order of phases, beginning with a key frame.
    path : Path
        Where to; its suffix, of `PLAYER_SUFFIXES`, says which container.
    force : bool
        Whether an existing file may be replaced.

    Raises
    ------
    BitstreamError
        If a payload is not one frame of the stream's size.
    SourceError
        If the container does not hold such video, or the file cannot be written.
    EngineError
        If PyAV is not installed.
    """
    form, parameter_sets = unpack_model_data(spec)
    container = _container(path, form)
    frames = [form.frame_data(payload) for payload in payloads]
    data = parameter_sets + b"".join(frames)
    av = load()
    with (
        atomic_file(path, force=force) as file,
        _opened(av, data, form, coded_shape(spec.info.frame_shape)) as (template, packets),
    ):
        if len(packets) != len(frames):
            raise BitstreamError(
                f"{len(frames)} video payloads give {len(packets)} frames; the stream is damaged"
            )
        try:
            _copy(av, template, packets, file, container, seconds_per_frame(spec.info))
        except (av.FFmpegError, ValueError) as error:
            raise SourceError(f"{path} cannot be written: {reason(error)}") from error


def _container(path: Path, form: VideoFormat) -> str:
    """Return FFmpeg's name of the container that a path asks for."""
    suffix = path.suffix.lower()
    if suffix not in _CONTAINERS:
        raise SourceError(
            f"{path} is no file for players; use a name that ends in {', '.join(PLAYER_SUFFIXES)}"
        )
    if suffix in _AV1_ONLY and form.codec != "av1":
        raise SourceError(
            f"{path}: {suffix} holds AV1 and the stream is {form.codec.upper()}; use a name that "
            "ends in .mp4 or .mkv, or compress with --video-encoder svt-av1"
        )
    return _CONTAINERS[suffix]


@contextmanager
def _opened(
    av: Any, data: bytes, form: VideoFormat, shape: tuple[int, int]
) -> Iterator[tuple[Any, list[Any]]]:
    """Give the only stream of a plain stream's data, and its packets."""
    try:
        # FFmpeg decodes a little of what it opens; no more than the frames that are due.
        limit = {"max_pixels": str(max_pixels(shape))}
        source = av.open(io.BytesIO(data), format=_RAW[form.codec], stream_options=[limit])
    except (av.FFmpegError, ValueError) as error:
        raise BitstreamError(f"the stream's video is damaged: {reason(error)}") from error
    with source:
        template = source.streams.video[0]
        found = template.codec_context.height, template.codec_context.width
        if found != shape:
            raise BitstreamError(
                f"the stream's video is damaged: frames of {found[0]}x{found[1]} instead of "
                f"{shape[0]}x{shape[1]}"
            )
        try:
            packets = [packet for packet in source.demux(template) if packet.size]
        except (av.FFmpegError, ValueError) as error:
            raise BitstreamError(f"the stream's video is damaged: {reason(error)}") from error
        yield template, packets


def _copy(
    av: Any, template: Any, packets: list[Any], file: BinaryIO, container: str, seconds: Fraction
) -> None:
    """Write packets into a container, evenly spaced in time."""
    # Nothing of the moment and of the writing library: the same frames give the same file.
    with av.open(file, "w", format=container, options={"fflags": "+bitexact"}) as target:
        stream = target.add_stream_from_template(template, opaque=True)
        if (template.codec_context.name, container) == ("hevc", "mp4"):
            # Parameter sets stand in the file's head alone: what players of one maker insist on.
            stream.codec_context.codec_tag = "hvc1"
        for number, packet in enumerate(packets):
            packet.stream, packet.time_base = stream, seconds
            packet.pts = packet.dts = number
            packet.duration = 1
            target.mux(packet)


def seconds_per_frame(info: CineInfo) -> Fraction:
    """Return the mean time between phases.

    That of `FRAME_RATE` where it is unknown, or longer than `_LONGEST_MS`.
    """
    times = info.trigger_time_ms
    mean = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 0.0
    if not 0 < mean <= _LONGEST_MS:
        return Fraction(1, FRAME_RATE)
    return Fraction(max(1, round(1000 * mean)), 1_000_000)
