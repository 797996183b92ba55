"""Sessions that are cut, mutated, or not what the protocol allows."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mrd_peer import (
    CLOSE,
    IMAGES,
    SESSION,
    check_alive,
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

from edge_codec.errors import SinkError
from edge_codec.runtime.mrd.protocol import ID, pack_message
from edge_codec.runtime.mrd.returns import AnswerMode
from edge_codec.runtime.mrd.server import MrdServer
from edge_codec.runtime.mrd.session import SessionReport


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


def test_a_full_disk_ends_the_session_with_a_reason() -> None:
    class FullSink:
        def begin(self, segment: object) -> None:
            pass

        def send(self, packet: object, data: bytes) -> None:
            raise SinkError("the disk is full; make room")

        def end(self) -> None:
            pass

        def abort(self) -> None:
            pass

    reports: list[SessionReport] = []
    with serving(make_sinks=[lambda name: FullSink()], reports=reports) as server:
        answers = talk(server, IMAGES * 20)
        assert "the disk is full" in texts_of(answers)[-1]
        assert answers[-1] == CLOSE
        assert server.wait_idle(5)
    assert "the disk is full" in reports[0].error
