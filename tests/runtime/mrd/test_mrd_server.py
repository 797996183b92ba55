from __future__ import annotations

import threading
from pathlib import Path

import ismrmrd
import numpy as np
import pytest
from ismrmrd.serialization import ProtocolDeserializer
from mrd_peer import (
    CLOSE,
    connect,
    exchange,
    images_of,
    opening,
    plain_decoder,
    serving,
    stored,
    talk,
    texts_of,
)
from mrd_samples import DTYPES, META, XML, make_image, random_voxels, same, smooth_voxels

from edge_codec.bitstream.container import StreamReader
from edge_codec.bitstream.live import Policy
from edge_codec.bitstream.verify import verify
from edge_codec.runtime.live_options import LiveOptions
from edge_codec.runtime.mrd.limits import Limits
from edge_codec.runtime.mrd.packet_image import PacketImageReceiver, is_packet_image
from edge_codec.runtime.mrd.protocol import (
    ImageMessage,
    Message,
    MessageId,
    pack_message,
    text_message,
)
from edge_codec.runtime.mrd.restore import ImageRestorer, xml_of
from edge_codec.runtime.mrd.returns import AnswerMode
from edge_codec.runtime.mrd.session import SessionReport
from edge_codec.spec import Effort

WAVEFORM = Message(
    MessageId.WAVEFORM,
    ismrmrd.Waveform.from_array(np.arange(12, dtype=np.uint32).reshape(3, 4)).to_bytes(),
)
ACQUISITION = Message(
    MessageId.ACQUISITION,
    ismrmrd.Acquisition.from_array(np.ones((2, 5), np.complex64)).to_bytes(),
)


def mixed_images() -> list[ImageMessage]:
    """Every data type, several series, matrix sizes, slices, channels, in one session."""
    images = []
    for phase in range(3):
        images += [
            make_image(
                smooth_voxels(data_type, (2, 1, 16, 12), phase),
                META + b"%d" % phase,
                series=data_type,
                slice_index=slice_index,
                phase=phase,
            )
            for data_type in DTYPES
            for slice_index in range(2)
        ]
        images.append(make_image(random_voxels(5, (1, 1, 8, 9), phase), b"", series=5))
        images.append(make_image(smooth_voxels(2, (1, 3, 20, 24), phase), b"", series=2))
        images.append(make_image(smooth_voxels(2, (1, 1, 16, 12), phase), series=2, image_type=2))
        images.append(make_image(smooth_voxels(2, (1, 1, 16, 12), phase), series=2, slice_index=9))
    return images


def restored(folder: Path) -> dict[int, ImageMessage]:
    """Rebuild every image of a folder of streams; keys are items."""
    images = {}
    for path in sorted(folder.rglob("*.ecd")):
        with path.open("rb") as file:
            assert verify(file).ok, path
            reader = StreamReader(file)
            restorer = ImageRestorer(reader.spec, plain_decoder, Limits())
            for packet in reader.packets():
                found = restorer.push(packet)
                if found is not None:
                    assert found[0] not in images
                    images[found[0]] = found[1]
            restorer.finish()
            assert restorer.incomplete == 0
    return images


@pytest.mark.parametrize("answer", [AnswerMode.ORIGINAL, AnswerMode.DECODED, AnswerMode.PACKETS])
def test_every_image_comes_back_byte_for_byte(answer: AnswerMode, tmp_path: Path) -> None:
    images = mixed_images()
    reports: list[SessionReport] = []
    with serving(answer=answer, folder=tmp_path, reports=reports) as server:
        answers = talk(server, images)
    assert answers[-1] == CLOSE
    assert texts_of(answers) == []
    found = images_of(answers)
    if answer is AnswerMode.PACKETS:
        assert all(map(is_packet_image, found))
        assert len(found) > len(images)
        receiver = PacketImageReceiver(plain_decoder, Limits())
        found = [image for entry in found if (image := receiver.push(entry)) is not None]
        receiver.finish()
        assert receiver.incomplete == 0
    assert len(found) == len(images)
    assert all(map(same, found, images))
    # And from the files, which also say which was which.
    files = restored(tmp_path)
    assert sorted(files) == list(range(len(images)))
    assert all(same(files[item], image) for item, image in enumerate(images))
    assert [(report.images, report.dropped, report.error) for report in reports] == [
        (len(images), 0, "")
    ]


