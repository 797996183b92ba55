from __future__ import annotations

import ctypes
import io
import struct
import threading
import tracemalloc

import ismrmrd
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ismrmrd.serialization import ConfigFile, ConfigText, ProtocolDeserializer, ProtocolSerializer
from mrd_samples import DTYPES, make_header, make_image, random_voxels, same, wire_pair

from edge_codec.errors import ProtocolError
from edge_codec.runtime.mrd.limits import Limits
from edge_codec.runtime.mrd.protocol import (
    ID,
    ImageMessage,
    Message,
    MessageId,
    MessageReader,
    config_file_message,
    pack_message,
    text_message,
    voxel_bytes,
)
from edge_codec.runtime.mrd.wire import Wire

QUICK = Limits(first_message_s=0.2, idle_s=0.2, message_s=0.2, send_s=0.2, linger_s=0.05)


def read_all(data: bytes, limits: Limits = QUICK) -> list[Message | ImageMessage]:
    """Read messages that a peer sends before it hangs up."""
    with wire_pair(limits) as (peer, wire):

        def send() -> None:
            try:
                peer.sendall(data)
                peer.close()
            except OSError:
                pass  # refused in between

        sender = threading.Thread(target=send)
        sender.start()
        reader, messages = MessageReader(wire, limits), []
        try:
            while (message := reader.read()) is not None:
                messages.append(message)
        finally:
            wire.close()
            sender.join()
        return messages


