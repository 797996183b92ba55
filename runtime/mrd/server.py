"""A server for scanners: takes MRD sessions over TCP, each in threads of its own.

Connections are bounded in number, and each in what it may ask for (`Limits`); all share one
pipeline. Without a token it listens to this machine only.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol, runtime_checkable

from edge_codec.codec import Decoder
from edge_codec.errors import SinkError, SpecError
from edge_codec.runtime.access import Access, check_listen
from edge_codec.runtime.live_options import LiveOptions
from edge_codec.runtime.live_stream import LiveStream
from edge_codec.runtime.models import check_hashes, load_model
from edge_codec.runtime.mrd.limits import Limits
from edge_codec.runtime.mrd.protocol import (
    ERROR_PREFIX,
    Message,
    MessageId,
    pack_message,
    text_message,
)
from edge_codec.runtime.mrd.returns import AnswerMode
from edge_codec.runtime.mrd.series import NameBook, VoxelBudget
from edge_codec.runtime.mrd.session import Services, Session, SessionReport
from edge_codec.runtime.mrd.wire import Wire
from edge_codec.runtime.packet_sink import PacketSink
from edge_codec.runtime.pipeline import Pipeline
from edge_codec.runtime.stream_file import FileSink
from edge_codec.runtime.sync_policy import SyncPolicy
from edge_codec.spec import CineInfo, StreamSpec

_log = logging.getLogger(__name__)

_BACKLOG = 64
_RETRY_S = 0.1  # where no more files can be opened
_BUSY = f"{ERROR_PREFIX}this server has as many connections as it takes; try again later"

# Makes a sink for the packets of a stream, given its name.
MakeSink = Callable[[str], PacketSink]


@runtime_checkable
class _AsksForKeys(Protocol):
    """A sink whose receiver may lose packets."""

    on_key_request: Callable[[int | None], None] | None


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What a server does with the images that come.

    Attributes
    ----------
    live : LiveOptions
        How they are coded.
    answer : AnswerMode
        What their sender gets back.
    folder : Path or None
        Where streams are stored; None for nowhere.
    sync : SyncPolicy
        When they are forced onto the disk.
    resume : bool
        Whether sessions that are there already are gone on with.
    limits : Limits
        What a peer may ask for.
    """

    live: LiveOptions = field(default_factory=LiveOptions)
    answer: AnswerMode = AnswerMode.ORIGINAL
    folder: Path | None = None
    sync: SyncPolicy = SyncPolicy.NONE
    resume: bool = False
    limits: Limits = field(default_factory=Limits)


