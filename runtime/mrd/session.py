"""One connection from its first byte to its last: config, header, items, close.

    peer    config  header  image  waveform  image ...  close
    here                    image  waveform  image ...  close

The peer's messages are read in one thread; images become frames of live streams, everything else
goes to the session's side file; answers go back in the order of the questions, from a thread of
their own. Whatever is wrong ends this session and no other: the peer is told why in a text message,
what came whole before is coded, stored and complete.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from edge_codec.errors import EdgeCodecError, ProtocolError
from edge_codec.io.mrd_frames import ImageFrames
from edge_codec.runtime.access import Access, same_token
from edge_codec.runtime.live_options import LiveOptions
from edge_codec.runtime.mrd.answers import Answers
from edge_codec.runtime.mrd.limits import Limits
from edge_codec.runtime.mrd.protocol import (
    ERROR_PREFIX,
    TEXT_SIZE,
    AnyMessage,
    ImageMessage,
    Message,
    MessageId,
    MessageReader,
    text_message,
)
from edge_codec.runtime.mrd.restore import OpenDecoder
from edge_codec.runtime.mrd.returns import AnswerMode, ImageReturns
from edge_codec.runtime.mrd.series import (
    NameBook,
    OpenStream,
    SeriesBook,
    VoxelBudget,
    read_header,
)
from edge_codec.runtime.mrd.session_texts import TOKEN, for_peer, out_of_order, without_token
from edge_codec.runtime.mrd.side_file import SUFFIX, SideFile
from edge_codec.runtime.mrd.wire import Wire
from edge_codec.runtime.sync_policy import SyncPolicy

_log = logging.getLogger(__name__)

_CONFIGS = (MessageId.CONFIG_FILE, MessageId.CONFIG_TEXT)
_ITEM_BITS = 32
_BAD_TOKEN = "access denied: end the config message with ;token=... and this server's token"


@dataclass(frozen=True, slots=True)
class Services:
    """What all sessions of a server share.

    Attributes
    ----------
    live : LiveOptions
        How images are coded.
    answer : AnswerMode
        What a peer gets back.
    folder : Path or None
        Where streams and side files are stored.
    sync : SyncPolicy
        When side files are forced onto the disk.
    resume : bool
        Whether sessions that are there already are gone on with.
    access : Access
        What a peer must show.
    limits : Limits
        What it may ask for.
    open_stream : OpenStream
        Opens a live stream.
    open_decoder : callable
        Makes the decoder of a stream.
    names : NameBook
        Names of sessions.
    budget : VoxelBudget
        Voxels in work.
    """

    live: LiveOptions
    answer: AnswerMode
    folder: Path | None
    sync: SyncPolicy
    resume: bool
    access: Access
    limits: Limits
    open_stream: OpenStream
    open_decoder: OpenDecoder
    names: NameBook
    budget: VoxelBudget


@dataclass(slots=True)
class SessionReport:
    """What a session brought.

    Attributes
    ----------
    name : str
        Of the session; empty where it ended before it had one.
    images, dropped : int
        Images that came, and those among them that the policy left out.
    uncoded : int
        Images that no stream can hold; they were treated as messages that are not images.
    waveforms, acquisitions, texts : int
        Other messages.
    closed : bool
        Whether the peer said that it was done.
    error : str
        Why the session ended early; empty if it did not.
    """

    name: str = ""
    images: int = 0
    dropped: int = 0
    uncoded: int = 0
    waveforms: int = 0
    acquisitions: int = 0
    texts: int = 0
    closed: bool = False
    error: str = ""


class Session:
    """Serves one peer.

    Parameters
    ----------
    wire : Wire
        The connection; it is closed at the end.
    services : Services
        What it shares with other sessions.
    peer : str
        Who is there, for the log.
    """

    def __init__(self, wire: Wire, services: Services, peer: str) -> None:
        self._wire = wire
        self._services = services
        self._peer = peer
        self._reader = MessageReader(wire, services.limits)
        self._answers = Answers(wire, services.limits)
        self._series: SeriesBook | None = None
        self._side: SideFile | None = None
        self._items = 0
        self._warned: set[MessageId] = set()
        self._admission = threading.Lock()
        self._known = self._expelled = False
        self.report = SessionReport()
        self._handlers: dict[MessageId, Callable[[AnyMessage], None]] = {
            MessageId.IMAGE: self._image,
            MessageId.WAVEFORM: self._kept,
            MessageId.ACQUISITION: self._kept,
            MessageId.TEXT: self._kept,
        }

    def stop(self) -> None:
        """End the session from another thread, after what has been received."""
        self._wire.stop_reading()

    def expel(self) -> bool:
        """Break the connection from another thread, unless the peer has shown who it is."""
        with self._admission:
            if self._known or self._expelled:
                return False
            self._expelled = True
        _log.warning("%s: had to make room for another connection", self._peer)
        self._wire.interrupt()
        return True

    def run(self) -> SessionReport:
        """Talk until either side ends it; never raises because of the peer."""
        try:
            self._guard(self._talk)
            self._guard(self._complete)
            self._say_goodbye()
        finally:
            self._wire.close()
            if self.report.name:
                self._services.names.give_back(self.report.name)
        self._log_report()
        return self.report

    def _guard(self, step: Callable[[], None]) -> None:
        """Do a step; the first error is the session's."""
        try:
            step()
        except (EdgeCodecError, OSError, MemoryError) as error:
            # What made the answers end is the cause of what the reader saw.
            cause = self._answers.error or error
            self.report.error = self.report.error or f"{cause}"
        except Exception as error:
            # A defect of ours must neither leave streams open nor end the server.
            _log.exception("%s: defect in a session; please report it", self._peer)
            self.report.error = f"defect: {error!r}; please report it"

    def _talk(self) -> None:
        self._wire.handshake()
        config = self._reader.read()
        if config is None:
            return
        if not isinstance(config, Message) or config.ident not in _CONFIGS:
            raise ProtocolError(out_of_order(config, "a config message (1 or 2)"))
        config = self._check_access(config)
        if self._services.access.token is not None:
            self._admit()
        header = self._reader.read()
        if header is None or header.ident is MessageId.CLOSE:
            self.report.closed = header is not None  # some clients only look who is there
            return
        if not isinstance(header, Message) or header.ident is not MessageId.HEADER:
            raise ProtocolError(out_of_order(header, "the XML header (3)"))
        self._admit()
        self._open(config, header)
        while (message := self._reader.read()) is not None:
            if message.ident is MessageId.CLOSE:
                self.report.closed = True
                return
            if message.ident not in self._handlers:
                raise ProtocolError(
                    out_of_order(message, "an image, waveform, acquisition or text")
                )
            self._handlers[message.ident](message)
        if self._wire.stopped and self._answers.error is None:
            raise ProtocolError("this server is stopping; what came whole is coded")

    def _check_access(self, config: Message) -> Message:
        """Compare the token, and return the message without it."""
        found = TOKEN.search(config.body)
        if not same_token(found[1] if found else b"", self._services.access):
            raise ProtocolError(_BAD_TOKEN)
        return without_token(config)

    def _admit(self) -> None:
        """Keep the place among the connections: by its token, or, without any, its header."""
        with self._admission:
            if self._expelled:
                raise ProtocolError("too many connections; this one was too slow to begin")
            self._known = True

    def _open(self, config: Message, header: Message) -> None:
        services = self._services
        xml = header.body[TEXT_SIZE.size :].rstrip(b"\0")
        now = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        name = services.names.take(read_header(xml).measurement or now)
        self.report.name = name
        if services.folder is not None:
            path = services.folder / (name + SUFFIX)
            self._side = SideFile(path, services.sync, services.resume)
            # A session that is gone on with has streams with items already.
            self._items = (self._side.number - 1) << _ITEM_BITS
            self._side.append(config)
            self._side.append(header)
        self._series = SeriesBook(
            name,
            xml,
            services.live,
            services.open_stream,
            self._make_returns,
            services.limits,
            services.budget,
        )

    def _make_returns(self) -> ImageReturns:
        services = self._services
        return ImageReturns(self._answers, services.answer, services.open_decoder, services.limits)

    def _image(self, message: AnyMessage) -> None:
        acquired_ns = time.monotonic_ns()
        if not isinstance(message, ImageMessage) or self._series is None:
            raise ProtocolError(out_of_order(message, "an image"))
        self.report.images += 1
        item = self._next_item()
        frames = ImageFrames.of(message, item)
        if not self._series.fits(frames):
            self.report.uncoded += 1
            size = f"{frames.head.matrix} voxels (channels, z, y, x)"
            self._keep(message, f"an image of {size} cannot be coded; such images")
            return
        slot = self._answers.reserve(message.size)
        self._series.push(message, frames, slot, acquired_ns)

    def _kept(self, message: AnyMessage) -> None:
        """Take a message that is not coded."""
        self._next_item()
        counts = {
            MessageId.WAVEFORM: "waveforms",
            MessageId.ACQUISITION: "acquisitions",
            MessageId.TEXT: "texts",
        }
        counter = counts[message.ident]
        setattr(self.report, counter, getattr(self.report, counter) + 1)
        self._keep(message)

    def _keep(self, message: AnyMessage, odd: str = "") -> None:
        """Store a message and give it back; say what is done if it is odd, or if nothing is."""
        answered = self._services.answer is not AnswerMode.NONE
        # A text is for this server; sent back, it would read as one of ours.
        answered = answered and message.ident is not MessageId.TEXT
        done = ["answered as they came"] if answered else []
        if self._side is not None:
            self._side.append(message)
            done.insert(0, "stored as they came")
        if odd or not done:
            fate = (
                " and ".join(done) or "neither stored nor answered; serve with --out to keep them"
            )
            self._warn(
                message.ident, f"{odd or message.ident.name.lower() + ' messages'} are {fate}"
            )
        slot = self._answers.reserve(message.size)
        self._answers.fill(slot, (message,) if answered else ())

    def _next_item(self) -> int:
        self._items += 1
        return self._items - 1

    def _warn(self, ident: MessageId, text: str) -> None:
        """Tell the peer, once for each kind of message."""
        if ident not in self._warned:
            self._warned.add(ident)
            _log.warning("%s: %s", self._peer, text)
            slot = self._answers.reserve(len(text))
            self._answers.fill(slot, (text_message(MessageId.TEXT, f"edge-codec: {text}"),))

    def _complete(self) -> None:
        """Send, store and answer what came, whatever went wrong before."""
        whole = self.report.closed and not self.report.error
        try:
            if self._series is not None:
                self._series.close()
        finally:
            self._answers.close()
            if self._series is not None:
                self.report.dropped = self._series.dropped
            if self._side is not None:
                self._side.close(whole=whole)
        if self._answers.error is not None:
            raise self._answers.error

    def _say_goodbye(self) -> None:
        """Tell the peer what went wrong, if anything, and that nothing more comes."""
        try:
            if self.report.error:
                text = ERROR_PREFIX + for_peer(self.report.error, self._services.folder)
                self._wire.send(text_message(MessageId.TEXT, text))
            elif self.report.dropped:
                text = f"edge-codec: {self.report.dropped} images were left out to keep up"
                self._wire.send(text_message(MessageId.TEXT, text))
            self._wire.send(Message(MessageId.CLOSE))
        except ProtocolError:
            return  # it is gone; there is nobody to tell
        self._wire.finish()

    def _log_report(self) -> None:
        report = self.report
        level = logging.WARNING if report.error else logging.INFO
        _log.log(
            level,
            "%s: session %s: %d images, %d left out, %d waveforms, %d acquisitions%s",
            self._peer,
            report.name or "-",
            report.images,
            report.dropped,
            report.waveforms,
            report.acquisitions,
            f"; ended early: {report.error}" if report.error else "",
        )
