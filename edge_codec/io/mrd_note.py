"""What travels with each frame of an MRD image, so that the image can be rebuilt byte for byte.

It is the packet's METADATA layer, packed as all of them (`edge_codec.bitstream.metadata`) against
the dictionary in the stream's header. The first plane of an image carries the image's header and
attributes. The dictionary is the first note of the stream followed by the session's XML header, so
that later notes cost some ten bytes and a stream is complete in itself.

Layout, little endian: u8 version 1, u8 form, u16 zero, u32 plane, u32 planes of the image, u64
item; in plane 0 then 198 bytes of image header and the attributes. `item` counts the messages of a
session after its XML header, images and others, from 0.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from edge_codec.errors import BitstreamError
from edge_codec.io.mrd_image import (
    IMAGE_HEADER_BYTES,
    VOXEL_BYTES,
    Form,
    ImageHead,
    fits_form,
)

VERSION = 1
_HEAD = struct.Struct("<BBHIIQ")
_SIZE = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Note:
    """The note of one frame.

    Attributes
    ----------
    form : Form
        How planes stand for voxels.
    plane, planes : int
        Number of the frame within its image, and how many the image has.
    item : int
        Number of the image among the messages of its session.
    header, attributes : bytes
        Of the image; in plane 0 only.
    """

    form: Form
    plane: int
    planes: int
    item: int
    header: bytes = b""
    attributes: bytes = b""

    def pack(self) -> bytes:
        """Serialize the note."""
        head = _HEAD.pack(VERSION, self.form, 0, self.plane, self.planes, self.item)
        return head + self.header + self.attributes

    @classmethod
    def unpack(cls, data: bytes) -> Note:
        """Parse a note, bytes from outside.

        Raises
        ------
        BitstreamError
            If it is no note of a known version, or contradicts itself.
        """
        if len(data) < _HEAD.size:
            raise BitstreamError(
                f"the note of an MRD frame has {len(data)} bytes; {_HEAD.size} or more are due"
            )
        version, form, zero, plane, planes, item = _HEAD.unpack_from(data)
        if version != VERSION or zero or form not in tuple(Form) or not 0 <= plane < planes:
            raise BitstreamError(
                f"the note of an MRD frame has version {version}, form {form}, plane {plane} of "
                f"{planes}; this edge-codec reads version {VERSION}: upgrade it"
            )
        body = data[_HEAD.size :]
        header, attributes = body[:IMAGE_HEADER_BYTES], body[IMAGE_HEADER_BYTES:]
        note = cls(Form(form), plane, planes, item, header, attributes)
        if plane == 0:
            note._check_header()
        elif body:
            raise BitstreamError(f"the note of plane {plane} has {len(body)} bytes too many")
        return note

    def _check_header(self) -> None:
        if len(self.header) != IMAGE_HEADER_BYTES:
            raise BitstreamError(
                f"the note of an image's first plane has {len(self.header)} bytes of header; "
                f"{IMAGE_HEADER_BYTES} are due"
            )
        head = ImageHead.unpack(self.header)
        known = head.data_type in VOXEL_BYTES and fits_form(head.data_type, self.form)
        if not known or head.n_planes(self.form) != self.planes:
            raise BitstreamError(
                f"the note says {self.planes} planes of form {self.form.name}, its image header "
                f"{head.matrix} voxels of data type {head.data_type}"
            )


def pack_dictionary(note: bytes, xml: bytes) -> bytes:
    """Return what the header of a stream carries: its first note, and the session's XML header."""
    return _SIZE.pack(len(note)) + note + xml


def unpack_dictionary(data: bytes) -> tuple[bytes, bytes]:
    """Return the first note of a stream and the session's XML header.

    Raises
    ------
    BitstreamError
        If the bytes are too few.
    """
    size = _SIZE.unpack_from(data)[0] if len(data) >= _SIZE.size else 0
    if len(data) < _SIZE.size + size:
        raise BitstreamError(f"the MRD header of the stream is cut at byte {len(data)}")
    return data[_SIZE.size : _SIZE.size + size], data[_SIZE.size + size :]
