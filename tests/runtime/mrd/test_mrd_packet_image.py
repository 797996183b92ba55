from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mrd_peer import plain_decoder
from mrd_samples import make_image, random_voxels, same, smooth_voxels

from edge_codec.bitstream.metadata import pack_metadata
from edge_codec.bitstream.packet import Packet
from edge_codec.codec import Encoder
from edge_codec.errors import BitstreamError, EdgeCodecError, ProtocolError
from edge_codec.io.mrd_frames import ImageFrames
from edge_codec.runtime.mrd.limits import Limits
from edge_codec.runtime.mrd.meta import add_meta, pack_meta, read_xml, unpack_meta
from edge_codec.runtime.mrd.packet_image import (
    PacketImageReceiver,
    is_packet_image,
    wrap_header,
    wrap_packet,
)
from edge_codec.runtime.mrd.protocol import ImageMessage, voxel_bytes
from edge_codec.runtime.mrd.restore import ImageRestorer
from edge_codec.runtime.packet_sink import Segment
from edge_codec.spec import CineInfo, Effort, StreamSpec


def encode(images: list[ImageMessage]) -> tuple[Segment, list[Packet]]:
    """Code images of one kind as a session does."""
    first = ImageFrames.of(images[0], 0)
    dictionary = first.dictionary(b"<xml/>")
    spec = StreamSpec(first.geometry(1, dictionary), 0, 65_535, effort=Effort.FAST)
    encoder = Encoder(spec)
    packets = [
        encoder.push(voxels, plane, pack_metadata(note, dictionary))
        for item, image in enumerate(images)
        for plane, voxels, note in ImageFrames.of(image, item).frames()
    ]
    return Segment("s", 0, spec), packets


IMAGES = [make_image(smooth_voxels(1, (2, 1, 12, 10), n), phase=n) for n in range(4)]
SEGMENT, PACKETS = encode(IMAGES)


def wrapped() -> list[ImageMessage]:
    like = IMAGES[0].header
    return [
        wrap_header(SEGMENT, like),
        *(wrap_packet(packet.pack(), SEGMENT, like) for packet in PACKETS),
    ]


def receive(images: list[ImageMessage], limits: Limits | None = None) -> list[ImageMessage]:
    receiver = PacketImageReceiver(plain_decoder, limits or Limits())
    found = [image for entry in images if (image := receiver.push(entry)) is not None]
    receiver.finish()
    return found


def test_images_pass_through_packets_byte_for_byte() -> None:
    assert all(map(is_packet_image, wrapped()))
    found = receive(wrapped())
    assert len(found) == len(IMAGES)
    assert all(map(same, found, IMAGES))


def test_other_images_pass_as_they_are() -> None:
    plain = make_image(random_voxels(1, (1, 1, 3, 3)), b"edge_codec.packet is not xml here")
    with pytest.raises(ProtocolError, match="no XML"):
        receive([plain])
    plain = make_image(random_voxels(1, (1, 1, 3, 3)), pack_meta({"a": "edge_codec.packet"}))
    assert receive([plain]) == [plain]
    assert receive(IMAGES) == IMAGES


@pytest.mark.parametrize("size", [1, 2, 131_069, 131_070, 131_071, 200_001])
def test_packets_of_any_size_are_one_image(size: int) -> None:
    data = np.random.default_rng(size).bytes(size)
    image = wrap_packet(data, SEGMENT, IMAGES[0].header)
    assert voxel_bytes(image.header) == len(image.voxels) >= size
    assert bytes(image.voxels[:size]) == data
    assert int.from_bytes(image.header[-4:], "little") == len(image.attributes)
    assert unpack_meta(image.attributes)["edge_codec.bytes"] == str(size)


def test_header_fields_are_those_of_the_image() -> None:
    image = wrap_packet(b"x", SEGMENT, IMAGES[3].header)
    # All but data type, matrix, channels, and the size of the attributes.
    for start, end in ((0, 2), (4, 16), (22, 34), (36, 194)):
        assert image.header[start:end] == IMAGES[3].header[start:end]


def with_meta(image: ImageMessage, **changes: str) -> ImageMessage:
    meta = unpack_meta(image.attributes)
    meta.update({f"edge_codec.{name}": value for name, value in changes.items()})
    return replace(image, attributes=pack_meta(meta))