class MrdServer:
    """Listens for MRD sessions.

    Parameters
    ----------
    address : tuple of (str, int)
        Where to listen; port 0 for any free one.
    options : ServeOptions
        What to do.
    access : Access
        Who may come in.
    pipeline : Pipeline
        Codes the images; not closed by the server.
    make_sinks : sequence of callable
        Where packets go besides the folder.
    on_session : callable, optional
        Is told of every session that ended, in its thread.

    Raises
    ------
    SpecError
        If it would listen to other machines without a token, or cannot listen there.
    SinkError
        If the folder cannot be made.
    """

    def __init__(
        self,
        address: tuple[str, int],
        options: ServeOptions,
        access: Access,
        pipeline: Pipeline,
        make_sinks: Sequence[MakeSink] = (),
        on_session: Callable[[SessionReport], None] | None = None,
    ) -> None:
        check_listen(address[0], access)
        self._options = options
        self._access = access
        self._pipeline = pipeline
        self._make_sinks = tuple(make_sinks)
        self._on_session = on_session
        self._services = self._make_services()
        self._lock = threading.Lock()
        self._sessions: dict[threading.Thread, Session] = {}
        self._stopping = False
        self.counts: Counter[str] = Counter()
        self._socket = _listen(address)
        self._accepting = threading.Thread(target=self._accept, name="mrd-accept", daemon=True)
        self._accepting.start()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that it listens at."""
        host, port = self._socket.getsockname()[:2]
        return str(host), int(port)

    def adopt(self, sock: socket.socket, peer: str) -> None:
        """Serve a connected socket in a thread of its own; refuse it where there are too many."""
        with self._lock:
            if not self._stopping and self._make_room():
                self._start(sock, peer)
                return
        self.counts["refused"] += 1
        _refuse(sock)

    def wait_idle(self, timeout_s: float) -> bool:
        """Wait until no session is open."""
        deadline_s = time.monotonic() + timeout_s
        for thread in list(self._sessions):
            thread.join(max(0.0, deadline_s - time.monotonic()))
        return not self._sessions

    def close(self) -> None:
        """Take no more connections; end the sessions after what they have received."""
        with self._lock:
            self._stopping = True
            sessions = list(self._sessions.items())
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._socket.close()
        self._accepting.join()
        for _, session in sessions:
            session.stop()
        for thread, _ in sessions:
            thread.join()

    def __enter__(self) -> MrdServer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _make_services(self) -> Services:
        options = self._options
        if options.folder is not None:
            try:
                options.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise SinkError(f"{options.folder} cannot be made: {error.strerror}") from error
        return Services(
            live=options.live,
            answer=options.answer,
            folder=options.folder,
            sync=options.sync,
            resume=options.resume,
            access=self._access,
            limits=options.limits,
            open_stream=self._open_stream,
            open_decoder=functools.partial(_open_decoder, options.live),
            names=NameBook(options.folder, options.resume),
            budget=VoxelBudget(options.limits.max_total_voxels),
        )

    def _open_stream(
        self, name: str, options: LiveOptions, sinks: Sequence[PacketSink], geometry: CineInfo
    ) -> LiveStream:
        ours: list[PacketSink] = [make(name) for make in self._make_sinks]
        folder = self._options.folder
        if folder is not None:
            ours.insert(0, FileSink(folder, sync=self._options.sync, resume=self._options.resume))
        # The session's own comes last: an answer says that all the others have the image.
        stream = self._pipeline.open(name, options, [*ours, *sinks], geometry=geometry)
        for sink in ours:
            if isinstance(sink, _AsksForKeys):
                sink.on_key_request = stream.request_key
        return stream

    def _accept(self) -> None:
        while not self._stopping:
            try:
                sock, peer = self._socket.accept()
            except OSError:
                # Closed, or too many open files: that passes, and must not end the server.
                time.sleep(0 if self._stopping else _RETRY_S)
                continue
            self.counts["accepted"] += 1
            try:
                if self._access.server_tls is not None:
                    sock = self._access.server_tls.wrap_socket(
                        sock, server_side=True, do_handshake_on_connect=False
                    )
                self.adopt(sock, f"{peer[0]}:{peer[1]}")
            except (OSError, RuntimeError) as error:  # gone already; no more threads
                _log.warning("a connection could not be served: %s", error)
                sock.close()

    def _make_room(self) -> bool:
        """Whether there is room for a connection, given the lock.

        Where there are too many, the oldest that has not shown who it is leaves: strangers who
        connect and say nothing must not keep scanners out.
        """
        if len(self._sessions) < self._options.limits.max_connections:
            return True
        for thread, session in self._sessions.items():
            if session.expel():
                del self._sessions[thread]
                self.counts["expelled"] += 1
                return True
        return False

    def _start(self, sock: socket.socket, peer: str) -> None:
        session = Session(Wire(sock, self._options.limits), self._services, peer)
        thread = threading.Thread(
            target=self._serve, args=(session,), name="mrd-session", daemon=True
        )
        self._sessions[thread] = session
        try:
            thread.start()
        except RuntimeError:  # no more threads
            del self._sessions[thread]
            raise

    def _serve(self, session: Session) -> None:
        try:
            report = session.run()
            self.counts["failed" if report.error else "served"] += 1
            if self._on_session is not None:
                self._on_session(report)
        finally:
            with self._lock:
                self._sessions.pop(threading.current_thread(), None)  # unless it was expelled


def _listen(address: tuple[str, int]) -> socket.socket:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    try:
        return socket.create_server(address, family=family, backlog=_BACKLOG)
    except OSError as error:
        raise SpecError(
            f"cannot listen at {address[0] or '*'}:{address[1]}: {error.strerror or error}; choose "
            "another port, or 0 for any"
        ) from error


def _refuse(sock: socket.socket) -> None:
    """Say why, if that can be done at once, and close."""
    with contextlib.suppress(OSError):
        sock.setblocking(False)
        if not isinstance(sock, ssl.SSLSocket):
            last = pack_message(Message(MessageId.CLOSE))
            sock.send(pack_message(text_message(MessageId.TEXT, _BUSY)) + last)
    sock.close()


def _open_decoder(options: LiveOptions, spec: StreamSpec) -> Decoder:
    """Make the decoder of a stream, as a receiver would."""
    check_hashes(spec)
    model = load_model(
        spec.model, backend=options.backend, threads=options.threads, decode_only=True
    )
    return Decoder(spec, model)
