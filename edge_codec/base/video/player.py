"""The frames of a slice's base layer as a file that players open, not one bit of them changed."""

from __future__ import annotations

import io
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

from edge_codec.base.video.encoders import FRAME_RATE
from edge_codec.base.video.formats import unpack_model_data
from edge_codec.base.video.libav import load
from edge_codec.errors import SourceError
from edge_codec.spec import CineInfo, StreamSpec

_RAW = {"hevc": "hevc", "av1": "obu"}  # FFmpeg's names of plain streams of these codecs


def write_player_file(spec: StreamSpec, payloads: Iterable[bytes], path: Path) -> None:
    """Write the frames of one slice, one after the other.

    Parameters
    ----------
    spec : StreamSpec
        The stream, of model `video`.
    payloads : iterable of bytes
        Of the slice's base layer, in the order of phases, beginning with a key frame.
    path : Path
        Where to; its suffix says which container, as `.mp4` or `.mkv`.

    Raises
    ------
    BitstreamError
        If a payload is not one frame.
    SourceError
        If the file cannot be written.
    EngineError
        If PyAV is not installed.
    """
    form, parameter_sets = unpack_model_data(spec)
    data = parameter_sets + b"".join(map(form.frame_data, payloads))
    av = load()
    try:
        with av.open(io.BytesIO(data), format=_RAW[form.codec]) as source:
            _copy(source, av.open(str(path), "w"), _seconds_per_frame(spec.info))
    except (av.FFmpegError, ValueError) as error:
        raise SourceError(
            f"{path} cannot be written ({error}); use a name that ends in .mp4 or .mkv"
        ) from error


def _copy(source: Any, target: Any, seconds: Fraction) -> None:
    """Copy packets into a container, evenly spaced in time."""
    with target:
        template = source.streams.video[0]
        stream = target.add_stream_from_template(template, opaque=True)
        packets = (packet for packet in source.demux(template) if packet.size)
        for number, packet in enumerate(packets):
            packet.stream, packet.time_base = stream, seconds
            packet.pts = packet.dts = number
            packet.duration = 1
            target.mux(packet)


def _seconds_per_frame(info: CineInfo) -> Fraction:
    """Return the mean time between phases, that of `FRAME_RATE` where it is unknown."""
    times = info.trigger_time_ms
    if len(times) < 2 or times[-1] <= times[0]:
        return Fraction(1, FRAME_RATE)
    microseconds = round((times[-1] - times[0]) / (len(times) - 1) * 1000)
    return Fraction(max(1, microseconds), 1_000_000)