@pytest.mark.parametrize(
    ("images", "why"),
    [
        (wrapped()[1:], "before the segment's header"),
        ([wrapped()[0], with_meta(wrapped()[1], segment="1")], "before the segment's header"),
        ([with_meta(wrapped()[0], packet="2")], "format 2"),
        ([with_meta(wrapped()[0], bytes="99999999")], "in an image of"),
        ([with_meta(wrapped()[0], bytes="-1")], "make no sense"),
        ([with_meta(wrapped()[0], bytes="9" * 5000)], "make no sense"),
        ([with_meta(wrapped()[0], content="footer")], "make no sense"),
        ([with_meta(wrapped()[0], stream="x" * 65)], "make no sense"),
        ([with_meta(wrapped()[0], bytes="20")], "header of"),
        ([wrapped()[0], with_meta(wrapped()[1], bytes="20")], "is cut"),
        ([wrapped()[0], wrapped()[3]], "key frame|missing|earlier"),
    ],
)
def test_hostile_packets_are_refused(images: list[ImageMessage], why: str) -> None:
    with pytest.raises(EdgeCodecError, match=why):
        receive(images)


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        (Limits(max_streams=0), "more than 0 streams"),
        (Limits(max_frame_voxels=100), "the limit is 100"),
        (Limits(max_open_voxels=100), "the limit is|exceed the limit"),
        (Limits(max_frames=1), "2 planes; the limit"),
        (Limits(max_image_bytes=100), "bytes; the limit"),
    ],
)
def test_limits_hold_for_packets(limits: Limits, why: str) -> None:
    with pytest.raises(EdgeCodecError, match=why):
        receive(wrapped(), limits)


def test_all_streams_share_one_limit_of_memory() -> None:
    size = 2 * (12 + 32) * (10 + 32)  # two slices of one stream
    limits = Limits(max_open_voxels=size * 3 // 2)
    other = Segment("t", 0, SEGMENT.spec)
    like = IMAGES[0].header
    second = [wrap_header(other, like)]
    second += [wrap_packet(packet.pack(), other, like) for packet in PACKETS]
    assert receive(wrapped(), limits)
    assert receive(second, limits)
    with pytest.raises(BitstreamError, match="of all streams in work"):
        receive([*wrapped(), *second], limits)


def test_a_new_segment_replaces_the_old_one() -> None:
    later = Segment("s", 1, SEGMENT.spec)
    again = [
        wrap_header(later, IMAGES[0].header),
        *(wrap_packet(packet.pack(), later, IMAGES[0].header) for packet in PACKETS),
    ]
    receiver = PacketImageReceiver(plain_decoder, Limits())
    found = [receiver.push(image) for image in [*wrapped()[:-1], *again]]
    assert sum(image is not None for image in found) == 3 + 4
    receiver.finish()
    assert receiver.incomplete == 1


def test_lost_planes_are_counted() -> None:
    restorer = ImageRestorer(SEGMENT.spec, plain_decoder, Limits())
    found = [restorer.push(packet) for packet in PACKETS if packet.slice_index == 0]
    assert found == [None] * len(IMAGES)
    restorer.finish()
    assert restorer.incomplete == len(IMAGES)


def test_planes_that_come_twice_are_refused() -> None:
    restorer = ImageRestorer(SEGMENT.spec, plain_decoder, Limits())
    restorer.push(PACKETS[0])
    with pytest.raises(EdgeCodecError):
        restorer.push(PACKETS[0])


def test_streams_of_other_sources_are_refused() -> None:
    spec = StreamSpec(CineInfo(1, 0, 4, 4, np.dtype(np.uint16)), 0, 9)
    with pytest.raises(BitstreamError, match="not from MRD"):
        ImageRestorer(spec, plain_decoder, Limits())


def test_meta_is_added_to_what_is_there() -> None:
    old = pack_meta({"a": "1 < 2 & ä"})
    new = add_meta(old, {"b": "x"})
    assert unpack_meta(new) == {"a": "1 < 2 & ä", "b": "x"}
    assert unpack_meta(add_meta(b"", {"b": "x"})) == {"b": "x"}
    assert unpack_meta(add_meta(b"\xff\xfe", {"b": "x"})) == {"b": "x"}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b'<?xml version="1.0" encoding="utf-7"?><a/>',
        b"<a>",
        b"<a></b>",
        b"\0\0",
        b'<!DOCTYPE a [<!ENTITY b "c"><!ENTITY d "&b;&b;">]><a>&d;</a>',
        b"<a>" * 100,
        b"<a>" + b"<b/>" * 100_001 + b"</a>",
        b'<?xml version="1.0" encoding="no-such"?><a/>',
    ],
)
def test_hostile_xml_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        read_xml(data)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.data())
def test_damaged_packet_images_raise_our_errors_only(data: st.DataObject) -> None:
    images = wrapped()[: data.draw(st.integers(1, 4))]
    place = data.draw(st.integers(0, len(images) - 1))
    image = images[place]
    voxels, attributes = bytearray(image.voxels), bytearray(image.attributes)
    target = data.draw(st.sampled_from([voxels, attributes]))
    for _ in range(data.draw(st.integers(1, 3))):
        target[data.draw(st.integers(0, len(target) - 1))] = data.draw(st.integers(0, 255))
    images[place] = ImageMessage(image.header, bytes(attributes), bytes(voxels))
    try:
        found = receive(images)
    except EdgeCodecError:
        return
    # What is still read is right, as every layer has a checksum; or no packet any more.
    assert all(any(same(entry, image) for image in [*IMAGES, *images]) for entry in found)


def test_a_value_before_its_name_is_no_defect() -> None:
    data = b"<ismrmrdMeta><meta><value>1</value><name>a</name></meta></ismrmrdMeta>"
    assert "a" not in unpack_meta(data)
