from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mrd_peer import (
    CLOSE,
    connect,
    exchange,
    images_of,
    opening,
    serving,
    stored,
    talk,
    texts_of,
)
from mrd_samples import XML, make_header, make_image, same, smooth_voxels

from edge_codec.errors import SpecError
from edge_codec.runtime.access import Access
from edge_codec.runtime.live_options import LiveOptions
from edge_codec.runtime.mrd.limits import Limits
from edge_codec.runtime.mrd.protocol import (
    ID,
    ImageMessage,
    Message,
    MessageId,
    pack_message,
    text_message,
)
from edge_codec.runtime.mrd.returns import AnswerMode
from edge_codec.runtime.mrd.server import MrdServer
from edge_codec.runtime.mrd.session import SessionReport
from edge_codec.runtime.mrd.session_texts import for_peer
from edge_codec.runtime.mrd.wire import Wire
from edge_codec.spec import Effort

TOKEN = "0123456789abcdef-secret"
IMAGES = [make_image(smooth_voxels(1, (1, 1, 8, 8), n), b"<x/>", phase=n) for n in range(3)]
SESSION = b"".join(map(pack_message, (*opening(), *IMAGES, CLOSE)))
IMPATIENT = {
    "first_message_s": 0.3,
    "idle_s": 0.3,
    "message_s": 0.3,
    "send_s": 0.3,
    "linger_s": 0.05,
}


@pytest.fixture(scope="module")
def reports() -> list[SessionReport]:
    return []


@pytest.fixture(scope="module")
def server(reports: list[SessionReport]) -> Iterator[MrdServer]:
    with serving(reports=reports, answer=AnswerMode.DECODED) as server:
        yield server


def in_memory(server: MrdServer, data: bytes) -> list[object]:
    """Hold a session over a socket pair, which is quicker than a network."""
    near, far = socket.socketpair()
    server.adopt(far, "pair")
    return list(exchange(near, data))


def check_alive(server: MrdServer) -> None:
    answers = talk(server, IMAGES)
    assert all(map(same, images_of(answers), IMAGES))
    assert len(images_of(answers)) == len(IMAGES)


def test_a_session_cut_at_every_boundary_is_answered_up_to_there(
    server: MrdServer, reports: list[SessionReport]
) -> None:
    pieces = [pack_message(message) for message in (*opening(), *IMAGES, CLOSE)]
    starts = [sum(map(len, pieces[:count])) for count in range(len(pieces) + 1)]
    within = [start + part for start in starts[:-1] for part in (1, 2, 3, 7, 150, 199, 208, 216)]
    for size in sorted({*starts, *within}):
        reports.clear()
        answers = in_memory(server, SESSION[: min(size, len(SESSION))])
        whole = sum(end <= size for end in starts[3:-1])
        assert len(images_of(answers)) == whole
        assert all(map(same, images_of(answers), IMAGES))
        assert server.wait_idle(5)
        if size in starts:
            assert reports[0].error == ""
            assert reports[0].closed == (size == len(SESSION))
        elif size < len(SESSION):
            assert "cut off" in reports[0].error, size
    check_alive(server)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (pack_message(CLOSE), "id 4 (close) came where a config message"),
        (pack_message(IMAGES[0]), "id 1022 (image) came where a config message"),
        (pack_message(opening()[1]), "id 3 (header) came where a config message"),
        (pack_message(opening()[0]) + pack_message(IMAGES[0]), "where the XML header"),
        (pack_message(opening()[0]) * 2, "id 1 (config_file) came where the XML header"),
        (SESSION[: SESSION.index(pack_message(IMAGES[1]))] + pack_message(opening()[0]), "id 1"),
        (b"GET / HTTP/1.1\r\nHost: scanner\r\n\r\n", "id 17735"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "id 790"),
        (SESSION[:-2] + ID.pack(1030) + b"\0" * 100, "id 1030"),
        (SESSION[:-2] + ID.pack(1022) + make_header(1, (1, 1, 65_535, 65_535)), "the limit is"),
        (SESSION[:-2] + ID.pack(1022) + make_header(77, (1, 1, 1, 1)), "data type 77"),
        (SESSION[:-2] + ID.pack(5) + b"\xff" * 4, "text of 4294967295 bytes"),
        (SESSION[:-2] + ID.pack(1008) + b"\xff" * 340, "acquisition of"),
        (SESSION[:-2] + ID.pack(1026) + b"\xff" * 40, "waveform of"),
    ],
)
def test_what_the_protocol_does_not_allow_is_said(server: MrdServer, data: bytes, why: str) -> None:
    answers = exchange(connect(server), data)
    assert texts_of(answers)
    assert why in texts_of(answers)[-1]
    assert answers[-1] == CLOSE
    check_alive(server)


