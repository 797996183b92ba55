"""A sink that keeps the packets in memory."""

from __future__ import annotations

from edge_codec.bitstream.packet import Packet
from edge_codec.runtime.packet_sink import Segment


class PacketList:
    """Keeps what a live stream sends, for tests, measurements and whoever forwards it himself.

    Attributes
    ----------
    segments : list of Segment
        In their order.
    sent : list of (Segment, Packet, bytes)
        Each packet with the segment it belongs to.
    ended, aborted : int
        How often a segment was completed, or left in the middle.
    """

    def __init__(self) -> None:
        self.segments: list[Segment] = []
        self.sent: list[tuple[Segment, Packet, bytes]] = []
        self.ended = 0
        self.aborted = 0

    def begin(self, segment: Segment) -> None:
        """See `PacketSink`."""
        self.segments.append(segment)

    def send(self, packet: Packet, data: bytes) -> None:
        """See `PacketSink`."""
        self.sent.append((self.segments[-1], packet, data))

    def end(self) -> None:
        """See `PacketSink`."""
        self.ended += 1

    def abort(self) -> None:
        """See `PacketSink`."""
        self.aborted += 1
