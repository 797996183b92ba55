"""A peer that does what the public client does, over a real connection; and a server for it."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mrd_samples import XML, make_image, same, smooth_voxels

from edge_codec.codec import Decoder
from edge_codec.errors import ProtocolError
from edge_codec.runtime.access import Access
from edge_codec.runtime.live_options import LiveOptions
from edge_codec.runtime.mrd.limits import Limits
from edge_codec.runtime.mrd.protocol import (
    TEXT_SIZE,
    AnyMessage,
    ImageMessage,
    Message,
    MessageId,
    MessageReader,
    config_file_message,
    pack_message,
    text_message,
)
from edge_codec.runtime.mrd.server import MrdServer, ServeOptions
from edge_codec.runtime.mrd.session import SessionReport
from edge_codec.runtime.mrd.wire import Wire
from edge_codec.runtime.pipeline import Pipeline
from edge_codec.spec import Effort, StreamSpec

FAST = LiveOptions(effort=Effort.FAST, budget_ms=0, threads=1)
CLOSE = Message(MessageId.CLOSE)
TOKEN = "0123456789abcdef-secret"
IMAGES = [make_image(smooth_voxels(1, (1, 1, 8, 8), n), b"<x/>", phase=n) for n in range(3)]
TIMES = {
    "first_message_s": 5.0,
    "idle_s": 10.0,
    "message_s": 10.0,
    "send_s": 10.0,
    "linger_s": 2.0,
}


def plain_decoder(spec: StreamSpec) -> Decoder:
    return Decoder(spec)


@contextmanager
def serving(
    live: LiveOptions = FAST,
    *,
    access: Access | None = None,
    make_sinks: Iterable[Callable[[str], Any]] = (),
    reports: list[SessionReport] | None = None,
    limits: dict[str, Any] | None = None,
    **options: Any,
) -> Iterator[MrdServer]:
    """Serve on a free port of this machine."""
    bounds = Limits(**{**TIMES, **(limits or {})})
    told = reports.append if reports is not None else None
    with (
        Pipeline() as pipeline,
        MrdServer(
            ("127.0.0.1", 0),
            ServeOptions(live, limits=bounds, **options),
            access or Access(),
            pipeline,
            tuple(make_sinks),
            told,
        ) as server,
    ):
        yield server


def opening(xml: bytes = XML, config: str = "edge-codec") -> list[AnyMessage]:
    """Return what a client says first; the package's has no NUL after the header."""
    header = Message(MessageId.HEADER, TEXT_SIZE.pack(len(xml)) + xml)
    return [config_file_message(config), header]


def talk(
    server: MrdServer,
    messages: Iterable[AnyMessage],
    *,
    xml: bytes = XML,
    config: str = "edge-codec",
    close: bool = True,
    tls: ssl.SSLContext | None = None,
) -> list[AnyMessage]:
    """Send a session while reading the answers; return all of them."""
    said = [*opening(xml, config), *messages, *([CLOSE] if close else [])]
    return exchange(connect(server, tls), b"".join(map(pack_message, said)))


def connect(server: MrdServer, tls: ssl.SSLContext | None = None) -> socket.socket:
    sock = socket.create_connection(server.address, 10)
    return sock if tls is None else tls.wrap_socket(sock, server_hostname="localhost")


def exchange(sock: socket.socket, data: bytes) -> list[AnyMessage]:
    """Send bytes and hang up, reading meanwhile; return what was answered."""
    wire = Wire(sock, Limits(**TIMES))

    class Raw:
        ident = MessageId.TEXT

        def parts(self) -> tuple[bytes, ...]:
            return (data,)

    def send() -> None:
        with contextlib.suppress(ProtocolError, OSError):  # refused in between
            wire.send(Raw())  # type: ignore[arg-type]
            socket.socket.shutdown(sock, socket.SHUT_WR)

    sender = threading.Thread(target=send)
    sender.start()
    reader, answers = MessageReader(wire, Limits(**TIMES)), []
    try:
        while (message := reader.read()) is not None:
            answers.append(message)
            if message.ident is MessageId.CLOSE:
                break
    except ProtocolError as error:
        answers.append(text_message(MessageId.TEXT, f"reading: {error}"))
    wire.stop_reading()
    sender.join()
    wire.close()
    return answers


def images_of(answers: Iterable[AnyMessage]) -> list[ImageMessage]:
    return [answer for answer in answers if isinstance(answer, ImageMessage)]


def texts_of(answers: Iterable[AnyMessage]) -> list[str]:
    return [
        answer.text
        for answer in answers
        if isinstance(answer, Message) and answer.ident is MessageId.TEXT
    ]


SESSION = b"".join(map(pack_message, (*opening(), *IMAGES, CLOSE)))


def check_alive(server: MrdServer) -> None:
    """Hold a session in which nothing is wrong."""
    answers = talk(server, IMAGES)
    assert all(map(same, images_of(answers), IMAGES))
    assert len(images_of(answers)) == len(IMAGES)


def stored(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder and their bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
