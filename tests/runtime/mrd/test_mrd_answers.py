from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from mrd_peer import plain_decoder
from mrd_samples import make_image, smooth_voxels, wire_pair

from edge_codec.bitstream.metadata import pack_metadata
from edge_codec.bitstream.packet import Packet
from edge_codec.codec import Encoder
from edge_codec.errors import ProtocolError, SinkError
from edge_codec.io.mrd_frames import ImageFrames
from edge_codec.runtime.mrd.answers import Answers, Slot
from edge_codec.runtime.mrd.limits import Limits
from edge_codec.runtime.mrd.protocol import (
    AnyMessage,
    ImageMessage,
    Message,
    MessageId,
    MessageReader,
    pack_message,
    text_message,
)
from edge_codec.runtime.mrd.returns import AnswerMode, ImageReturns
from edge_codec.runtime.mrd.side_file import SideFile
from edge_codec.runtime.mrd.wire import Wire
from edge_codec.runtime.packet_sink import Segment
from edge_codec.runtime.sync_policy import SyncPolicy
from edge_codec.spec import Effort, StreamSpec

LIMITS = Limits(max_in_flight_bytes=100, max_in_flight_items=4, send_s=0.3, message_s=5, idle_s=5)
TEXTS = [text_message(MessageId.TEXT, f"{number}") for number in range(6)]
IMAGES = [make_image(smooth_voxels(1, (1, 1, 8, 6), n), phase=n) for n in range(3)]


@pytest.fixture
def pair() -> Iterator[tuple[Answers, MessageReader]]:
    with wire_pair(LIMITS) as (peer, wire):
        answers = Answers(wire, LIMITS)
        other = Wire(peer, LIMITS)
        yield answers, MessageReader(other, LIMITS)
        answers.close()


def test_answers_keep_the_order_of_the_slots(pair: tuple[Answers, MessageReader]) -> None:
    answers, reader = pair
    slots = [answers.reserve(1) for _ in range(4)]
    answers.fill(slots[2], [TEXTS[2]])
    answers.fill(slots[1], [])
    answers.fill(slots[0], TEXTS[:2])
    found = [reader.read() for _ in range(3)]
    assert found == TEXTS[:3]
    answers.close()  # nobody filled the last one


@pytest.mark.parametrize("sizes", [[60, 60, 1], [1, 1, 1, 1, 1], [1000, 1]])
def test_what_is_in_flight_is_bounded(
    pair: tuple[Answers, MessageReader], sizes: list[int]
) -> None:
    answers, _ = pair
    slots = [answers.reserve(size) for size in sizes[:-1]]
    done = threading.Event()

    def reserve() -> None:
        answers.reserve(sizes[-1])
        done.set()

    thread = threading.Thread(target=reserve)
    thread.start()
    assert not done.wait(0.1)
    answers.fill(slots[0], ())
    assert done.wait(5)
    thread.join()


def test_a_deaf_peer_fails_the_answers_and_wakes_who_waits() -> None:
    image = make_image(smooth_voxels(1, (1, 1, 1000, 1000)))
    with wire_pair(LIMITS) as (_, wire):
        answers = Answers(wire, LIMITS)
        slot = answers.reserve(1000)
        answers.fill(slot, [image])
        with pytest.raises(ProtocolError, match="did not take an answer"):
            answers.reserve(1)
        assert isinstance(answers.error, ProtocolError)
        assert wire.stopped
        answers.close()


class Recorder(Answers):
    """Does work at once, and keeps what slots were filled with."""

    def __init__(self) -> None:
        self.filled: list[tuple[Slot, list[AnyMessage]]] = []

    def later(self, work) -> None:
        work()

    def fill(self, slot: Slot, messages) -> None:
        self.filled.append((slot, list(messages)))


def coded() -> tuple[Segment, list[Packet]]:
    first = ImageFrames.of(IMAGES[0], 0)
    dictionary = first.dictionary(b"")
    spec = StreamSpec(first.geometry(1, dictionary), 0, 65_535, effort=Effort.FAST)
    encoder = Encoder(spec)
    packets = [
        encoder.push(voxels, plane, pack_metadata(note, dictionary))
        for item, image in enumerate(IMAGES)
        for plane, voxels, note in ImageFrames.of(image, item).frames()
    ]
    return Segment("s", 0, spec), packets


