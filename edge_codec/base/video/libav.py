"""The only way to PyAV: contexts of FFmpeg that take a frame and give it at once.

Whatever goes wrong inside comes out as an error of this package.
"""

from __future__ import annotations

import os
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.base.video.encoders import FRAME_RATE, EncoderSetup
from edge_codec.base.video.formats import VideoFormat
from edge_codec.errors import BitstreamError, EngineError

_NEUTRAL = 1 << 9  # chroma of a gray frame of 10 bits
_MARGIN = 64  # rows and columns that a decoder may add to a frame for its own convenience


def load() -> Any:
    """Return the module `av`.

    Raises
    ------
    EngineError
        If it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise EngineError(
            f"model 'video' needs PyAV ({error}): pip install 'edge-codec[video]'"
        ) from error
    return av


class VideoEncoder:
    """Encodes the frames of one group: the first is a key frame, no other is.

    Parameters
    ----------
    setup : EncoderSetup
        Which encoder.
    shape : (int, int)
        Rows and columns of the frames.

    Raises
    ------
    EngineError
        If the installed library lacks the encoder or refuses the frame size.
    """

    def __init__(self, setup: EncoderSetup, shape: tuple[int, int]) -> None:
        self._av = load()
        self._setup = setup
        self._shape = shape
        self._time = 0
        # Else SVT-AV1 prints its settings, and that a group ended early; it heeds nothing else.
        os.environ.setdefault("SVT_LOG", "0")
        try:
            self._context = self._open()
        except (self._av.FFmpegError, ValueError) as error:
            raise EngineError(
                f"{setup.library} of PyAV {self._av.__version__} cannot be opened for frames of "
                f"{shape[0]}x{shape[1]} ({reason(error)}); choose another video encoder or model"
            ) from error

    def _open(self) -> Any:
        context: Any = self._av.CodecContext.create(self._setup.library, "w")
        context.height, context.width = self._shape
        context.pix_fmt = self._setup.pixel_format
        context.time_base, context.framerate = Fraction(1, FRAME_RATE), Fraction(FRAME_RATE)
        context.color_range = self._av.video.reformatter.ColorRange.JPEG  # all levels are used
        context.options = dict(self._setup.options)
        context.thread_count = 1
        if self._setup.form.codec == "hevc":
            context.flags |= self._av.codec.context.Flags.global_header
        context.open()
        return context

    @property
    def parameter_sets(self) -> bytes:
        """What a decoder must be given before the first frame."""
        return bytes(self._context.extradata or b"")

    def encode(self, levels: NDArray[np.uint16]) -> bytes:
        """Return the data of the next frame, its prefix left out.

        Raises
        ------
        EngineError
            If the encoder fails, or holds the frame back.
        """
        library, prefix = self._setup.library, self._setup.form.prefix
        try:
            packets = self._context.encode(self._frame(levels))
        except (self._av.FFmpegError, ValueError) as error:
            raise EngineError(f"{library} failed on frame {self._time}: {reason(error)}") from error
        data = b"".join(map(bytes, packets))
        if len(packets) != 1 or not data.startswith(prefix):
            raise EngineError(
                f"{library} gave {len(packets)} packets, beginning with {data[:8].hex()}, for a "
                f"frame; 1 that begins with {prefix.hex()} expected: choose another video encoder"
            )
        self._time += 1
        return data[len(prefix) :]

    def _frame(self, levels: NDArray[np.uint16]) -> Any:
        """Return levels as the luma of a frame; chroma, where there is any, is flat."""
        rows, columns = self._shape
        frame: Any = self._av.VideoFrame(columns, rows, self._setup.pixel_format)
        luma, *chroma = (_words(plane) for plane in frame.planes)
        np.left_shift(levels, self._setup.shift, out=luma[:rows, :columns])
        for plane in chroma:
            plane[:] = _NEUTRAL << self._setup.shift
        frame.pts, frame.time_base = self._time, Fraction(1, FRAME_RATE)
        return frame


class VideoDecoder:
    """Decodes the frames of one group.

    Parameters
    ----------
    form : VideoFormat
        What it decodes.
    parameter_sets : bytes
        From the stream's header.
    shape : (int, int)
        Rows and columns of the frames.

    Raises
    ------
    EngineError
        If the installed library lacks the decoder.
    BitstreamError
        If it refuses the parameter sets.
    """

    def __init__(self, form: VideoFormat, parameter_sets: bytes, shape: tuple[int, int]) -> None:
        self._av = load()
        self._form = form
        self._shape = shape
        try:
            context: Any = self._av.CodecContext.create(form.decoder, "r")
        except ValueError as error:
            raise EngineError(
                f"PyAV {self._av.__version__} was built without {form.decoder}; install another"
            ) from error
        context.thread_count = 1
        context.flags |= self._av.codec.context.Flags.low_delay
        context.options = {"max_pixels": str(max_pixels(shape)), "err_detect": "explode"}
        if parameter_sets:
            context.extradata = parameter_sets
        try:
            context.open()
        except self._av.FFmpegError as error:
            raise BitstreamError(
                f"the parameter sets of the header are damaged ({reason(error)}); get it again"
            ) from error
        self._context = context

    def decode(self, payload: bytes) -> NDArray[np.uint16]:
        """Return the levels of the next frame, shape (rows, columns), valid until it is gone.

        Raises
        ------
        BitstreamError
            If the payload is not exactly one frame of this size.
        """
        data = self._form.frame_data(payload)
        try:
            frames = self._context.decode(self._av.Packet(data))
        except (self._av.FFmpegError, ValueError) as error:
            raise BitstreamError(f"video payload cannot be decoded: {reason(error)}") from error
        found = [f"{frame.format.name} {frame.height}x{frame.width}" for frame in frames]
        due = f"{self._form.pixel_format} {self._shape[0]}x{self._shape[1]}"
        if found != [due]:
            raise BitstreamError(f"video payload gave frames {found}; one of {due} expected")
        rows, columns = self._shape
        return _words(frames[0].planes[0])[:rows, :columns]


def _words(plane: Any) -> NDArray[np.uint16]:
    """Return a plane's memory, its padding included, as rows of 16-bit words."""
    return np.frombuffer(plane, np.uint16).reshape(-1, plane.line_size // 2)


def max_pixels(shape: tuple[int, int]) -> int:
    """Return how many pixels of a frame a decoder of frames of (rows, columns) may need."""
    return (shape[0] + _MARGIN) * (shape[1] + _MARGIN)


def reason(error: Exception) -> str:
    """Return what FFmpeg says of an error, without PyAV's list of arguments."""
    return str(getattr(error, "strerror", None) or error)
