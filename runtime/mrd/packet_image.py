"""Our packets as the payload of MRD images, so that they pass through any MRD chain, and back.

A packet, or the header of a segment before its first packet, is the voxels of an image of data type
uint16 with one channel: so many bytes, padded with zeros to whole rows. `docs/mrd.md` has the
attributes. Everything else in the image's header is that of the image that the packet codes, so
that a chain which sorts images by series, slice or phase does right by ours.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge_codec.bitstream.header import pack_header, unpack_header
from edge_codec.bitstream.packet import Packet
from edge_codec.codec import slice_size
from edge_codec.errors import BitstreamError, ProtocolError
from edge_codec.io.mrd_image import with_data_type
from edge_codec.runtime.mrd.limits import Limits
from edge_codec.runtime.mrd.meta import pack_meta, unpack_meta
from edge_codec.runtime.mrd.protocol import ImageMessage
from edge_codec.runtime.mrd.restore import ImageRestorer, OpenDecoder
from edge_codec.runtime.packet_sink import Segment

FORMAT = "1"
PACKET, STREAM, SEGMENT, CONTENT, SIZE = (
    f"edge_codec.{name}" for name in ("packet", "stream", "segment", "content", "bytes")
)
_USHORT = 1
_ROW_WORDS = 32_768  # of a payload that does not fit one row of 65,535
_MAX_WORDS = 65_535
_MARK = PACKET.encode()


def wrap_header(segment: Segment, like: bytes) -> ImageMessage:
    """Return the image that carries the header of a segment.

    Parameters
    ----------
    segment : Segment
        What begins.
    like : bytes
        Header of the first MRD image of the segment.
    """
    return _wrap(pack_header(segment.spec), "header", segment, like)


def wrap_packet(data: bytes, segment: Segment, like: bytes) -> ImageMessage:
    """Return the image that carries a packet.

    Parameters
    ----------
    data : bytes
        The packet.
    segment : Segment
        It belongs to.
    like : bytes
        Header of the MRD image that the packet codes.
    """
    return _wrap(data, "packet", segment, like)


def is_packet_image(image: ImageMessage) -> bool:
    """Whether an image carries something of ours: then its attributes are looked at."""
    return _MARK in image.attributes


def _wrap(data: bytes, content: str, segment: Segment, like: bytes) -> ImageMessage:
    words = (len(data) + 1) // 2
    columns, rows = words, 1
    if words > _MAX_WORDS:
        columns, rows = _ROW_WORDS, -(-words // _ROW_WORDS)
    if rows > _MAX_WORDS:
        raise ProtocolError(f"a packet of {len(data)} bytes is too large for an MRD image")
    attributes = pack_meta(
        {
            PACKET: FORMAT,
            STREAM: segment.stream,
            SEGMENT: str(segment.number),
            CONTENT: content,
            SIZE: str(len(data)),
        }
    )
    header = bytearray(with_data_type(like, _USHORT, columns, rows))
    header[-4:] = len(attributes).to_bytes(4, "little")
    return ImageMessage(bytes(header), attributes, data.ljust(2 * columns * rows, b"\0"))


@dataclass(slots=True)
class _Stream:
    segment: int
    restorer: ImageRestorer
    slice_voxels: int
    slices: set[int]


class PacketImageReceiver:
    """Turns images with our packets back into the images that were coded.

    Parameters
    ----------
    open_decoder : callable
        Makes the decoder of a stream, with its model where it has one.
    limits : Limits
        What the images may hold, as they may come from anybody.

    Attributes
    ----------
    incomplete : int
        Images that could not be rebuilt, as a packet was left out.
    """

    def __init__(self, open_decoder: OpenDecoder, limits: Limits) -> None:
        self._open_decoder = open_decoder
        self._limits = limits
        self._streams: dict[str, _Stream] = {}
        self.incomplete = 0

    def push(self, image: ImageMessage) -> ImageMessage | None:
        """Take the next image.

        Returns
        -------
        ImageMessage or None
            The image that was coded, once it is whole; an image without a packet, as it is.

        Raises
        ------
        ProtocolError
            If the attributes are not those of a packet, or there are too many streams.
        BitstreamError, FrameError, EngineError
            If the packet is damaged, or does not follow the ones before.
        """
        if not is_packet_image(image):
            return image
        meta = unpack_meta(image.attributes)
        if PACKET not in meta:
            return image
        name, number, content, size = _read_meta(meta)
        if size > len(image.voxels):
            raise ProtocolError(f"a packet of {size} bytes in an image of {len(image.voxels)}")
        data = bytes(image.voxels[:size])
        if content == "header":
            self._begin(name, number, data)
            return None
        stream = self._streams.get(name)
        if stream is None or stream.segment != number:
            raise ProtocolError(
                f"a packet of segment {number} of stream {name!r} came before the segment's header"
            )
        return self._decode(stream, Packet.unpack(data))

    def finish(self) -> None:
        """Count what never became whole."""
        for stream in self._streams.values():
            stream.restorer.finish()
            self.incomplete += stream.restorer.incomplete
        self._streams.clear()

    def _begin(self, name: str, number: int, data: bytes) -> None:
        if name not in self._streams and len(self._streams) >= self._limits.max_streams:
            raise ProtocolError(f"more than {self._limits.max_streams} streams")
        spec = unpack_header(data)
        rows, columns = spec.info.frame_shape
        if rows * columns > self._limits.max_frame_voxels:
            raise BitstreamError(
                f"frames of {rows}x{columns} voxels; the limit is {self._limits.max_frame_voxels}"
            )
        restorer = ImageRestorer(spec, self._open_decoder, self._limits)
        old = self._streams.pop(name, None)
        if old is not None:
            old.restorer.finish()
            self.incomplete += old.restorer.incomplete
        size = slice_size(spec.model, rows, columns)
        self._streams[name] = _Stream(number, restorer, size, set())

    def _decode(self, stream: _Stream, packet: Packet) -> ImageMessage | None:
        stream.slices.add(packet.slice_index)
        in_work = sum(entry.slice_voxels * len(entry.slices) for entry in self._streams.values())
        if in_work > self._limits.max_open_voxels:
            raise BitstreamError(
                f"{in_work} voxels of all streams in work; the limit is "
                f"{self._limits.max_open_voxels}"
            )
        found = stream.restorer.push(packet)
        return None if found is None else found[1]


def _read_meta(meta: dict[str, str]) -> tuple[str, int, str, int]:
    name, content = meta.get(STREAM, ""), meta.get(CONTENT, "")
    numbers = [meta.get(key, "") for key in (PACKET, SEGMENT, SIZE)]
    # Ten digits are more than any of them has; int() of millions of digits would take for ever.
    good = all(text.isascii() and text.isdigit() and len(text) <= 10 for text in numbers)
    if not good or content not in ("header", "packet") or not 1 <= len(name) <= 64:
        raise ProtocolError(f"attributes of a packet that make no sense: {dict(meta)!r:.300}")
    if meta[PACKET] != FORMAT:
        raise ProtocolError(
            f"a packet in format {meta[PACKET]}; this edge-codec reads {FORMAT}: upgrade it"
        )
    return name, int(numbers[1]), content, int(numbers[2])