def test_the_packages_own_client_side_is_understood(tmp_path: Path) -> None:
    theirs = []
    for phase in range(4):
        image = ismrmrd.Image.from_array(
            smooth_voxels(1, (1, 1, 24, 20), phase), phase=phase, image_series_index=3
        )
        image.meta = ismrmrd.Meta({"a": "b"})
        theirs.append(image)
    messages = [
        Message(MessageId.IMAGE, image.to_bytes())
        for image in theirs
    ]  # fmt: skip
    with serving(answer=AnswerMode.DECODED, folder=tmp_path) as server:
        answers = talk(server, messages, xml=b"Dummy XML header")
    found = [ismrmrd.Image.from_bytes(pack_message(image)[2:]) for image in images_of(answers)]
    assert found == theirs
    assert [pack_message(image)[2:] for image in images_of(answers)] == [
        message.body for message in messages
    ]


def test_other_messages_are_stored_and_answered_in_order(tmp_path: Path) -> None:
    image = make_image(smooth_voxels(1, (1, 1, 16, 16)))
    other = make_image(smooth_voxels(1, (1, 1, 16, 16), 1), phase=1)
    text = text_message(MessageId.TEXT, '{"parameters": {}}')
    said = [text, WAVEFORM, image, ACQUISITION, WAVEFORM, other]
    reports: list[SessionReport] = []
    with serving(folder=tmp_path, reports=reports) as server:
        answers = talk(server, said, config="edge-codec;token=unused-0123456789")
    # A text is meant for this server and not sent back.
    assert [pack_message(answer) for answer in answers] == [
        pack_message(message) for message in (*said[1:], CLOSE)
    ]
    with (tmp_path / "45_6-7.mrd").open("rb") as file:
        kept = list(ProtocolDeserializer(file).deserialize())
    data = (tmp_path / "45_6-7.mrd").read_bytes()
    assert b"token" not in data
    assert kept[0] == "edge-codec"
    assert data.endswith(
        b"".join(map(pack_message, (text, WAVEFORM, ACQUISITION, WAVEFORM, CLOSE)))
    )
    # The numbers that the images leave free are those of the side file.
    assert sorted(restored(tmp_path)) == [2, 5]
    report = reports[0]
    assert (report.texts, report.waveforms, report.acquisitions, report.closed) == (1, 2, 1, True)


def test_streams_hold_the_header_and_all_slices_in_one_file(tmp_path: Path) -> None:
    images = [
        make_image(smooth_voxels(1, (1, 1, 16, 12), 9 * phase + index), slice_index=index)
        for phase in range(3)
        for index in range(2)
    ]
    with serving(answer=AnswerMode.NONE, folder=tmp_path) as server:
        assert talk(server, images) == [CLOSE]
    assert list(stored(tmp_path)) == ["45_6-7-s1/0000.ecd", "45_6-7.mrd"]
    with (tmp_path / "45_6-7-s1" / "0000.ecd").open("rb") as file:
        reader = StreamReader(file)
        assert (reader.spec.info.n_slices, reader.n_phases) == (2, 3)
        assert xml_of(reader.spec) == XML
        assert reader.spec.info.spacing_mm == (8.0, 250.5 / 16, 25.0)
        # Later notes are small, as the header carries the first.
        sizes = [len(data) for packet in reader.packets() for data in (packet.layers[2],)]
    assert max(sizes) < 64


def test_bounded_answers_say_so_and_floats_stay_exact(tmp_path: Path) -> None:
    live = LiveOptions(max_error=3, effort=Effort.FAST, budget_ms=0, threads=1)
    plain = make_image(smooth_voxels(2, (1, 1, 24, 24)))
    whole = make_image(np.rint(smooth_voxels(5, (1, 1, 24, 24))), series=2)
    exact = make_image(smooth_voxels(5, (1, 1, 24, 24)), series=3)
    with serving(live, answer=AnswerMode.DECODED, folder=tmp_path) as server:
        answers = images_of(talk(server, [plain, whole, exact]))
    for sent, back, dtype in ((plain, answers[0], np.int16), (whole, answers[1], np.float32)):
        first, second = (np.frombuffer(image.voxels, dtype) for image in (sent, back))
        error = np.abs(first.astype(np.float64) - second)
        assert 0 < error.max() <= 3
        meta = ismrmrd.Image.from_bytes(pack_message(back)[2:]).meta
        assert meta["edge_codec.promise"] == "max-error 3"
        assert meta["GADGETRON_Note"] == ["ä", "b"]
    assert same(exact, answers[2])


