"""Packets -> MRD images, byte for byte: what a receiver of our streams does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from edge_codec.bitstream.metadata import unpack_metadata
from edge_codec.bitstream.packet import LayerId, Packet
from edge_codec.codec import Decoder, slice_size
from edge_codec.errors import BitstreamError
from edge_codec.io.mrd_frames import join_frames
from edge_codec.io.mrd_note import Note, unpack_dictionary
from edge_codec.io.samples import to_voxels
from edge_codec.runtime.mrd.limits import Limits
from edge_codec.runtime.mrd.protocol import ImageMessage, voxel_bytes
from edge_codec.spec import SourceKind, StreamSpec

MAX_OPEN_IMAGES = 4  # planes of an image follow each other; only left out ones keep it open

OpenDecoder = Callable[[StreamSpec], Decoder]


@dataclass(slots=True)
class _Partial:
    """The planes of an image that have come so far."""

    kind: tuple[int, int]  # form, number of planes
    first: Note | None = None
    planes: dict[int, NDArray[Any]] = field(default_factory=dict)


class ImageRestorer:
    """Rebuilds the images of one segment from its packets.

    Parameters
    ----------
    spec : StreamSpec
        From the segment's header.
    open_decoder : callable
        Makes the decoder of a stream, with its model where it has one.
    limits : Limits
        What an image may have, as the packets may come from anybody.

    Attributes
    ----------
    incomplete : int
        Images of which a plane never came.

    Raises
    ------
    BitstreamError
        If the stream was not made from MRD images.
    """

    def __init__(self, spec: StreamSpec, open_decoder: OpenDecoder, limits: Limits) -> None:
        source = spec.info.source
        if source.kind is not SourceKind.MRD:
            raise BitstreamError(
                f"the stream was made from {source.kind.name}, not from MRD images; decompress it"
            )
        self._spec = spec
        self._decoder = open_decoder(spec)
        self._limits = limits
        self._open: dict[int, _Partial] = {}
        self._slices: set[int] = set()
        self.incomplete = 0

    def push(self, packet: Packet) -> tuple[int, ImageMessage] | None:
        """Decode one packet.

        Returns
        -------
        (int, ImageMessage) or None
            Item number and image, once its last plane has come.

        Raises
        ------
        BitstreamError, FrameError, EngineError
            If the packet is damaged, or not of such an image.
        """
        note = read_note(packet, self._spec)
        self._check(note, packet.slice_index)
        frame = to_voxels(self._decoder.push(packet), self._spec.info)
        kind = (int(note.form), note.planes)
        partial = self._open.setdefault(note.item, _Partial(kind))
        if note.plane in partial.planes or partial.kind != kind:
            raise BitstreamError(
                f"plane {note.plane} of item {note.item} comes twice, or is of another image"
            )
        partial.planes[note.plane] = frame
        if note.plane == 0:
            partial.first = note
        if len(partial.planes) < note.planes:
            self._forget_oldest()
            return None
        del self._open[note.item]
        return note.item, _join(partial)

    def finish(self) -> None:
        """Count what is still open as incomplete."""
        self.incomplete += len(self._open)
        self._open.clear()

    def _check(self, note: Note, slice_index: int) -> None:
        limits, (rows, columns) = self._limits, self._spec.info.frame_shape
        self._slices.add(slice_index)
        size = len(self._slices) * slice_size(self._spec.model, rows, columns)
        if size > limits.max_open_voxels:
            raise BitstreamError(
                f"{len(self._slices)} slices of {rows}x{columns} voxels exceed the limit of "
                f"{limits.max_open_voxels} voxels in work"
            )
        if note.planes > limits.max_frames:
            raise BitstreamError(
                f"an image of {note.planes} planes; the limit is {limits.max_frames}"
            )
        if note.header and voxel_bytes(note.header) > limits.max_image_bytes:
            raise BitstreamError(
                f"an image of {voxel_bytes(note.header)} bytes; the limit is "
                f"{limits.max_image_bytes}"
            )

    def _forget_oldest(self) -> None:
        """Give up an image that newer ones overtook: its missing planes were left out."""
        if len(self._open) > MAX_OPEN_IMAGES:
            del self._open[min(self._open)]
            self.incomplete += 1


def read_note(packet: Packet, spec: StreamSpec) -> Note:
    """Return the note that travels with a packet.

    Raises
    ------
    BitstreamError
        If there is none, or it is damaged.
    """
    packed = packet.layers.get(LayerId.METADATA)
    if packed is None:
        raise BitstreamError(f"packet {packet.sequence} has no note of an MRD image")
    return Note.unpack(unpack_metadata(packed, spec.info.source.data))


def xml_of(spec: StreamSpec) -> bytes:
    """Return the XML header of the session that a stream was made in."""
    return unpack_dictionary(spec.info.source.data)[1]


def _join(partial: _Partial) -> ImageMessage:
    note = partial.first
    if note is None:  # impossible, as all planes are there and differ
        raise BitstreamError("the first plane of an image is missing")
    planes = [partial.planes[index] for index in range(len(partial.planes))]
    image = join_frames(note, planes)
    return ImageMessage(image.header, image.attributes, image.voxels)
