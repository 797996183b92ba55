"""Peers that are slow, too many, or beyond a limit; nobody else notices."""

from __future__ import annotations

import socket
import struct
import threading
import time
from pathlib import Path

import pytest
from mrd_peer import (
    CLOSE,
    IMAGES,
    SESSION,
    TOKEN,
    check_alive,
    connect,
    exchange,
    images_of,
    opening,
    serving,
    talk,
    texts_of,
)
from mrd_samples import make_image, same, smooth_voxels

from edge_codec.runtime.access import Access
from edge_codec.runtime.mrd.limits import Limits
from edge_codec.runtime.mrd.protocol import ImageMessage, Message, MessageId, pack_message
from edge_codec.runtime.mrd.server import MrdServer
from edge_codec.runtime.mrd.wire import Wire

IMPATIENT = {
    "first_message_s": 0.3,
    "idle_s": 0.3,
    "message_s": 0.3,
    "send_s": 0.3,
    "linger_s": 0.05,
}


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