def test_slow_peers_lose_their_connection_and_nobody_else(tmp_path: Path) -> None:
    with serving(folder=tmp_path, limits=IMPATIENT) as server:
        silent = connect(server)
        begun = connect(server)
        begun.sendall(SESSION[: SESSION.index(pack_message(IMAGES[0])) + 5])
        deaf = connect(server)
        image = make_image(smooth_voxels(1, (1, 1, 512, 512)))
        big = b"".join(map(pack_message, (*opening(), *[image] * 60)))
        sender = threading.Thread(target=send_quietly, args=(deaf, big))
        sender.start()
        check_alive(server)
        assert server.wait_idle(20)
        sender.join()
        for sock in (silent, begun):
            text = texts_of(exchange(sock, b""))
            assert "time is up" in text[0]
        deaf.close()
        check_alive(server)


def send_quietly(sock: socket.socket, data: bytes) -> None:
    try:
        sock.sendall(data)
    except OSError:
        return


def test_connections_are_bounded() -> None:
    with serving(limits={"max_connections": 2}) as server:
        first, second = begun(server), begun(server)
        answers = exchange(connect(server), b"")
        assert "as many connections as it takes" in texts_of(answers)[0]
        for sock in (first, second):
            assert len(images_of(exchange(sock, b"".join(map(pack_message, (*IMAGES, CLOSE)))))) > 2
        assert server.wait_idle(5)
        check_alive(server)


def begun(server: MrdServer, config: str = "edge-codec") -> socket.socket:
    """Begin a session; a waveform comes back when it has begun."""
    sock = connect(server)
    waveform = pack_message(Message(MessageId.WAVEFORM, bytes(40)))
    sock.sendall(b"".join(map(pack_message, opening(config=config))) + waveform)
    answer = b""
    while len(answer) < len(waveform):
        answer += sock.recv(len(waveform) - len(answer)) or b"?" * len(waveform)
    assert answer == waveform
    return sock


@pytest.mark.parametrize("token", [None, TOKEN])
def test_silent_connections_do_not_keep_a_scanner_out(token: str | None) -> None:
    config = "edge-codec" if token is None else f"edge-codec;token={token}"
    rest = b"".join(map(pack_message, (*IMAGES, CLOSE)))
    with serving(access=Access(token=token), limits={"max_connections": 4}) as server:
        scanner = begun(server, config)
        silent = [connect(server) for _ in range(12)]
        wait_for(server, "expelled", 9)
        answers = talk(server, IMAGES, config=config)
        assert all(map(same, images_of(answers), IMAGES))
        assert len(images_of(answers)) == len(IMAGES)
        # The oldest left, and none that had begun a session.
        assert silent[0].recv(1) == b""
        assert len(images_of(exchange(scanner, rest))) == len(IMAGES)
        assert server.counts["refused"] == 0
        for sock in silent:
            sock.close()


