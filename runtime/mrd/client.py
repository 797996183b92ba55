"""The scanner's side of a session: config, header, items, close; answers come while it sends."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable
from types import TracebackType

from edge_codec.errors import ProtocolError
from edge_codec.runtime.mrd.limits import Limits
from edge_codec.runtime.mrd.protocol import (
    CONFIG_FILE_BYTES,
    ERROR_PREFIX,
    AnyMessage,
    Message,
    MessageId,
    MessageReader,
    config_file_message,
    text_message,
)
from edge_codec.runtime.mrd.wire import Wire

CONFIG = "edge-codec"
CONNECT_S = 10.0
LAST_WORDS_S = 1.0

# Is told of every answer and the instant of `time.monotonic_ns` at which it was whole.
OnAnswer = Callable[[AnyMessage, int], None]


class MrdClient:
    """One session with an MRD server, ours or another.

    Parameters
    ----------
    address : tuple of (str, int)
        Host and port.
    on_answer : callable
        Is given every answer but the last, the close message, in a thread of the client.
    token : str, optional
        What the server demands; put into the config message.
    tls : ssl.SSLContext, optional
        From `access.client_context`.
    limits : Limits, optional
        What answers may have, and how long to wait for them.

    Raises
    ------
    ProtocolError
        If the server cannot be reached, or its certificate is not trusted.
    """

    def __init__(
        self,
        address: tuple[str, int],
        on_answer: OnAnswer,
        *,
        token: str | None = None,
        tls: ssl.SSLContext | None = None,
        limits: Limits | None = None,
    ) -> None:
        limits = limits or Limits()
        self._on_answer = on_answer
        self._token = token
        self._wire = Wire(_connect(address, tls), limits)
        self._reader = MessageReader(self._wire, limits)
        self._error: ProtocolError | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._read, name="mrd-client", daemon=True)
        try:
            self._wire.handshake()
        except ProtocolError:
            self._wire.close()
            raise

    def begin(self, xml: bytes, config: str = CONFIG) -> None:
        """Say what the session is about.

        Parameters
        ----------
        xml : bytes
            The MRD header.
        config : str
            Name of the configuration to use.
        """
        if self._token is not None:
            config += f";token={self._token}"
        if len(config.encode()) < CONFIG_FILE_BYTES:
            self._wire.send(config_file_message(config))
        else:
            self._wire.send(text_message(MessageId.CONFIG_TEXT, config))
        self._wire.send(text_message(MessageId.HEADER, xml))
        self._thread.start()

    def send(self, message: AnyMessage) -> None:
        """Send an item.

        Raises
        ------
        ProtocolError
            If the server has ended the session, or does not take it.
        """
        if self._error is not None or self._closed:
            raise self._error or ProtocolError("the server has ended the session")
        try:
            self._wire.send(message)
        except ProtocolError:
            self._thread.join(LAST_WORDS_S)  # what the server said last tells more
            raise self._error or ProtocolError("the server broke off the session") from None

    def finish(self) -> None:
        """Say that nothing more comes, and wait for the rest of the answers.

        Raises
        ------
        ProtocolError
            If the connection broke before the server's close message.
        """
        if not self._closed:
            self.send(Message(MessageId.CLOSE))
        self._thread.join()
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Hang up."""
        self._wire.stop_reading()
        if self._thread.ident is not None:
            self._thread.join()
        self._wire.close()

    def __enter__(self) -> MrdClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _read(self) -> None:
        try:
            while (message := self._reader.read()) is not None:
                if message.ident is MessageId.CLOSE:
                    self._closed = True
                    return
                self._note_error(message)
                self._on_answer(message, time.monotonic_ns())
            self._error = self._error or ProtocolError("the server hung up without a close message")
        except ProtocolError as error:
            self._error = self._error or error

    def _note_error(self, message: AnyMessage) -> None:
        """Remember why the server ends the session."""
        if not isinstance(message, Message) or message.ident is not MessageId.TEXT:
            return
        if message.text.startswith(ERROR_PREFIX):
            self._error = ProtocolError(f"the server says: {message.text[len(ERROR_PREFIX) :]}")


def _connect(address: tuple[str, int], tls: ssl.SSLContext | None) -> socket.socket:
    try:
        sock = socket.create_connection(address, CONNECT_S)
        if tls is None:
            return sock
        return tls.wrap_socket(sock, server_hostname=address[0], do_handshake_on_connect=False)
    except OSError as error:
        raise ProtocolError(
            f"no MRD server at {address[0]}:{address[1]}: {error.strerror or error}; start one: "
            "edge-codec serve"
        ) from error
