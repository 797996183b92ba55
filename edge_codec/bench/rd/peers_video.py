"""x265 and SVT-AV1 through PyAV: one stream per slice, its phases as time.

Both are given their best terms: values shifted to fill the depth, tuned for PSNR (no psychovisual
options, no adaptive quantization), no info SEI (up to 0.28 bit per voxel at this frame size).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.bench.rd.case import Case
from edge_codec.bench.rd.levels import Levels
from edge_codec.bench.rd.pieces import Decode, Encode, Parts, Piece, code_pieces
from edge_codec.bench.rd.trial import (
    Codec,
    Coded,
    NotApplicableError,
    Tier,
    Trial,
    UnavailableError,
    timed,
)

MODULES = ("av",)
RATE = 25  # frames per second: the encoders ask for one, and no setting here depends on it

# From some 52 dB to 30, or more at SVT-AV1's end. Far above these x265's frames come out blank.
X265_CRF = (6, 12, 18, 24, 30, 36, 42)
SVT_CRF = (2, 4, 8, 16, 28, 40, 52, 62)
X265_BLOCK = 64  # side of its largest block
PSNR_PARAMS = ":aq-mode=0:psy-rd=0:psy-rdoq=0"


@dataclass(frozen=True, slots=True)
class VideoFormat:
    """An encoder in one mode.

    Attributes
    ----------
    encoder, decoder : str
        FFmpeg's names.
    pixel_formats : tuple of str
        The first that the encoder offers is taken; voxels go into its first plane.
    depth : int
        Bits per sample.
    options : mapping of str to str
        FFmpeg's options of the encoder.
    params_option : str
        Name of the option that holds the library's own parameters.
    params : str
        Those parameters.
    """

    encoder: str
    decoder: str
    pixel_formats: tuple[str, ...]
    depth: int
    options: Mapping[str, str]
    params_option: str
    params: str = ""

    def with_params(self, *params: str) -> dict[str, str]:
        """Return the encoder's options with further parameters of the library."""
        joined = ":".join(filter(None, (self.params, *params)))
        return {**self.options, self.params_option: joined}


def _x265(options: Mapping[str, str], params: str) -> VideoFormat:
    return VideoFormat(
        "libx265",
        "hevc",
        ("gray12le",),
        12,
        options,
        "x265-params",
        f"log-level=none:info=0{params}",
    )


def _svt_av1(structure: int) -> VideoFormat:
    return VideoFormat(
        "libsvtav1", "libdav1d", ("gray10le", "yuv420p10le"), 10, {"preset": "4"},
        "svtav1-params", f"tune=1:pred-struct={structure}",
    )  # fmt: skip


def _low_delay(preset: str, params: str) -> VideoFormat:
    # `tune` is taken by zerolatency, so that what tune=psnr does is spelled out.
    return _x265({"preset": preset, "tune": "zerolatency"}, params)


X265_LOW_DELAY = _low_delay("veryslow", PSNR_PARAMS)
X265_LOW_DELAY_UNTUNED = _low_delay("veryslow", "")
X265_LOW_DELAY_FAST = _low_delay("fast", PSNR_PARAMS)
X265_LOW_DELAY_EXACT = _low_delay("fast", ":lossless=1")
X265_RANDOM_ACCESS = _x265({"preset": "veryslow", "tune": "psnr"}, "")
X265_RANDOM_ACCESS_EXACT = _x265({"preset": "medium"}, ":lossless=1")
SVT_LOW_DELAY = _svt_av1(1)
SVT_RANDOM_ACCESS = _svt_av1(2)


def codecs() -> list[Codec]:
    """Return both encoders, each with and without look-ahead."""
    return [
        _x265_codec("x265-low-delay", "x265, 12 bit, veryslow, zerolatency, tuned for PSNR",
                    X265_LOW_DELAY, X265_LOW_DELAY_EXACT),
        _x265_codec("x265-low-delay-untuned", "the same as x265 comes: tuned for eyes",
                    X265_LOW_DELAY_UNTUNED),
        _x265_codec("x265-low-delay-fast",
                    "the same, tuned for PSNR, preset fast: for live streams", X265_LOW_DELAY_FAST),
        _x265_codec("x265-random-access", "x265, 12 bit, veryslow, tuned for PSNR",
                    X265_RANDOM_ACCESS, X265_RANDOM_ACCESS_EXACT),
        _svt_codec("svt-av1-low-delay", "SVT-AV1, 10 bit, preset 4, low delay", SVT_LOW_DELAY),
        _svt_codec("svt-av1-random-access", "SVT-AV1, 10 bit, preset 4, random access",
                   SVT_RANDOM_ACCESS),
    ]  # fmt: skip


