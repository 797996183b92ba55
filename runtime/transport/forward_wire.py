"""The messages of packet forwarding over TCP: what `docs/transport.md` specifies, byte by byte."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from edge_codec.bitstream.header import MAX_HEADER
from edge_codec.errors import ProtocolError
from edge_codec.runtime.access import PROOF_SIZE, prove
from edge_codec.spec import StreamSpec

MAGIC = b"\x89ECF\r\n\x1a\n"
VERSION = 1
NONCE_SIZE = 32
SESSION_SIZE = 16
ALL_SLICES = (1 << 32) - 1
MAX_TEXT = 512
MAX_BEGIN = 4 + MAX_HEADER
SMALL = 1 << 10  # every message but BEGIN and PACKET
SPARE = 1 << 20  # of a packet, for its head and the source's metadata
VOXEL_BYTES = 16  # base and residual layer, each at most 8 bytes for a voxel

_NAME = re.compile(rb"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")
_CHALLENGE = struct.Struct(f"<8sHH{NONCE_SIZE}s")
_HELLO = struct.Struct(f"<8sHH{NONCE_SIZE}s{PROOF_SIZE}s{SESSION_SIZE}s")
_WELCOME = struct.Struct(f"<{PROOF_SIZE}sIIB")
_POSITION = struct.Struct("<IIB")
_NUMBER = struct.Struct("<I")
_GAP = struct.Struct("<III")
_END = struct.Struct("<II")


class Kind(IntEnum):
    """Wire id of a message; below 16 from the sender, from 16 on from the receiver."""

    HELLO = 1
    BEGIN = 2
    PACKET = 3
    GAP = 4
    END = 5
    ABORT = 6
    PING = 7
    CHALLENGE = 16
    WELCOME = 17
    ACK = 18
    KEY = 19
    ERROR = 20


class Refusal(IntEnum):
    """Wire id of why a receiver ends a connection."""

    TOKEN = 1  # the token is wrong or missing
    PROTOCOL = 2  # the sender broke the protocol, or its packets do not fit their stream
    STORAGE = 3  # what came cannot be stored
    CLOSING = 4  # the receiver stops, or is not ready yet: try later

    @property
    def passing(self) -> bool:
        """Whether the sender should try again."""
        return self is Refusal.CLOSING


@dataclass(frozen=True, order=True, slots=True)
class Position:
    """How far a receiver has come in a session: everything before it is stored.

    Attributes
    ----------
    segment, sequence : int
        The next packet that is due.
    ended : bool
        Whether the segment is complete.
    """

    segment: int = 0
    sequence: int = 0
    ended: bool = False

    def pack(self) -> bytes:
        """Serialize, also as the body of ACK."""
        return _POSITION.pack(self.segment, self.sequence, self.ended)

    @classmethod
    def unpack(cls, body: bytes) -> Position:
        """Parse the body of ACK."""
        segment, sequence, ended = _fields(_POSITION, body, "ACK")
        return cls(segment, sequence, bool(ended))


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a receiver says first.

    Attributes
    ----------
    nonce : bytes
        Random, `NONCE_SIZE` bytes.
    demands_token : bool
        Whether the sender must prove that it knows a token.
    """

    nonce: bytes
    demands_token: bool

    def pack(self) -> bytes:
        """Serialize as the body of CHALLENGE."""
        return _CHALLENGE.pack(MAGIC, VERSION, self.demands_token, self.nonce)

    @classmethod
    def unpack(cls, body: bytes) -> Challenge:
        """Parse the body of CHALLENGE."""
        magic, version, flags, nonce = _fields(_CHALLENGE, body, "CHALLENGE")
        _check_version(magic, version, flags, 1)
        return cls(nonce, bool(flags))


@dataclass(frozen=True, slots=True)
class Hello:
    """What a sender says first.

    Attributes
    ----------
    nonce : bytes
        Random, `NONCE_SIZE` bytes.
    proof : bytes
        Of the token, `PROOF_SIZE` bytes; anything where the receiver demands none.
    session : bytes
        Random, `SESSION_SIZE` bytes, the same at each connection of one sink.
    name : str
        Of the live stream.
    """

    nonce: bytes
    proof: bytes
    session: bytes
    name: str

    def pack(self) -> bytes:
        """Serialize as the body of HELLO."""
        fixed = _HELLO.pack(MAGIC, VERSION, 0, self.nonce, self.proof, self.session)
        return fixed + self.name.encode("ascii")

    @classmethod
    def unpack(cls, body: bytes) -> Hello:
        """Parse the body of HELLO."""
        magic, version, flags, nonce, proof, session = _fields(_HELLO, body[: _HELLO.size], "HELLO")
        _check_version(magic, version, flags, 0)
        return cls(nonce, proof, session, stream_name(body[_HELLO.size :]))