def make_returns(mode: AnswerMode) -> tuple[Recorder, ImageReturns, list[Packet], list[Slot]]:
    recorder = Recorder()
    returns = ImageReturns(recorder, mode, plain_decoder, Limits())
    segment, packets = coded()
    slots = [Slot(1) for _ in IMAGES]
    for item, slot in enumerate(slots):
        returns.expect(item, slot, IMAGES[item], 1)
    returns.begin(segment)
    return recorder, returns, packets, slots


def test_images_that_later_ones_overtook_are_given_up_at_once() -> None:
    recorder, returns, packets, slots = make_returns(AnswerMode.ORIGINAL)
    returns.send(packets[1], packets[1].pack())
    assert recorder.filled == [(slots[0], []), (slots[1], [IMAGES[1]])]
    assert returns.dropped == 1
    returns.finish()
    assert recorder.filled[2:] == [(slots[2], [])]
    assert returns.dropped == 2


def test_a_lossless_answer_that_differs_ends_the_session() -> None:
    _, returns, packets, slots = make_returns(AnswerMode.DECODED)
    other = bytearray(IMAGES[0].voxels)
    other[5] ^= 1
    changed = ImageMessage(IMAGES[0].header, IMAGES[0].attributes, bytes(other))
    returns.expect(0, slots[0], changed, 1)
    with pytest.raises(Exception, match="came back changed from a lossless stream"):
        returns.send(packets[0], packets[0].pack())


def test_a_decoder_decodes_the_bytes_of_the_packet() -> None:
    _, returns, packets, _ = make_returns(AnswerMode.DECODED)
    data = bytearray(packets[0].pack())
    data[-1] ^= 1
    with pytest.raises(Exception, match="is damaged"):
        returns.send(packets[0], bytes(data))


def test_side_files_grow_by_whole_messages(tmp_path: Path) -> None:
    path = tmp_path / "a.mrd"
    side = SideFile(path, SyncPolicy.EVERY_PACKET, resume=False)
    side.append(TEXTS[0])
    side.append(IMAGES[0])
    assert path.read_bytes() == pack_message(TEXTS[0]) + pack_message(IMAGES[0])
    side.close(whole=False)
    side.close(whole=True)  # does nothing
    assert path.read_bytes() == pack_message(TEXTS[0]) + pack_message(IMAGES[0])
    with pytest.raises(SinkError, match="File exists"):
        SideFile(path, SyncPolicy.NONE, resume=False)
    again = SideFile(path, SyncPolicy.NONE, resume=True)
    again.append(TEXTS[2])
    again.close(whole=True)
    assert again.number == 2
    assert path.read_bytes() == pack_message(TEXTS[0]) + pack_message(IMAGES[0])
    close = pack_message(Message(MessageId.CLOSE))
    assert (tmp_path / "a.2.mrd").read_bytes() == pack_message(TEXTS[2]) + close


def test_side_files_are_forced_onto_the_disk_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, forced = [100.0], []
    monkeypatch.setattr("edge_codec.runtime.mrd.side_file.time.monotonic", lambda: now[0])
    monkeypatch.setattr(
        "edge_codec.runtime.mrd.side_file.os.fsync", lambda _: forced.append(now[0])
    )
    side = SideFile(tmp_path / "a.mrd", SyncPolicy(seconds=2.0), resume=False)
    for now[0] in (100.5, 101.5, 102.5, 103.0, 104.4, 104.6):
        side.append(TEXTS[0])
    assert forced == [102.5, 104.6]
    side.close(whole=False)
    assert forced == [102.5, 104.6, 104.6]


def test_a_full_disk_leaves_whole_messages(tmp_path: Path) -> None:
    side = SideFile(tmp_path / "a.mrd", SyncPolicy.NONE, resume=False)
    side.append(TEXTS[0])

    class Full:
        """Takes some bytes, then no more."""

        closed = False

        def __init__(self, file) -> None:
            self.file, self.left = file, 10

        def write(self, data) -> int:
            if not self.left:
                raise OSError(28, "No space left on device")
            count = self.file.write(data[: self.left])
            self.left -= count
            return count

        def truncate(self, size: int) -> None:
            self.file.truncate(size)

    whole = side._file
    side._file = Full(whole)  # type: ignore[assignment]
    with pytest.raises(SinkError, match="No space left"):
        side.append(IMAGES[0])
    side._file = whole
    side.append(TEXTS[1])
    side.close(whole=False)
    data = (tmp_path / "a.mrd").read_bytes()
    assert data == pack_message(TEXTS[0]) + pack_message(TEXTS[1])