def _x265_codec(
    name: str, summary: str, lossy: VideoFormat, exact: VideoFormat | None = None
) -> Codec:
    every = range(X265_CRF[0], X265_CRF[-1] + 1)
    return Codec(name, summary, MODULES, partial(x265_trials, lossy, exact, X265_CRF),
                 partial(x265_trials, lossy, None, every))  # fmt: skip


def _svt_codec(name: str, summary: str, form: VideoFormat) -> Codec:
    every = range(SVT_CRF[0], SVT_CRF[-1] + 1)
    return Codec(name, summary, MODULES, partial(_svt_trials, form, SVT_CRF),
                 partial(_svt_trials, form, every))  # fmt: skip


def x265_trials(
    lossy: VideoFormat, exact: VideoFormat | None, factors: Sequence[int], threads: int
) -> Sequence[Trial]:
    """Return x265 at rate factors, 0 to 51, and without loss where there is a format for it."""
    # Wavefronts cost bits and serve several threads only.
    pools = "pools=none:wpp=0" if threads == 1 else f"pools={threads}"
    shared = f"{pools}:frame-threads=1"
    found = [_lossy_trial(lossy, lossy.with_params(shared, f"crf={crf}"), crf, threads)
             for crf in factors]  # fmt: skip
    if exact is not None:
        lossless = partial(_code, exact, exact.with_params(shared), threads, Levels.exact)
        found.insert(0, Trial("lossless", Tier.LOSSLESS, lossless, 0, threads))
    return found


def _svt_trials(form: VideoFormat, factors: Sequence[int], threads: int) -> Sequence[Trial]:
    options = form.with_params(f"lp={threads}")
    return [_lossy_trial(form, {**options, "crf": str(crf)}, crf, threads) for crf in factors]


def _lossy_trial(form: VideoFormat, options: dict[str, str], crf: int, threads: int) -> Trial:
    code = partial(_code, form, options, threads, Levels.filling)
    return Trial(f"crf {crf}", Tier.LOSSY, code, None, threads)


def _code(
    form: VideoFormat,
    options: dict[str, str],
    threads: int,
    map_levels: Callable[[Case, int], Levels],
    case: Case,
) -> Coded:
    levels = map_levels(case, form.depth)
    pixels = _pixel_format(form)
    rows, columns = case.voxels.shape[2:]
    if form.encoder == "libx265":
        options = _for_size(options, min(rows, columns))
    coded = code_pieces(
        levels.encode(case.voxels),
        Piece.SLICE,
        lambda: _open_encoder(form, options, pixels, (rows, columns), threads),
        lambda: _open_decoder(form, threads),
    )
    return levels.restore(coded)


def _for_size(options: dict[str, str], side: int) -> dict[str, str]:
    """Return x265's options for frames of a shorter side of so many pixels.

    Found with x265 4 of PyAV 18: its look-ahead writes beyond its buffers on smaller frames; with
    frames one block wide it predicts from a border that its own stream does not describe, and the
    decoded frames drift, lossless ones too.
    """
    if side < X265_BLOCK:
        raise NotApplicableError(f"frames have a side of {side}; x265 is safe from {X265_BLOCK} on")
    if side > X265_BLOCK:
        return options
    return {**options, "x265-params": f"{options['x265-params']}:ctu={X265_BLOCK // 2}"}


def _pixel_format(form: VideoFormat) -> str:
    """Return the first wanted pixel format that the installed encoder offers."""
    import av

    try:
        codec = av.codec.Codec(form.encoder, "w")
        av.codec.Codec(form.decoder, "r")
    except av.codec.codec.UnknownCodecError as error:
        raise UnavailableError(f"PyAV {av.__version__} was built without {error}") from error
    offered = {pixels.name for pixels in codec.video_formats or ()}
    for name in form.pixel_formats:
        if name in offered:
            return name
    raise UnavailableError(
        f"{form.encoder} of PyAV {av.__version__} has no {form.pixel_formats[-1]}"
    )


