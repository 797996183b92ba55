"""The viewer's web server: this machine's browser, one secret address, reading only.

Any web page that the user has open may send requests to a port of this machine, so being on
loopback protects nothing by itself. Three things do: every path begins with a token that nobody
can guess, the `Host` header must be an address of this machine (a name that another site has
pointed here is refused), and the page may load nothing from elsewhere nor be framed. Answers come
from a table of a few files and from `Library`; no part of a request becomes a path.
"""

from __future__ import annotations

import contextlib
import hmac
import io
import ipaddress
import json
import logging
import re
import secrets
import socket
import threading
import time
import urllib.parse
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any

from edge_codec.errors import EdgeCodecError, SourceError
from edge_codec.runtime.access import is_loopback
from edge_codec.runtime.viewer.frame_store import Progress
from edge_codec.runtime.viewer.library import Library

LOGGER = logging.getLogger(__name__)

MODULES = ("viewer.js", "view.js", "stream.js", "picture.js", "graphs.js", "panel.js", "mouse.js")
ASSETS = {
    "": ("index.html", "text/html; charset=utf-8"),
    "viewer.css": ("viewer.css", "text/css; charset=utf-8"),
    **{name: (name, "text/javascript; charset=utf-8") for name in MODULES},
}
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
MAX_CONNECTIONS = 32
REQUEST_S = 30.0  # from the end of an answer to the last byte of the next request; of an answer
_NUMBER = re.compile(r"[0-9]{1,9}")
_HOST = re.compile(r"(?P<name>[0-9A-Za-z.-]+|\[[0-9A-Fa-f:.]+\])(:(?P<port>[0-9]{1,5}))?")


class RequestError(Exception):
    """A request that gets no answer but a status."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


class ViewerServer(ThreadingHTTPServer):
    """Serves the page and a library's streams until `shutdown`.

    Parameters
    ----------
    library : Library
        What to show.
    host : str
        Address to listen at.
    port : int
        0 for any free one.
    token : str, optional
        First part of every path; a random one is drawn without it.

    Raises
    ------
    SourceError
        If the address cannot be listened at.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self, library: Library, host: str = "127.0.0.1", port: int = 0, token: str | None = None
    ) -> None:
        self.library = library
        self.token = token or secrets.token_urlsafe(24)
        self.assets = {name: _read_asset(file) for name, (file, _) in ASSETS.items()}
        self.loopback_only = is_loopback(host)
        self._table = threading.Lock()
        self._connections: dict[socket.socket, bool] = {}  # oldest first; whether it has the token
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            raise SourceError(f"cannot listen at {host}, port {port}: {error}") from error

    @property
    def url(self) -> str:
        """Address of the page, with the token."""
        host, port = str(self.server_address[0]), int(self.server_address[1])
        shown = f"[{host}]" if ":" in host else host
        return f"http://{shown}:{port}/{urllib.parse.quote(self.token, safe='')}/"

    def server_close(self) -> None:
        """Stop listening and close the streams."""
        super().server_close()
        self.library.close()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Take a connection; where there are too many, the oldest without the token goes."""
        if not self._make_room(request):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._forget(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one connection in its own thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._forget(request)

    def trust(self, connection: socket.socket) -> None:
        """Note that a connection has shown the token: it is not closed for others."""
        with self._table:
            if connection in self._connections:
                self._connections[connection] = True

    def _make_room(self, connection: socket.socket) -> bool:
        with self._table:
            if len(self._connections) >= MAX_CONNECTIONS:
                strangers = (known for known, trusted in self._connections.items() if not trusted)
                oldest = next(strangers, None)
                if oldest is None:
                    return False
                del self._connections[oldest]
                with contextlib.suppress(OSError):  # it has just ended by itself
                    oldest.shutdown(socket.SHUT_RDWR)  # its thread wakes up and ends
            self._connections[connection] = False
            return True

    def _forget(self, connection: socket.socket) -> None:
        with self._table:
            self._connections.pop(connection, None)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log a connection that broke; the others go on."""
        del request
        LOGGER.debug("connection of %s broke", client_address, exc_info=True)


