"""The messages of the MRD streaming protocol, as the public FIRE / OpenRecon servers speak it.

A message is a 16-bit id and a body whose size follows from its first bytes; all numbers are little
endian. Bodies are kept as the bytes they came as: what is stored, sent on or answered is then the
same byte for byte, which objects that are parsed and written again do not promise.

| id | message | body |
|---|---|---|
| 1 | config file | 1024 bytes, a name padded with zeros |
| 2, 3, 5 | config text, XML header, text | u32 size, so many bytes |
| 4 | close | nothing |
| 1008 | acquisition | 340 bytes of header, f32 trajectory, complex64 samples |
| 1022 | image | 198 bytes of header, u64 size, attributes of that size, voxels |
| 1026 | waveform | 40 bytes of header, u32 samples |
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from edge_codec.errors import ProtocolError
from edge_codec.io.mrd_image import IMAGE_HEADER_BYTES, VOXEL_BYTES, Buffer, MrdImage
from edge_codec.runtime.mrd.limits import Limits

ID = struct.Struct("<H")
TEXT_SIZE = struct.Struct("<I")
ATTRIBUTE_SIZE = struct.Struct("<Q")
CONFIG_FILE_BYTES = 1024
ERROR_PREFIX = "edge-codec: error: "  # of the text that says why a session ended
ACQUISITION_HEADER_BYTES = 340
WAVEFORM_HEADER_BYTES = 40

# Where the sizes stand in each header.
_IMAGE_SIZES = struct.Struct("<2xH12x3H12xH")
_ACQUISITION_SIZES = struct.Struct("<34xH2xH136xH")
_WAVEFORM_SIZES = struct.Struct("<28x2H")


class MessageId(IntEnum):
    """Wire id of a message."""

    CONFIG_FILE = 1
    CONFIG_TEXT = 2
    HEADER = 3
    CLOSE = 4
    TEXT = 5
    ACQUISITION = 1008
    IMAGE = 1022
    WAVEFORM = 1026


@dataclass(frozen=True, slots=True)
class Message:
    """Any message but an image.

    Attributes
    ----------
    ident : MessageId
        What it is.
    body : bytes
        Everything after the id.
    """

    ident: MessageId
    body: bytes = b""

    @property
    def size(self) -> int:
        """Bytes of the whole message."""
        return ID.size + len(self.body)

    def parts(self) -> tuple[Buffer, ...]:
        """Return the pieces of the message, to be sent one after the other."""
        return ID.pack(self.ident), self.body

    @property
    def text(self) -> str:
        """What a text, header or config message says, up to its first NUL."""
        body = self.body if self.ident is MessageId.CONFIG_FILE else self.body[TEXT_SIZE.size :]
        return body.split(b"\0", 1)[0].decode("utf-8", "replace")


class ImageMessage(MrdImage):
    """An image as a message."""

    __slots__ = ()

    ident = MessageId.IMAGE

    @property
    def size(self) -> int:
        """Bytes of the whole message."""
        return (
            ID.size
            + IMAGE_HEADER_BYTES
            + ATTRIBUTE_SIZE.size
            + len(self.attributes)
            + len(self.voxels)
        )

    def parts(self) -> tuple[Buffer, ...]:
        """Return the pieces of the message, to be sent one after the other."""
        size = ATTRIBUTE_SIZE.pack(len(self.attributes))
        return ID.pack(self.ident) + self.header + size + self.attributes, self.voxels


AnyMessage = Message | ImageMessage


def pack_message(message: AnyMessage) -> bytes:
    """Return the bytes of a whole message."""
    return b"".join(message.parts())


def text_message(ident: MessageId, text: str | bytes) -> Message:
    """Make a config text, header or text message; a NUL ends it, as the public servers do."""
    data = text.encode() if isinstance(text, str) else text
    data += b"\0"
    return Message(ident, TEXT_SIZE.pack(len(data)) + data)


def config_file_message(name: str) -> Message:
    """Make the message that names the configuration to use.

    Raises
    ------
    ProtocolError
        If the name is too long for the message.
    """
    data = name.encode()
    if len(data) >= CONFIG_FILE_BYTES:
        raise ProtocolError(
            f"a config name of {len(data)} bytes; it has up to {CONFIG_FILE_BYTES - 1}: "
            "send it as config text"
        )
    return Message(MessageId.CONFIG_FILE, data.ljust(CONFIG_FILE_BYTES, b"\0"))


class ByteSource(Protocol):
    """Where messages are read from: a connection, a file."""

    def begin(self, first: bool) -> bytes:
        """Wait for the two bytes of the next message's id; empty where there is no more."""

    def read(self, size: int) -> bytes:
        """Return exactly so many bytes of the message that was begun."""

    def read_voxels(self, size: int) -> Buffer:
        """Return exactly so many bytes; like `read`, where a copy would cost."""