def stream_name(data: bytes) -> str:
    """Check the name of a stream: it becomes that of a folder.

    Raises
    ------
    ProtocolError
        If it has other than 1 to 64 letters, digits, `.`, `_` and `-`, or begins with `.`.
    """
    if not _NAME.fullmatch(data):
        raise ProtocolError(
            f"stream name {data[:80]!r}: use 1 to 64 letters, digits, '.', '_' and '-', the first "
            "of them no '.'"
        )
    return data.decode("ascii")


def sender_proof(secret: bytes, challenge: Challenge, hello: Hello) -> bytes:
    """Return what a sender that knows the token writes into its HELLO (the rest of it given)."""
    return prove(
        secret, b"edge-codec forward sender 1",
        challenge.nonce, hello.nonce, hello.session, hello.name.encode("ascii"),
    )  # fmt: skip


def receiver_proof(secret: bytes, challenge: Challenge, hello: Hello) -> bytes:
    """Return what a receiver that knows the token writes into its WELCOME."""
    return prove(secret, b"edge-codec forward receiver 1", challenge.nonce, hello.nonce)


def pack_welcome(proof: bytes, position: Position) -> bytes:
    """Serialize the body of WELCOME."""
    return proof + position.pack()


def unpack_welcome(body: bytes) -> tuple[bytes, Position]:
    """Parse the body of WELCOME: the receiver's proof, and where to go on."""
    proof, segment, sequence, ended = _fields(_WELCOME, body, "WELCOME")
    return proof, Position(segment, sequence, bool(ended))


def pack_begin(segment: int, header: bytes) -> bytes:
    """Serialize the body of BEGIN: number of the segment, and the bitstream's header."""
    return _NUMBER.pack(segment) + header


def unpack_begin(body: bytes) -> tuple[int, bytes]:
    """Parse the body of BEGIN."""
    (segment,) = _fields(_NUMBER, body[: _NUMBER.size], "BEGIN")
    return segment, body[_NUMBER.size :]


def pack_gap(segment: int, first: int, end: int) -> bytes:
    """Serialize the body of GAP: packets `first` to `end - 1` will not come."""
    return _GAP.pack(segment, first, end)


def unpack_gap(body: bytes) -> tuple[int, int, int]:
    """Parse the body of GAP."""
    segment, first, end = _fields(_GAP, body, "GAP")
    if first >= end:
        raise ProtocolError(f"gap of packets {first} to {end} (exclusive) is empty")
    return segment, first, end


def pack_end(segment: int, count: int) -> bytes:
    """Serialize the body of END: the segment has so many packets."""
    return _END.pack(segment, count)


def unpack_end(body: bytes) -> tuple[int, int]:
    """Parse the body of END."""
    segment, count = _fields(_END, body, "END")
    return segment, count


def pack_key(slice_index: int | None) -> bytes:
    """Serialize the body of KEY: a slice, or every slice."""
    return _NUMBER.pack(ALL_SLICES if slice_index is None else slice_index)


def unpack_key(body: bytes) -> int | None:
    """Parse the body of KEY."""
    (number,) = _fields(_NUMBER, body, "KEY")
    return None if number == ALL_SLICES else int(number)


def pack_error(code: Refusal, text: str) -> bytes:
    """Serialize the body of ERROR; the text is cut where it is too long."""
    return bytes([code]) + text.encode()[:MAX_TEXT]


def unpack_error(body: bytes) -> tuple[Refusal, str]:
    """Parse the body of ERROR; what is not printable in it is replaced."""
    if not body or body[0] not in {code.value for code in Refusal}:
        raise ProtocolError(f"ERROR begins with {body[:1]!r}, no known code")
    text = body[1 : 1 + MAX_TEXT].decode(errors="replace")
    return Refusal(body[0]), "".join(c if c.isprintable() else " " for c in text)


def max_packet(spec: StreamSpec) -> int:
    """Return the most bytes that a packet of a stream can reasonably have."""
    return VOXEL_BYTES * spec.info.rows * spec.info.columns + SPARE


def _fields(layout: struct.Struct, body: bytes, name: str) -> tuple[Any, ...]:
    if len(body) != layout.size:
        raise ProtocolError(f"{name} has {len(body)} bytes; {layout.size} are due")
    return layout.unpack(body)


def _check_version(magic: bytes, version: int, flags: int, most: int) -> None:
    if magic != MAGIC:
        raise ProtocolError(f"the peer begins with {magic!r}; it forwards no packets of ours")
    if version != VERSION or flags > most:
        raise ProtocolError(
            f"the peer speaks version {version} (flags {flags:#x}) of packet forwarding; this is "
            f"version {VERSION}: use the same edge-codec on both sides"
        )
