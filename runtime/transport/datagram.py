"""Datagrams of packet forwarding over UDP: what `docs/transport.md` specifies, byte by byte.

Each is at most 1200 bytes, so that no network on the way cuts it, and ends with a tag under a key
that both sides made from the token and from what each has drawn at random: who does not know the
token, or is not where the datagrams come from, cannot make one. Without a token the tag is a CRC
over the key and the datagram: it finds errors, and strangers who cannot listen.
"""

from __future__ import annotations

import hmac
import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum

from edge_codec.errors import ProtocolError
from edge_codec.runtime.access import prove
from edge_codec.runtime.transport.forward_wire import stream_name

MAGIC = b"EU"
VERSION = 1
MAX_DATAGRAM = 1200
TAG_SIZE = 16
CRC_SIZE = 4
ID_SIZE = 8
NONCE_SIZE = 16
ALL_SLICES = 0xFFFF
WHOLE_PACKET = 0xFFFF  # instead of a fragment's number: all of them
MAX_MISSING = 128  # entries of one report

_HEAD = struct.Struct(f"<2sBB{ID_SIZE}sIIHHHH")
_MISSING = struct.Struct("<IH")
_CRC = struct.Struct("<I")
ENTRY_SIZE = _MISSING.size
OVERHEAD = _HEAD.size + TAG_SIZE  # of a datagram, at most
CHUNK = MAX_DATAGRAM - _HEAD.size - TAG_SIZE
PING_BODY = bytes(64)  # what a receiver answers is never more than what it was sent


class Kind(IntEnum):
    """Wire id of a datagram; below 16 from the sender, from 16 on from the receiver."""

    HELLO = 1
    HEADER = 2
    DATA = 3
    END = 4
    PING = 5
    CHALLENGE = 16
    REPORT = 17
    KEY = 18


class Flag(IntEnum):
    """Bits of `Datagram.flags`."""

    KEY_FRAME = 1  # DATA: the packet is a key frame
    HEADER_KNOWN = 1  # REPORT: the segment's header need not be repeated
    ENDED = 2  # REPORT: the segment is complete


@dataclass(frozen=True, slots=True)
class Datagram:
    """One datagram without its tag.

    Attributes
    ----------
    kind : int
        One of `Kind`.
    stream : bytes
        `ID_SIZE` random bytes of the sender.
    segment, sequence : int
        What it is about; see each kind.
    fragment, fragments : int
        Number of this part, and of all parts.
    slice_index, flags : int
        Of the packet; see each kind.
    body : bytes
        At most `CHUNK` bytes.
    """

    kind: int
    stream: bytes
    segment: int = 0
    sequence: int = 0
    fragment: int = 0
    fragments: int = 1
    slice_index: int = 0
    flags: int = 0
    body: bytes = b""

    def pack(self, seal: Seal) -> bytes:
        """Serialize and tag."""
        head = _HEAD.pack(
            MAGIC, VERSION, self.kind, self.stream, self.segment, self.sequence,
            self.fragment, self.fragments, self.slice_index, self.flags,
        )  # fmt: skip
        data = head + self.body
        return data + seal.tag(data)


def stream_of(data: bytes) -> bytes | None:
    """Return which stream a datagram says it belongs to; None if it is none of ours."""
    if not _HEAD.size + CRC_SIZE <= len(data) <= MAX_DATAGRAM or data[:2] != MAGIC:
        return None
    return data[4 : 4 + ID_SIZE] if data[2] == VERSION else None


def open_datagram(data: bytes, seal: Seal) -> Datagram | None:
    """Check and parse a datagram; None where the tag is wrong or it is none of ours."""
    if stream_of(data) is None or len(data) < _HEAD.size + seal.size:
        return None
    content = data[: -seal.size]
    if not hmac.compare_digest(seal.tag(content), data[-seal.size :]):
        return None
    fields = (*_HEAD.unpack_from(content)[2:], content[_HEAD.size :])
    found = Datagram(*fields)
    return found if found.fragment < found.fragments else None


@dataclass(frozen=True, slots=True)
class Seal:
    """A key, and how datagrams are tagged with it.

    Attributes
    ----------
    key : bytes
        Secret of the two sides, or of what they have said to each other.
    authentic : bool
        Whether there is a token, so that the tag is an HMAC.
    """

    key: bytes
    authentic: bool

    @property
    def size(self) -> int:
        """Bytes of a tag."""
        return TAG_SIZE if self.authentic else CRC_SIZE

    def tag(self, data: bytes) -> bytes:
        """Return the tag of a datagram."""
        if self.authentic:
            return hmac.digest(self.key, data, "sha256")[:TAG_SIZE]
        return _CRC.pack(zlib.crc32(data, zlib.crc32(self.key)))


def greeting_seal(token: str | None) -> Seal:
    """Return the seal of HELLO and CHALLENGE."""
    return Seal(prove((token or "").encode(), b"edge-codec udp greeting 1"), token is not None)


def session_seal(token: str | None, stream: bytes, sender: bytes, receiver: bytes) -> Seal:
    """Return the seal of all other datagrams, from the nonces of both sides."""
    secret = (token or "").encode()
    return Seal(
        prove(secret, b"edge-codec udp session 1", stream, sender, receiver), token is not None
    )


def pack_hello(stream: bytes, nonce: bytes, name: str, seal: Seal) -> bytes:
    """Make a HELLO: nonce and name, padded to the largest size, so that no answer is larger."""
    body = nonce + bytes([len(name)]) + name.encode("ascii")
    body += bytes(MAX_DATAGRAM - _HEAD.size - seal.size - len(body))
    return Datagram(Kind.HELLO, stream, body=body).pack(seal)


def unpack_hello(body: bytes) -> tuple[bytes, str]:
    """Parse the body of HELLO: the sender's nonce, and the name of the stream.

    Raises
    ------
    ProtocolError
        If it is too short, so that the answer would be larger, or the name is impossible.
    """
    if len(body) < MAX_DATAGRAM - _HEAD.size - TAG_SIZE:
        raise ProtocolError(f"HELLO has a body of {len(body)} bytes; it must fill its datagram")
    size = body[NONCE_SIZE]
    return body[:NONCE_SIZE], stream_name(body[NONCE_SIZE + 1 : NONCE_SIZE + 1 + size])


def cut(data: bytes) -> list[bytes]:
    """Cut bytes into the bodies of datagrams."""
    return [data[at : at + CHUNK] for at in range(0, len(data), CHUNK)] or [b""]


def pack_missing(missing: list[tuple[int, int]]) -> bytes:
    """Serialize the body of REPORT: packet and fragment of each part that is missing."""
    return b"".join(_MISSING.pack(*entry) for entry in missing[:MAX_MISSING])


def unpack_missing(body: bytes) -> list[tuple[int, int]]:
    """Parse the body of REPORT; what is too much or cut is left out."""
    whole = len(body) - len(body) % _MISSING.size
    return [(sequence, fragment) for sequence, fragment in _MISSING.iter_unpack(body[:whole])][
        :MAX_MISSING
    ]