class _TimedReader(io.RawIOBase):
    """Reads from a connection until a deadline for all reads together.

    A timeout of the socket begins anew with each byte: a header that drips would never end.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.deadline = 0.0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the request took too long")
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


class _Handler(BaseHTTPRequestHandler):
    """Answers the requests of one connection."""

    server: ViewerServer
    server_version = "edge-codec"
    sys_version = ""
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        """Read with a deadline."""
        super().setup()
        self.rfile.close()
        self._reader = _TimedReader(self.connection)
        self.rfile = io.BufferedReader(self._reader)

    def handle_one_request(self) -> None:
        """Answer the next request, which has to be whole within `REQUEST_S`."""
        self._reader.deadline = time.monotonic() + REQUEST_S
        super().handle_one_request()

    def do_GET(self) -> None:
        """Answer, or refuse without saying why: what is behind the token is nobody's business."""
        try:
            answer, kind = self._answer()
        except RequestError as refused:
            self._send(refused.status, refused.status.phrase.encode(), "text/plain")
            return
        except EdgeCodecError as error:
            self._send(HTTPStatus.UNPROCESSABLE_ENTITY, *_json({"error": str(error)}))
            return
        if isinstance(answer, Progress):
            self._send(HTTPStatus.ACCEPTED, *_json(answer._asdict()))
            return
        self._send(HTTPStatus.OK, answer, kind)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse what is no GET, or no HTTP, with the headers of all other answers."""
        del message, explain
        self.close_connection = True
        status = HTTPStatus(code)
        self._send(status, status.phrase.encode(), "text/plain")

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: the path holds the token."""

    def _answer(self) -> tuple[bytes | Progress, str]:
        if not _is_own_name(self.headers.get_all("Host", []), self.server):
            raise RequestError(HTTPStatus.MISDIRECTED_REQUEST)
        path, _, asked = self.path.partition("?")
        token, slash, name = path.removeprefix("/").partition("/")
        given, right = urllib.parse.unquote_to_bytes(token), self.server.token.encode()
        if not hmac.compare_digest(given, right) or not slash:
            raise RequestError(HTTPStatus.NOT_FOUND)
        self.server.trust(self.connection)
        if name in ASSETS and not asked:
            return self.server.assets[name], ASSETS[name][1]
        query = _query(asked)
        if name == "api/frame":
            return self._frame(query), "application/octet-stream"
        if name == "api/state":
            return _json(self._state(query))
        raise RequestError(HTTPStatus.NOT_FOUND)

    def _state(self, query: dict[str, str]) -> dict[str, Any]:
        library = self.server.library
        names = library.names()
        state: dict[str, Any] = {"streams": names}
        if names:
            state |= library.state(_number(query, "stream"), _number(query, "since"))
        return state

    def _frame(self, query: dict[str, str]) -> bytes | Progress:
        number, slice_index, phase_index = (
            _number(query, name) for name in ("stream", "slice", "phase")
        )
        return self.server.library.frame(number, slice_index, phase_index, query.get("what", ""))

    def _send(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.connection.settimeout(REQUEST_S)  # for all of the answer
        self.send_response(status)
        if self.close_connection:
            self.send_header("Connection", "close")
        for name, value in SECURITY_HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _json(value: Any) -> tuple[bytes, str]:
    """Return JSON, which knows no NaN: browsers refuse the whole answer for one."""
    return json.dumps(value, allow_nan=False).encode(), "application/json"


def _read_asset(name: str) -> bytes:
    return (resources.files("edge_codec.runtime.viewer") / "static" / name).read_bytes()


def _query(text: str) -> dict[str, str]:
    """Parse a query; each name once."""
    try:
        pairs = urllib.parse.parse_qsl(text, strict_parsing=True, max_num_fields=8)
    except ValueError as error:
        raise RequestError(HTTPStatus.BAD_REQUEST) from error
    if len(dict(pairs)) != len(pairs):
        raise RequestError(HTTPStatus.BAD_REQUEST)
    return dict(pairs)


def _number(query: dict[str, str], name: str) -> int:
    text = query.get(name, "")
    if not _NUMBER.fullmatch(text):
        raise RequestError(HTTPStatus.BAD_REQUEST)
    return int(text)


def _is_own_name(hosts: list[str], server: ViewerServer) -> bool:
    """Whether a request was meant for this address and not for a name that somebody pointed here.

    A name can be pointed anywhere by whoever owns it; an address cannot.
    """
    if len(hosts) != 1:
        return False
    found = _HOST.fullmatch(hosts[0])
    if found is None or int(found["port"] or 80) != server.server_address[1]:
        return False
    name = found["name"].strip("[]").lower()
    if name == "localhost":
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or not server.loopback_only