def test_original_answers_of_a_lossy_stream_are_the_originals() -> None:
    live = LiveOptions(max_error=3, effort=Effort.FAST, budget_ms=0, threads=1)
    image = make_image(smooth_voxels(2, (1, 1, 24, 24)))
    with serving(live) as server:
        (back,) = images_of(talk(server, [image]))
    assert same(back, image)


def test_images_that_cannot_be_coded_are_kept_and_answered(tmp_path: Path) -> None:
    empty = make_image(np.zeros((1, 1, 0, 5), np.uint16))
    image = make_image(smooth_voxels(1, (1, 1, 16, 16)))
    with serving(folder=tmp_path) as server:
        answers = talk(server, [empty, image, empty])
    assert list(map(pack_message, images_of(answers))) == [
        pack_message(entry) for entry in (empty, image, empty)
    ]
    assert len(texts_of(answers)) == 1
    assert "cannot be coded" in texts_of(answers)[0]
    assert (tmp_path / "45_6-7.mrd").read_bytes().count(pack_message(empty)) == 2


def test_odd_images_are_said_to_be_what_is_done_with_them(tmp_path: Path) -> None:
    empty = make_image(np.zeros((1, 1, 0, 5), np.uint16))
    said = {}
    for answer in (AnswerMode.NONE, AnswerMode.ORIGINAL):
        for folder in (None, tmp_path / answer.value):
            with serving(answer=answer, folder=folder) as server:
                answers = talk(server, [empty, WAVEFORM, empty])
            images = [text for text in texts_of(answers) if "image" in text]
            assert len(images) == 1
            said[answer, folder is not None] = images[0].partition("such images are ")[2]
    assert said == {
        (AnswerMode.NONE, False): "neither stored nor answered; serve with --out to keep them",
        (AnswerMode.NONE, True): "stored as they came",
        (AnswerMode.ORIGINAL, False): "answered as they came",
        (AnswerMode.ORIGINAL, True): "stored as they came and answered as they came",
    }


def test_what_is_neither_stored_nor_answered_is_said_once() -> None:
    with serving(answer=AnswerMode.NONE) as server:
        answers = talk(server, [WAVEFORM, WAVEFORM, ACQUISITION])
    assert len(texts_of(answers)) == 2
    assert "waveform messages are neither stored nor answered" in texts_of(answers)[0]
    assert answers[-1] == CLOSE


def test_drop_oldest_says_how_many_it_left_out() -> None:
    live = LiveOptions(
        policy=Policy.DROP_OLDEST, effort=Effort.BEST, budget_ms=0, threads=1, queue_frames=1
    )
    images = [make_image(smooth_voxels(1, (1, 1, 128, 128), n), index=n) for n in range(12)]
    reports: list[SessionReport] = []
    with serving(live, reports=reports) as server:
        answers = talk(server, images)
    back = [pack_message(image) for image in images_of(answers)]
    sent = [pack_message(image) for image in images]
    dropped = reports[0].dropped
    assert dropped > 0
    assert len(back) == len(sent) - dropped
    assert [sent.index(image) for image in back] == sorted(sent.index(image) for image in back)
    assert texts_of(answers) == [f"edge-codec: {dropped} images were left out to keep up"]


def test_sessions_of_one_name_get_names_of_their_own(tmp_path: Path) -> None:
    image = make_image(smooth_voxels(1, (1, 1, 16, 16)))
    with serving(folder=tmp_path) as server:
        for _ in range(2):
            assert images_of(talk(server, [image]))
        assert images_of(talk(server, [image], xml=XML.replace(b"45_6-7", b"../../etc/passwd")))
    names = list(stored(tmp_path))
    assert names == [
        "45_6-7-2-s1/0000.ecd", "45_6-7-2.mrd", "45_6-7-s1/0000.ecd", "45_6-7.mrd",
        "etc_passwd-s1/0000.ecd", "etc_passwd.mrd",
    ]  # fmt: skip


