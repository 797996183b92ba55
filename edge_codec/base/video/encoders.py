"""The encoders of model `video`, and the settings that make each a low-delay one.

Each gives a packet for every frame at once, never inserts a key frame of its own, and is tuned for
mean squared error: no psychovisual options and no adaptive quantization, which put bits where an
eye of everyday scenes looks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edge_codec.base.video.formats import AV1_10, HEVC_10, HEVC_12, MIN_SIDE, VideoFormat
from edge_codec.errors import SpecError
from edge_codec.spec import Effort

MAX_QUALITY = 63
FRAME_RATE = 25
"""Frames per second that the encoders are told. No setting depends on it."""

_X265_PRESETS = {Effort.FAST: "superfast", Effort.DEFAULT: "slow", Effort.BEST: "veryslow"}
_SVT_PRESETS = {Effort.FAST: "8", Effort.DEFAULT: "4", Effort.BEST: "2"}
_NVENC_PRESETS = {Effort.FAST: "p1", Effort.DEFAULT: "p5", Effort.BEST: "p7"}


@dataclass(frozen=True, slots=True)
class EncoderSetup:
    """An encoder and how to call it.

    Attributes
    ----------
    library : str
        FFmpeg's name of the encoder.
    form : VideoFormat
        What it makes.
    pixel_format : str
        What it takes: 16-bit words, the samples in the first plane.
    shift : int
        Bits of a word below those of the sample.
    options : mapping of str to str
        FFmpeg's options.
    """

    library: str
    form: VideoFormat
    pixel_format: str
    shift: int
    options: Mapping[str, str]


def _hevc_quantizer(quality: int) -> int:
    """Return the QP of H.265, 44 to 2: each is a factor of 2^(1/6) of the step."""
    return 44 - (2 * quality + 1) // 3


def _x265(form: VideoFormat, effort: Effort, quality: int, short_side: int) -> EncoderSetup:
    params = {
        "log-level": "none", "info": 0, "repeat-headers": 0,
        "keyint": -1, "scenecut": 0, "open-gop": 0,
        "frame-threads": 1, "pools": "none", "wpp": 0,
        "aq-mode": 0, "psy-rd": 0, "psy-rdoq": 0,
        "qp": _hevc_quantizer(quality),
    }  # fmt: skip
    if short_side == MIN_SIDE:
        # With frames one block wide it predicts from a border that its stream does not describe.
        params["ctu"] = MIN_SIDE // 2
    joined = ":".join(f"{name}={value}" for name, value in params.items())
    options = {"preset": _X265_PRESETS[effort], "tune": "zerolatency", "x265-params": joined}
    return EncoderSetup("libx265", form, form.pixel_format, 0, options)


def _x265_12(effort: Effort, quality: int, short_side: int) -> EncoderSetup:
    return _x265(HEVC_12, effort, quality, short_side)


def _x265_10(effort: Effort, quality: int, short_side: int) -> EncoderSetup:
    return _x265(HEVC_10, effort, quality, short_side)


def _svt_av1(effort: Effort, quality: int, short_side: int) -> EncoderSetup:
    del short_side
    params = "tune=1:pred-struct=1:lp=1:keyint=-1:scd=0"
    # All its range. Up to quality 32 a frame is about as good as that of H.265, then coarser.
    crf = str(max(1, MAX_QUALITY - quality))
    options = {"preset": _SVT_PRESETS[effort], "crf": crf, "svtav1-params": params}
    return EncoderSetup("libsvtav1", AV1_10, AV1_10.pixel_format, 0, options)


def _nvenc(effort: Effort, quality: int, short_side: int) -> EncoderSetup:
    del short_side
    options = {
        "preset": _NVENC_PRESETS[effort], "tune": "ull", "profile": "main10",
        "delay": "0", "zerolatency": "1", "bf": "0", "g": "1000000", "no-scenecut": "1",
        "rc": "constqp", "qp": str(_hevc_quantizer(quality)),
    }  # fmt: skip
    return EncoderSetup("hevc_nvenc", HEVC_10, "p010le", 6, options)


ENCODERS: dict[str, Callable[[Effort, int, int], EncoderSetup]] = {
    "x265": _x265_12,
    "x265-main10": _x265_10,
    "svt-av1": _svt_av1,
    "nvenc": _nvenc,
}
"""By their names on the command line: x265 of 12 bits, gray; of 10 bits with flat color, for
players that decode on a chip; SVT-AV1 of 10 bits; and NVENC, of 10 bits. The last was never run: no
machine with one was at hand."""

DEFAULT_ENCODER = "x265"


def encoder_setup(name: str, effort: Effort, quality: int, shape: tuple[int, int]) -> EncoderSetup:
    """Return how to call an encoder.

    Parameters
    ----------
    name : str
        A key of `ENCODERS`.
    effort : Effort
        How hard it searches.
    quality : int
        0 to `MAX_QUALITY`, the best, of all frames.
    shape : (int, int)
        Rows and columns of the frames it takes.

    Raises
    ------
    SpecError
        If there is no such encoder or quality.
    """
    if not 0 <= quality <= MAX_QUALITY:
        raise SpecError(f"quality is {quality}; use 0 to {MAX_QUALITY}, the best")
    if name not in ENCODERS:
        raise SpecError(f"video encoder '{name}' is unknown; use one of {', '.join(ENCODERS)}")
    return ENCODERS[name](effort, quality, min(shape))


def encoders_of(form: VideoFormat) -> list[str]:
    """Return the names of the encoders that make a format."""
    setups = {name: setup(Effort.DEFAULT, 0, MIN_SIDE) for name, setup in ENCODERS.items()}
    return [name for name, setup in setups.items() if setup.form is form]
