"""Where packets of live streams go: a file, a connection, a viewer. One protocol for all."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from edge_codec.bitstream.packet import Packet
from edge_codec.spec import StreamSpec

STREAM_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")  # also safe as a folder's name


@dataclass(frozen=True, slots=True)
class Segment:
    """One stream of the bitstream: frames of one size, sample type and range of values.

    A live source that changes any of them goes on in another segment.

    Attributes
    ----------
    stream : str
        Name of the live stream, of the form `STREAM_NAME`.
    number : int
        0, 1, 2, ... within the live stream.
    spec : StreamSpec
        Description; `n_phases` is 0 where nobody knows it yet.
    """

    stream: str
    number: int
    spec: StreamSpec


class PacketSink(Protocol):
    """Takes the packets of one live stream, from one thread, in order.

    Every method may raise `SinkError` or another class of `edge_codec.errors`; the pipeline then
    fails the stream that the sink belongs to, and no other. One that hangs is waited for as long as
    there is something to send. A stream that is ended without that gives it up
    (`packet_sender.GIVE_UP_S`); should the call come back later, `abort` follows, and nothing else.
    """

    def begin(self, segment: Segment) -> None:
        """Prepare for the packets of a new segment, after `end` of the one before."""

    def send(self, packet: Packet, data: bytes) -> None:
        """Take the next packet; `data` is `packet.pack()`. Returns when it is on its way."""

    def end(self) -> None:
        """Complete the segment: no more packets follow."""

    def abort(self) -> None:
        """Stop in the middle, keeping what is whole; never raises."""
