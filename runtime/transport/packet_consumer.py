"""Who takes the packets of a link that may lose some: a store, or a display."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from edge_codec.bitstream.packet import Packet
from edge_codec.spec import StreamSpec


class PacketConsumer(Protocol):
    """Takes what came of one stream, in order, and hears of what did not.

    Attributes
    ----------
    keys_wanted : set of int
        Slices that cannot go on without a key frame.
    """

    keys_wanted: set[int]

    def begin(self, number: int, header: bytes) -> None:
        """Begin a segment; the header is that of the bitstream."""

    @property
    def spec(self) -> StreamSpec:
        """Description of the segment."""

    @property
    def due(self) -> tuple[int, int]:
        """Segment and packet that it would go on with."""

    def skip(self, end: int, slices: Collection[int] = ()) -> None:
        """Hear that the packets before `end` are lost; some of their slices may be known."""

    def put(self, packet: Packet, data: bytes) -> bool:
        """Take the next packet; whether it can be decoded."""

    def end(self, count: int) -> None:
        """Hear that the segment had so many packets and is complete."""