def test_a_resumed_session_goes_on_in_its_folder(tmp_path: Path) -> None:
    image = make_image(smooth_voxels(1, (1, 1, 16, 16)))
    for close in (True, False, True):
        with serving(folder=tmp_path, resume=True) as server:
            assert images_of(talk(server, [image, WAVEFORM], close=close))
    files = stored(tmp_path)
    assert [name for name in files if name.endswith(".mrd")] == [
        "45_6-7.2.mrd", "45_6-7.3.mrd", "45_6-7.mrd",
    ]  # fmt: skip
    # Each can be read to its end, and no two images of the session have the same number.
    whole = b"".join(map(pack_message, (*opening(), WAVEFORM, CLOSE)))
    assert files["45_6-7.mrd"] == files["45_6-7.3.mrd"] == whole
    assert files["45_6-7.2.mrd"] == whole[:-2]
    assert sorted(restored(tmp_path)) == [0, 1 << 32, 2 << 32]


def test_several_peers_at_once(tmp_path: Path) -> None:
    results: dict[int, bool] = {}

    def peer(number: int) -> None:
        images = [
            make_image(smooth_voxels(1, (1, 1, 24, 24), 100 * number + n), phase=n)
            for n in range(10)
        ]
        back = images_of(talk(server, images))
        results[number] = len(back) == 10 and all(map(same, back, images))

    with serving(folder=tmp_path, answer=AnswerMode.DECODED) as server:
        threads = [threading.Thread(target=peer, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == dict.fromkeys(range(4), True)
    assert sum(name.endswith(".ecd") for name in stored(tmp_path)) == 4


def test_stopping_completes_what_came(tmp_path: Path) -> None:
    images = [make_image(smooth_voxels(1, (1, 1, 24, 24), n), phase=n) for n in range(5)]
    got: list[ImageMessage] = []
    reports: list[SessionReport] = []
    with serving(folder=tmp_path, reports=reports) as server:
        import socket

        from mrd_peer import TIMES, opening

        from edge_codec.runtime.mrd.protocol import MessageReader
        from edge_codec.runtime.mrd.wire import Wire

        with socket.create_connection(server.address, 5) as sock:
            wire = Wire(sock, Limits(**TIMES))
            for message in (*opening(), *images):
                wire.send(message)
            reader = MessageReader(wire, Limits(**TIMES))
            for _ in images:
                message = reader.read()
                assert isinstance(message, ImageMessage)
                got.append(message)
            server.close()
            rest = [reader.read(), reader.read(), reader.read()]
    assert all(map(same, got, images))
    assert isinstance(rest[0], Message)
    assert "this server is stopping" in rest[0].text
    assert rest[1:] == [CLOSE, None]
    assert sorted(restored(tmp_path)) == list(range(5))
    assert not reports[0].closed


def test_the_order_and_the_texts_of_the_public_client(tmp_path: Path) -> None:
    """Config file, header and text with NULs, waveforms first, then images, then close."""
    images = [make_image(smooth_voxels(1, (1, 1, 16, 16), n), phase=n) for n in range(3)]
    said = [
        Message(MessageId.CONFIG_FILE, b"invertcontrast".ljust(1024, b"\0")),
        text_message(MessageId.HEADER, XML),
        text_message(MessageId.TEXT, '{"parameters": {"config": "null"}}'),
        WAVEFORM,
        WAVEFORM,
        *images,
        CLOSE,
    ]
    with serving(folder=tmp_path) as server:
        answers = exchange(connect(server), b"".join(map(pack_message, said)))
    assert [pack_message(answer) for answer in answers] == [
        pack_message(message) for message in said[3:]
    ]
    assert (tmp_path / "45_6-7.mrd").exists()


def test_a_client_that_only_looks_who_is_there() -> None:
    reports: list[SessionReport] = []
    with serving(reports=reports) as server:
        data = pack_message(opening()[0]) + pack_message(CLOSE)
        assert exchange(connect(server), data) == [CLOSE]
    assert reports[0].error == ""