def _open_encoder(
    form: VideoFormat,
    options: dict[str, str],
    pixels: str,
    frame_shape: tuple[int, int],
    threads: int,
) -> Encode:
    """Return an encoder of one slice's phases.

    Raises
    ------
    UnavailableError
        If the installed library refuses the frame size or does not know a setting.
    """
    import av

    context: Any = av.CodecContext.create(form.encoder, "w")
    context.height, context.width = frame_shape
    context.pix_fmt = pixels
    context.time_base, context.framerate = Fraction(1, RATE), Fraction(RATE)
    context.options = dict(options)
    context.thread_count = threads
    log: list[str] = []
    try:
        with _logged(log), _quiet_svt(), _own_scheduling():
            context.open()
    except av.FFmpegError as error:
        reason = "; ".join(log) or error.strerror
        raise UnavailableError(f"{form.encoder}: {reason}") from error
    refused = [line for line in log if "option" in line.lower()]
    if refused:  # FFmpeg goes on without the option, and would measure something else
        raise UnavailableError(f"{form.encoder}: {'; '.join(refused)}")

    def push(frames: Sequence[Any]) -> Parts:
        packets = [packet for frame in frames for packet in context.encode(frame)]
        packets += context.encode(None)
        return tuple(bytes(packet) for packet in packets)

    def encode(stack: NDArray[Any]) -> tuple[Parts, float]:
        frames = [_to_video(samples, pixels, time) for time, samples in enumerate(stack)]
        return timed(lambda: push(frames))

    return encode


def _open_decoder(form: VideoFormat, threads: int) -> Decode:
    """Return a decoder of one slice's phases."""
    import av

    context: Any = av.CodecContext.create(form.decoder, "r")
    context.thread_count = threads
    context.open()

    def pull(packets: Sequence[Any]) -> list[Any]:
        frames = [frame for packet in packets for frame in context.decode(packet)]
        return [*frames, *context.decode(None)]

    def decode(parts: Parts) -> tuple[NDArray[Any], float]:
        packets = [av.Packet(part) for part in parts]
        frames, milliseconds = timed(lambda: pull(packets))
        return np.stack([_from_video(frame) for frame in frames]), milliseconds

    return decode


def _to_video(samples: NDArray[np.uint16], pixels: str, time: int) -> Any:
    """Return samples as the luma of a frame; chroma, where there is any, is flat."""
    import av

    rows, columns = samples.shape
    frame: Any = av.VideoFrame(columns, rows, pixels)
    for index, plane in enumerate(frame.planes):
        lines = np.frombuffer(plane, np.uint16).reshape(-1, plane.line_size // 2)
        lines[:] = 1 << 9  # the middle of 10 bits
        if index == 0:
            lines[:rows, :columns] = samples
    frame.pts, frame.time_base = time, Fraction(1, RATE)
    return frame


def _from_video(frame: Any) -> NDArray[np.uint16]:
    """Return the luma of a frame."""
    plane: Any = frame.planes[0]
    lines = np.frombuffer(plane, np.uint16).reshape(-1, plane.line_size // 2)
    return lines[: frame.height, : frame.width].copy()


@contextmanager
def _logged(lines: list[str]) -> Iterator[None]:
    """Collect what FFmpeg logs in `lines`, so that it reaches a reason and not the terminal."""
    import av

    level, skipping = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.WARNING)
    av.logging.set_skip_repeated(False)  # each trial needs its reason
    captured: list[tuple[int, str, str]] = []
    try:
        with av.logging.Capture(local=True) as captured:
            yield
    finally:
        av.logging.set_level(level)
        av.logging.set_skip_repeated(skipping)
        lines += [" ".join(message.split()) for _, _, message in captured]


@contextmanager
def _quiet_svt() -> Iterator[None]:
    """Keep SVT-AV1 from printing its configuration; it listens to nothing but this variable."""
    before = os.environ.get("SVT_LOG")
    os.environ["SVT_LOG"] = "0"  # fatal errors only; FFmpeg logs the others again
    try:
        yield
    finally:
        if before is None:
            del os.environ["SVT_LOG"]
        else:
            os.environ["SVT_LOG"] = before


@contextmanager
def _own_scheduling() -> Iterator[None]:
    """Take this thread's scheduling back afterwards.

    SVT-AV1 tries whether it may have real-time threads by making the caller one, and leaves it so:
    as root, all that is measured later in this process would run before everything else.
    """
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)
