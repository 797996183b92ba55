"""Who may talk to a server of live streams: a shared token, TLS, and where it may listen.

A server that is reachable from other machines demands a token. The token itself never travels:
each side proves that it knows it by an HMAC over what both have just drawn at random. TLS is for
the secrecy of the images and for networks where somebody may sit in between.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import socket
import ssl
import stat
from dataclasses import dataclass
from pathlib import Path

from edge_codec.errors import SpecError

MIN_TOKEN = 16
MAX_TOKEN = 1024
PROOF_SIZE = hashlib.sha256().digest_size

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_MAKE_TOKEN = "make one: (umask 077; openssl rand -hex 32 > token)"


@dataclass(frozen=True, slots=True)
class Access:
    """What a server demands of its clients.

    Attributes
    ----------
    token : str or None
        Secret that clients must know; None lets everybody in, for loopback only.
    server_tls : ssl.SSLContext or None
        From `server_context`; None for connections in clear.
    """

    token: str | None = None
    server_tls: ssl.SSLContext | None = None

    @property
    def secret(self) -> bytes:
        """The token as a key of `prove`; empty without one."""
        return (self.token or "").encode()


def load_token(path: Path) -> str:
    """Read a token from a file that nobody but its owner may read.

    Parameters
    ----------
    path : Path
        File with one line of 16 to 1024 visible ASCII characters.

    Returns
    -------
    str
        The token, without the white space around it.

    Raises
    ------
    SpecError
        If the file is missing, open to other users, or holds no such token.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(MAX_TOKEN + 64)
    except OSError as error:
        raise SpecError(f"token file {path}: {error.strerror}; {_MAKE_TOKEN}") from error
    if os.name == "posix" and mode & _OTHERS:
        raise SpecError(
            f"token file {path} is open to other users (mode {stat.S_IMODE(mode):03o}); "
            f"close it: chmod 600 {path}, and make a new token if others may have read it"
        )
    token = data.strip()
    if not MIN_TOKEN <= len(token) <= MAX_TOKEN or not all(33 <= byte <= 126 for byte in token):
        raise SpecError(
            f"token file {path} must hold one line of {MIN_TOKEN} to {MAX_TOKEN} visible ASCII "
            f"characters; {_MAKE_TOKEN}"
        )
    return token.decode("ascii")


def same_token(given: bytes, access: Access) -> bool:
    """Compare a token that was sent with the server's, in a time that does not tell where it fails.

    Everything is right where the server demands none.
    """
    return access.token is None or hmac.compare_digest(given, access.secret)


def prove(secret: bytes, label: bytes, *parts: bytes) -> bytes:
    """Return the HMAC-SHA256 that shows knowledge of a secret without showing the secret.

    Parameters
    ----------
    secret : bytes
        The token.
    label : bytes
        What is proven, so that no proof can be used for anything else.
    *parts : bytes
        Random numbers of both sides; each goes in with its length.

    Returns
    -------
    bytes
        `PROOF_SIZE` bytes.
    """
    message = b"".join(len(part).to_bytes(4, "little") + part for part in (label, *parts))
    return hmac.digest(secret, message, "sha256")


def same_proof(given: bytes, expected: bytes) -> bool:
    """Compare two proofs in a time that does not tell where they differ."""
    return hmac.compare_digest(given, expected)


def server_context(cert: Path, key: Path) -> ssl.SSLContext:
    """Return the TLS side of a server, version 1.2 or later.

    Parameters
    ----------
    cert : Path
        Certificate chain, PEM.
    key : Path
        Its private key, PEM, without a pass phrase.

    Raises
    ------
    SpecError
        If the files cannot be read or do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION  # costs a server far more than a client
    try:
        # Without a password callback OpenSSL would ask on the terminal and wait for ever.
        context.load_cert_chain(cert, key, password=lambda: b"")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise SpecError(
            f"TLS certificate {cert} with key {key}: {error}; give a PEM chain and its key without "
            "a pass phrase"
        ) from error
    return context


def client_context(ca_file: Path | None = None) -> ssl.SSLContext:
    """Return the TLS side of a client: version 1.2 or later, the server's name verified.

    Parameters
    ----------
    ca_file : Path, optional
        PEM certificates to trust instead of the system's, for example the server's own.

    Raises
    ------
    SpecError
        If the file holds no certificates.
    """
    try:
        context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except (OSError, ValueError) as error:
        raise SpecError(f"TLS certificates to trust, {ca_file}: {error}; give PEM") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def parse_address(text: str) -> tuple[str, int]:
    """Split `HOST:PORT`, `[IPv6]:PORT` or `:PORT` (every address of this machine).

    Raises
    ------
    SpecError
        If there is no port of 0 to 65535.
    """
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    number = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else -1
    if (
        not colon
        or not 0 <= number <= 65535
        or (":" in host and not bracketed)
        or not _is_name(host)
    ):
        raise SpecError(f"address {text!r}: give HOST:PORT, for example 127.0.0.1:9002")
    return host, number


def _is_name(host: str) -> bool:
    try:
        host.encode("idna")  # as the socket module does, where it would end in no OSError
    except UnicodeError:
        return False
    return "\0" not in host


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own: 127.0.0.0/8, ::1, or `localhost` of these only."""
    if host == "localhost":
        try:
            found = socket.getaddrinfo(host, None)
        except OSError:
            return False
        return bool(found) and all(_is_loopback_address(str(entry[4][0])) for entry in found)
    return _is_loopback_address(host)


def _is_loopback_address(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_listen(host: str, access: Access) -> None:
    """Refuse to listen where other machines can connect, unless there is a token.

    Parameters
    ----------
    host : str
        Address to listen at; empty for all.
    access : Access
        What clients must show.

    Raises
    ------
    SpecError
        If the address is not loopback and there is no token.
    """
    if access.token is None and not is_loopback(host):
        where = host or "every address of this machine"
        raise SpecError(
            f"listening at {where} lets other machines in: give --token-file FILE ({_MAKE_TOKEN}), "
            "or listen at 127.0.0.1"
        )