def test_a_shown_token_keeps_its_place_before_the_header() -> None:
    first = pack_message(opening(config=f"edge-codec;token={TOKEN}")[0])
    with serving(access=Access(token=TOKEN), limits={"max_connections": 1}) as server:
        scanner = connect(server)
        scanner.sendall(first)
        deadline = time.monotonic() + 5
        while not any(entry._known for entry in server._sessions.values()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert "as many connections" in texts_of(exchange(connect(server), b""))[0]
        assert len(images_of(exchange(scanner, SESSION[len(first) :]))) == len(IMAGES)


def wait_for(server: MrdServer, count: str, number: int) -> None:
    deadline = time.monotonic() + 5
    while server.counts[count] < number:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_stopping_does_not_wait_for_a_peer_that_reads_slowly() -> None:
    """Each answer is taken in time, but all of them would take half a minute and more."""
    header = struct.pack("<28x2H8x", 25_000, 1)
    waveform = pack_message(Message(MessageId.WAVEFORM, header + bytes(100_000)))
    data = b"".join(map(pack_message, opening())) + waveform * 300
    with serving(limits={"send_s": 1.0}) as server:
        (sock, far), stop = socket.socketpair(), threading.Event()  # whose buffers are small
        server.adopt(far, "pair")
        sender = threading.Thread(target=send_quietly, args=(sock, data))
        reader = threading.Thread(target=read_slowly, args=(sock, stop))
        closer = threading.Thread(target=server.close)
        for thread in (sender, reader):
            thread.start()
        sender.join()
        closer.start()
        closer.join(8)
        ended = not closer.is_alive()
        stop.set()
        for thread in (reader, closer):
            thread.join()
        sock.close()
    assert ended


def read_slowly(sock: socket.socket, stop: threading.Event) -> None:
    try:
        while sock.recv(50_000):
            if stop.wait(0.05):
                break
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
    except OSError:
        return


def test_a_peer_that_sends_on_is_not_read_from_for_ever() -> None:
    near, far = socket.socketpair()
    wire = Wire(far, Limits(send_s=0.05, linger_s=0.05))
    near.sendall(bytes(100))
    wire.stop_reading()
    assert wire.begin(False) == bytes(2)  # what has come is still read
    time.sleep(0.1)
    assert wire.begin(False) == b""
    wire.close()
    near.close()


def with_field(**field: int) -> ImageMessage:
    return make_image(smooth_voxels(1, (1, 1, 8, 8)), **field)


@pytest.mark.parametrize(
    ("limits", "images", "why"),
    [
        ({"max_streams": 2}, [with_field(series=n) for n in range(3)], "more than 2 kinds"),
        ({"max_open_voxels": 8000}, [with_field(slice_index=n) for n in range(10)],
         "voxels of all slices in work"),
        ({"max_total_voxels": 1000}, IMAGES, "what this server has left"),
        ({"max_frame_voxels": 63}, IMAGES, "the limits are"),
        ({"max_frames": 3}, [make_image(smooth_voxels(1, (2, 2, 8, 8)))], "the limits are"),
        ({"max_image_bytes": 100}, IMAGES, "the limit is 100"),
        ({"max_attribute_bytes": 3}, IMAGES, "the limit is 3"),
        ({"max_header_bytes": 50}, IMAGES, "the limit is 50"),
    ],
)  # fmt: skip
def test_every_limit_holds(limits: dict[str, int], images: list, why: str) -> None:
    with serving(limits=limits) as server:
        answers = talk(server, images)
        assert why in texts_of(answers)[-1]
        assert answers[-1] == CLOSE
        assert server.wait_idle(5)


def test_a_budget_comes_back_with_the_end_of_a_session() -> None:
    with serving(limits={"max_total_voxels": 1700}) as server:
        for _ in range(3):
            check_alive(server)
            assert server.wait_idle(5)


def test_a_hostile_peer_does_not_touch_the_data_of_another(tmp_path: Path) -> None:
    images = [make_image(smooth_voxels(1, (1, 1, 32, 32), n), phase=n) for n in range(30)]
    stop = threading.Event()

    def attack() -> None:
        number = 0
        while not stop.is_set():
            data = bytearray(SESSION)
            data[(number * 7919) % len(data)] ^= 0x55
            exchange(connect(server), bytes(data))
            number += 1

    with serving(folder=tmp_path, answer=AnswerMode.DECODED) as server:
        attacker = threading.Thread(target=attack)
        attacker.start()
        answers = talk(server, images, xml=XML.replace(b"45_6-7", b"good"))
        stop.set()
        attacker.join()
    assert len(images_of(answers)) == len(images)
    assert all(map(same, images_of(answers), images))
    assert "good-s1/0000.ecd" in stored(tmp_path)


@settings(derandomize=True, max_examples=250, deadline=None)
@given(st.data())
def test_mutated_sessions_do_no_harm(
    server: MrdServer, reports: list[SessionReport], data: st.DataObject
) -> None:
    """Flip, insert, remove and repeat bytes of a valid session, anywhere."""
    raw = bytearray(SESSION)
    at = st.integers(0, len(SESSION) - 1)
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(at) % len(raw)
        kind = data.draw(st.sampled_from(["flip", "insert", "remove", "repeat", "size"]))
        if kind == "flip":
            raw[place] = data.draw(st.integers(0, 255))
        elif kind == "insert":
            raw[place:place] = data.draw(st.binary(min_size=1, max_size=20))
        elif kind == "remove":
            del raw[place : place + data.draw(st.integers(1, 40))]
        elif kind == "repeat":
            raw[place:place] = raw[place : place + data.draw(st.integers(1, 400))]
        else:
            number = data.draw(st.sampled_from([0, 1, 255, 65_535, 1 << 31, (1 << 32) - 1]))
            raw[place : place + 4] = struct.pack("<I", number)
    reports.clear()
    answers = in_memory(server, bytes(raw))
    assert server.wait_idle(10)
    assert len(reports) == 1
    assert "defect" not in reports[0].error
    if reports[0].error:
        assert texts_of(answers)


def test_no_thread_is_left_behind(server: MrdServer) -> None:
    assert server.wait_idle(10)
    before = threading.active_count()
    for number in range(60):
        raw = bytearray(SESSION)
        raw[number * 13 % len(raw)] ^= 0xFF
        in_memory(server, bytes(raw))
    assert server.wait_idle(10)
    assert threading.active_count() <= before


def test_the_side_file_tells_a_session_that_was_cut(tmp_path: Path) -> None:
    with serving(folder=tmp_path) as server:
        exchange(connect(server), SESSION[:-2])
        exchange(connect(server), SESSION)
        assert server.wait_idle(5)
    files = stored(tmp_path)
    begun = b"".join(map(pack_message, opening()))
    assert files["45_6-7.mrd"] == begun
    assert files["45_6-7-2.mrd"] == begun + pack_message(CLOSE)


def test_a_token_is_demanded_before_anything_else(tmp_path: Path) -> None:
    access = Access(token=TOKEN)
    with serving(access=access, folder=tmp_path) as server:
        for config in ("edge-codec", "edge-codec;token=wrong", f"edge-codec;token={TOKEN}x"):
            answers = talk(server, IMAGES, config=config)
            assert images_of(answers) == []
            assert "access denied" in texts_of(answers)[0]
        assert stored(tmp_path) == {}
        good = talk(server, IMAGES, config=f"edge-codec;token={TOKEN}")
        assert all(map(same, images_of(good), IMAGES))
        text = text_message(MessageId.CONFIG_TEXT, f"<xml/> ;token={TOKEN}\nrest")
        data = b"".join(map(pack_message, (text, *opening()[1:], *IMAGES, CLOSE)))
        assert len(images_of(exchange(connect(server), data))) == len(IMAGES)
    files = stored(tmp_path)
    assert files
    assert not any(TOKEN.encode() in data for data in files.values())
    assert b"<xml/> \nrest" in files["45_6-7-2.mrd"]


def test_no_token_gets_into_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(0), serving(access=Access(token=TOKEN)) as server:
        talk(server, IMAGES, config=f"edge-codec;token={TOKEN}")
        talk(server, IMAGES, config="edge-codec;token=another-secret-0")
    assert caplog.text
    assert TOKEN not in caplog.text
    assert "another-secret-0" not in caplog.text


def test_other_machines_are_refused_without_a_token() -> None:
    from edge_codec.runtime.mrd.server import ServeOptions
    from edge_codec.runtime.pipeline import Pipeline

    with Pipeline() as pipeline, pytest.raises(SpecError, match="token"):
        MrdServer(("0.0.0.0", 0), ServeOptions(LiveOptions(effort=Effort.FAST)), Access(), pipeline)


def test_a_port_in_use_is_said() -> None:
    from edge_codec.runtime.mrd.server import ServeOptions
    from edge_codec.runtime.pipeline import Pipeline

    with Pipeline() as pipeline, socket.create_server(("127.0.0.1", 0)) as taken:
        address = taken.getsockname()[:2]
        with pytest.raises(SpecError, match="choose another port"):
            MrdServer(address, ServeOptions(), Access(), pipeline)


def test_a_full_disk_ends_the_session_with_a_reason(tmp_path: Path) -> None:
    class FullSink:
        def begin(self, segment: object) -> None:
            pass

        def send(self, packet: object, data: bytes) -> None:
            from edge_codec.errors import SinkError

            raise SinkError("the disk is full; make room")

        def end(self) -> None:
            pass

        def abort(self) -> None:
            pass

    del tmp_path
    reports: list[SessionReport] = []
    with serving(make_sinks=[lambda name: FullSink()], reports=reports) as server:
        answers = talk(server, IMAGES * 20)
        assert "the disk is full" in texts_of(answers)[-1]
        assert answers[-1] == CLOSE
        assert server.wait_idle(5)
    assert "the disk is full" in reports[0].error


def test_errors_do_not_tell_peers_the_folders_of_this_machine(tmp_path: Path) -> None:
    reports: list[SessionReport] = []
    folder = tmp_path / "a folder"
    with serving(folder=folder, reports=reports) as server:
        (folder / "45_6-7-s1").write_text("a file where a folder is due")
        answers = talk(server, IMAGES)
        assert server.wait_idle(5)
    text = texts_of(answers)[-1]
    assert "45_6-7-s1" in text
    assert str(tmp_path) not in text
    assert "/" not in text
    assert str(folder) in reports[0].error  # for the log


def test_absolute_paths_are_shortened_and_nothing_else_is() -> None:
    said = "a/b of '/var/lib/x/model.onnx': /etc/y.pem is no file; see https://a/b or int16 / float"
    found = for_peer(said, None)
    assert found == "a/b of 'model.onnx': y.pem is no file; see https://a/b or int16 / float"