class MessageReader:
    """Reads messages, and believes no size before it was compared with its limit.

    Parameters
    ----------
    source : ByteSource
        Where the bytes come from.
    limits : Limits
        What a message may have.
    """

    def __init__(self, source: ByteSource, limits: Limits) -> None:
        self._source = source
        self._limits = limits
        self._count = 0
        self._parsers: dict[MessageId, Callable[[MessageId], AnyMessage]] = {
            MessageId.CONFIG_FILE: self._config_file,
            MessageId.CONFIG_TEXT: self._text,
            MessageId.HEADER: self._text,
            MessageId.CLOSE: Message,
            MessageId.TEXT: self._text,
            MessageId.ACQUISITION: self._acquisition,
            MessageId.IMAGE: self._image,
            MessageId.WAVEFORM: self._waveform,
        }

    def read(self) -> AnyMessage | None:
        """Return the next message; None where the peer has hung up between two messages.

        Raises
        ------
        ProtocolError
            If the message is unknown, cut off, too slow, or larger than the limits.
        """
        prefix = self._source.begin(self._count == 0)
        if not prefix:
            return None
        (number,) = ID.unpack(prefix)
        self._count += 1
        try:
            ident = MessageId(number)
        except ValueError:
            known = ", ".join(str(int(ident)) for ident in MessageId)
            hint = (
                ""
                if self._count < 3
                else "; or the message before it had another size than it said"
            )
            raise ProtocolError(
                f"message {self._count} has id {number}; known are {known}{hint}"
            ) from None
        return self._parsers[ident](ident)

    def _config_file(self, ident: MessageId) -> Message:
        return Message(ident, self._source.read(CONFIG_FILE_BYTES))

    def _text(self, ident: MessageId) -> Message:
        prefix = self._source.read(TEXT_SIZE.size)
        (size,) = TEXT_SIZE.unpack(prefix)
        is_header = ident is MessageId.HEADER
        limit = self._limits.max_header_bytes if is_header else self._limits.max_text_bytes
        self._check(f"a {ident.name.lower().replace('_', ' ')}", size, limit)
        return Message(ident, prefix + self._source.read(size))

    def _acquisition(self, ident: MessageId) -> Message:
        header = self._source.read(ACQUISITION_HEADER_BYTES)
        samples, channels, dimensions = _ACQUISITION_SIZES.unpack_from(header)
        size = samples * (4 * dimensions + 8 * channels)
        self._check("an acquisition", size, self._limits.max_acquisition_bytes)
        return Message(ident, header + self._source.read(size))

    def _waveform(self, ident: MessageId) -> Message:
        header = self._source.read(WAVEFORM_HEADER_BYTES)
        samples, channels = _WAVEFORM_SIZES.unpack_from(header)
        size = 4 * samples * channels
        self._check("a waveform", size, self._limits.max_waveform_bytes)
        return Message(ident, header + self._source.read(size))

    def _image(self, ident: MessageId) -> ImageMessage:
        del ident
        header = self._source.read(IMAGE_HEADER_BYTES)
        size = voxel_bytes(header)
        self._check("an image", size, self._limits.max_image_bytes)
        (attribute_size,) = ATTRIBUTE_SIZE.unpack(self._source.read(ATTRIBUTE_SIZE.size))
        limit = self._limits.max_attribute_bytes
        self._check("the attributes of an image", attribute_size, limit)
        attributes = self._source.read(attribute_size)
        return ImageMessage(header, attributes, self._source.read_voxels(size))

    def _check(self, what: str, size: int, limit: int) -> None:
        if size > limit:
            raise ProtocolError(
                f"message {self._count} is {what} of {size} bytes; the limit is {limit}"
            )


def voxel_bytes(header: bytes) -> int:
    """Return how many bytes of voxels an image header announces.

    Raises
    ------
    ProtocolError
        If the data type is unknown, so that the size is too.
    """
    data_type, x, y, z, channels = _IMAGE_SIZES.unpack_from(header)
    if data_type not in VOXEL_BYTES:
        raise ProtocolError(
            f"an image has data type {data_type}; MRD knows 1 to {max(VOXEL_BYTES)}"
        )
    return int(VOXEL_BYTES[data_type] * x * y * z * channels)