class Buffer:
    """What the package's serializer writes to."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: object) -> None:
        self.data += bytes(data)  # type: ignore[call-overload]

    def flush(self) -> None:
        pass


def test_messages_of_the_package_are_read_and_kept_byte_for_byte() -> None:
    buffer = Buffer()
    acquisition = ismrmrd.Acquisition.from_array(
        np.arange(12).reshape(3, 4).astype(np.complex64), np.ones((4, 2), np.float32)
    )
    waveform = ismrmrd.Waveform.from_array(np.arange(10, dtype=np.uint32).reshape(2, 5))
    with ProtocolSerializer(buffer) as serializer:
        serializer.serialize(ConfigFile("edge-codec"))
        serializer.serialize(ConfigText("one two"))
        serializer.serialize("a text")
        serializer.serialize(acquisition)
        serializer.serialize(waveform)
        serializer.serialize(ismrmrd.Image.from_array(np.ones((2, 3, 4, 5), np.int16)))
    messages = read_all(buffer.data)
    assert [message.ident for message in messages] == [
        MessageId.CONFIG_FILE, MessageId.CONFIG_TEXT, MessageId.TEXT, MessageId.ACQUISITION,
        MessageId.WAVEFORM, MessageId.IMAGE, MessageId.CLOSE,
    ]  # fmt: skip
    assert [message.text for message in messages[:3] if isinstance(message, Message)] == [
        "edge-codec", "one two", "a text",
    ]  # fmt: skip
    assert b"".join(map(pack_message, messages)) == buffer.data
    assert sum(message.size for message in messages) == len(buffer.data)


@pytest.mark.parametrize("data_type", sorted(set(DTYPES) - {4}))  # 4: 64 bits in the package
def test_images_are_those_of_the_package(data_type: int) -> None:
    shape = (3, 2, 5, 4)
    voxels = random_voxels(data_type, shape)
    image = make_image(voxels, b"", series=9, slice_index=2)
    theirs = ismrmrd.Image.from_bytes(b"".join(bytes(part) for part in image.parts())[2:])
    assert theirs.image_series_index == 9
    assert theirs.slice == 2
    assert theirs.channels == 3
    assert tuple(theirs.matrix_size) == (4, 5, 2)
    assert theirs.data.dtype == DTYPES[data_type]
    assert theirs.data.tobytes() == voxels.tobytes()


def test_our_messages_are_read_by_the_package() -> None:
    image = make_image(random_voxels(1, (1, 1, 4, 6)), b"")
    data = b"".join(
        pack_message(message)
        for message in (
            config_file_message("name"),
            text_message(MessageId.CONFIG_TEXT, "config"),
            text_message(MessageId.TEXT, "text"),
            image,
            Message(MessageId.CLOSE),
        )
    )
    found = list(ProtocolDeserializer(io.BytesIO(data)).deserialize())
    assert found[0] == "name"
    assert [text.rstrip("\0") for text in found[1:3]] == ["config", "text"]
    assert found[3].data.tobytes() == bytes(image.voxels)


def test_sizes_of_headers_are_those_of_the_package() -> None:
    from ismrmrd.acquisition import AcquisitionHeader
    from ismrmrd.image import ImageHeader
    from ismrmrd.waveform import WaveformHeader

    sizes = [ctypes.sizeof(kind) for kind in (ImageHeader, AcquisitionHeader, WaveformHeader)]
    assert sizes == [198, 340, 40]
    assert voxel_bytes(make_header(8, (3, 5, 7, 11))) == 16 * 3 * 5 * 7 * 11


def test_a_cut_at_every_byte_is_found() -> None:
    image = make_image(random_voxels(2, (1, 1, 3, 5)), b"<meta/>")
    data = pack_message(image)
    for size in range(1, len(data)):
        with pytest.raises(ProtocolError, match="cut off"):
            read_all(data[:size])
    (found,) = read_all(data)
    assert isinstance(found, ImageMessage)
    assert same(found, image)
    assert read_all(b"") == []


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (ID.pack(999), "id 999"),
        (ID.pack(0), "id 0"),
        (ID.pack(2) + b"\xff\xff\xff\xff", "config text of 4294967295"),
        (ID.pack(3) + struct.pack("<I", (4 << 20) + 1), "header of 4194305 bytes; the limit"),
        (ID.pack(5) + b"\xff\xff\xff\x7f", "text of"),
        (ID.pack(1022) + make_header(0, (1, 1, 1, 1)), "data type 0"),
        (ID.pack(1022) + make_header(9, (1, 1, 1, 1)), "data type 9"),
        (ID.pack(1022) + make_header(8, (65_535,) * 4), "the limit is"),
        (ID.pack(1022) + make_header(1, (1, 1, 1, 1)) + b"\xff" * 8, "attributes of an image"),
        (ID.pack(1008) + b"\xff" * 340, "acquisition of"),
        (ID.pack(1026) + b"\xff" * 40, "waveform of"),
    ],
)  # fmt: skip
def test_hostile_sizes_take_no_memory(data: bytes, why: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError, match=why):
            read_all(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


def test_a_slow_peer_is_given_up() -> None:
    with wire_pair(QUICK) as (peer, wire):
        reader = MessageReader(wire, QUICK)
        with pytest.raises(ProtocolError, match="time is up, while waiting for a config message"):
            reader.read()
    with wire_pair(QUICK) as (peer, wire):
        reader = MessageReader(wire, QUICK)
        peer.sendall(pack_message(text_message(MessageId.CONFIG_TEXT, "x")))
        assert reader.read() is not None
        with pytest.raises(ProtocolError, match="the next message"):
            reader.read()
        peer.sendall(pack_message(text_message(MessageId.TEXT, "x"))[:-1])
        with pytest.raises(ProtocolError, match="the rest of a message"):
            reader.read()


def test_a_peer_that_sends_drop_by_drop_is_given_up() -> None:
    done = threading.Event()
    with wire_pair(QUICK) as (peer, wire):

        def drip() -> None:
            for byte in pack_message(text_message(MessageId.CONFIG_TEXT, "x" * 100)):
                if done.wait(0.01):
                    return
                peer.sendall(bytes([byte]))

        thread = threading.Thread(target=drip)
        thread.start()
        with pytest.raises(ProtocolError, match="time is up"):
            MessageReader(wire, QUICK).read()
        done.set()
        thread.join()


def send_often(wire: Wire, image: ImageMessage) -> None:
    for _ in range(100):
        wire.send(image)


def test_a_peer_that_takes_nothing_is_given_up() -> None:
    image = make_image(random_voxels(1, (1, 1, 512, 512)))
    with wire_pair(QUICK) as (_, wire), pytest.raises(ProtocolError, match="did not take"):
        send_often(wire, image)


def test_config_names_are_bounded() -> None:
    with pytest.raises(ProtocolError, match="1024 bytes"):
        config_file_message("x" * 1024)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.binary(max_size=400))
def test_garbage_is_refused_and_nothing_else(data: bytes) -> None:
    try:
        messages = read_all(data)
    except ProtocolError:
        return
    assert b"".join(map(pack_message, messages)) == data


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.data())
def test_damaged_images_are_read_as_what_they_say_or_refused(data: st.DataObject) -> None:
    stream = bytearray(pack_message(make_image(random_voxels(1, (2, 1, 3, 5)), b"<x/>")))
    for _ in range(data.draw(st.integers(1, 4))):
        stream[data.draw(st.integers(0, 230))] = data.draw(st.integers(0, 255))
    try:
        messages = read_all(bytes(stream))
    except ProtocolError:
        return
    assert b"".join(map(pack_message, messages)) == bytes(stream)
