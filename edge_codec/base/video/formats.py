"""What a stream of model `video` says of its frames, and what their payloads must look like.

A stream's `model_data` is one byte, the number of its format, and after it the codec's parameter
sets (HEVC: VPS, SPS and PPS in an Annex B byte stream; AV1: none, they are in the key frames). A
payload is one frame: an access unit of ITU-T H.265 or a temporal unit of AV1, without the bytes
that every one of them begins with. Decoders are not trusted with more: another frame, or other
parameter sets, would cost memory and time that nobody has bounded.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from edge_codec.bitstream.varint import read_varint
from edge_codec.errors import BitstreamError
from edge_codec.spec import StreamSpec

MIN_SIDE = 64
"""Shortest side of a coded frame: encoders refuse smaller ones, or write beyond their buffers."""

# NAL units of H.265, 7.3.1.2: zero bit, 6 bits of type, 6 of layer, 3 of temporal id; types from 32
# on are no slices. The first bit of a slice says whether a picture begins.
_NO_SLICE = re.compile(rb"\x00\x00\x01[\x40-\xff]")
_PICTURE = re.compile(rb"\x00\x00\x01[\x00-\x3f][\x00-\xff][\x80-\xff]")

# Open bitstream units of AV1, 5.3.2: zero bit, 4 bits of type, extension, size is given, zero bit.
_OBU_FRAMES = (3, 6)  # frame header, frame
_OBU_OTHERS = (1, 2, 4)  # sequence header, temporal delimiter, tile group


@dataclass(frozen=True, slots=True)
class VideoFormat:
    """One format of base layers.

    Attributes
    ----------
    wire_id : int
        Its number in `model_data`; never reused.
    codec : str
        FFmpeg's name of the codec, also of its raw files.
    decoder : str
        FFmpeg's name of the decoder.
    pixel_format : str
        What it decodes to; samples are in the first plane.
    depth : int
        Bits of a sample there.
    prefix : bytes
        What every frame begins with, and payloads leave out.
    check : callable
        Refuses data that are not one frame.
    """

    wire_id: int
    codec: str
    decoder: str
    pixel_format: str
    depth: int
    prefix: bytes
    check: Callable[[bytes], None]

    def frame_data(self, payload: bytes) -> bytes:
        """Return the data that a decoder takes.

        Raises
        ------
        BitstreamError
            If the payload is not exactly one frame.
        """
        data = self.prefix + payload
        self.check(data)
        return data


def _check_hevc(data: bytes) -> None:
    pictures = len(_PICTURE.findall(data))
    if pictures != 1 or _NO_SLICE.search(data):
        raise BitstreamError(
            f"video payload holds {pictures} pictures or more than slices; slices of 1 expected"
        )


def _check_av1(data: bytes) -> None:
    frames = at = 0
    while at < len(data):
        kind = data[at] >> 3
        if kind not in _OBU_FRAMES + _OBU_OTHERS or data[at] & 7 != 2:
            raise BitstreamError(f"video payload has a unit {data[at]:#04x}; it must be a frame's")
        frames += kind in _OBU_FRAMES
        size, at = read_varint(data, at + 1)
        at += size
    if at != len(data) or frames != 1:
        raise BitstreamError(
            f"video payload holds {frames} frames in {at} of {len(data)} bytes; one whole expected"
        )


HEVC_12 = VideoFormat(0, "hevc", "hevc", "gray12le", 12, b"\0\0\0\1", _check_hevc)
AV1_10 = VideoFormat(1, "av1", "libdav1d", "yuv420p10le", 10, b"\x12\0", _check_av1)
HEVC_10 = VideoFormat(2, "hevc", "hevc", "yuv420p10le", 10, b"\0\0\0\1", _check_hevc)
FORMATS = {form.wire_id: form for form in (HEVC_12, AV1_10, HEVC_10)}


def pack_model_data(form: VideoFormat, parameter_sets: bytes) -> bytes:
    """Serialize a stream's format and parameter sets."""
    return bytes([form.wire_id]) + parameter_sets


def unpack_model_data(spec: StreamSpec) -> tuple[VideoFormat, bytes]:
    """Return a stream's format and its parameter sets.

    Raises
    ------
    BitstreamError
        If the header names no known format.
    """
    number = spec.model_data[0]
    if number not in FORMATS:
        known = ", ".join(f"{n} {f.codec} of {f.depth} bits" for n, f in FORMATS.items())
        raise BitstreamError(
            f"the stream's header names video format {number}; this edge-codec knows {known}"
        )
    return FORMATS[number], spec.model_data[1:]


def coded_shape(frame_shape: tuple[int, int]) -> tuple[int, int]:
    """Return (rows, columns) of the frames that are coded: even, and at least `MIN_SIDE` each."""
    rows, columns = (max(side + side % 2, MIN_SIDE) for side in frame_shape)
    return rows, columns
