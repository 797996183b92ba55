"""Times and bounds of packet forwarding over UDP."""

from __future__ import annotations

from dataclasses import dataclass

from edge_codec.errors import SpecError


@dataclass(frozen=True, slots=True)
class UdpOptions:
    """What both sides agree to by giving it, or leave as it is.

    Attributes
    ----------
    retransmit : bool
        Receiver: ask again for what is missing, until the deadline.
    reorder_ns : int
        Receiver: how long a datagram may be overtaken by later ones before it counts as missing.
    ask_ns : int
        Receiver: time between two requests for the same part.
    deadline_ns : int
        Receiver: when a packet that is missing is given up, and later ones are handed out.
    report_ns : int
        Receiver: longest time between two reports while datagrams come.
    key_retry_ns : int
        Receiver: time between two requests for a key frame of a slice.
    window_packets, window_bytes : int
        Receiver: most that waits for something missing before it. Sender: most that is kept to be
        sent again.
    ping_ns : int
        Sender: a datagram is sent at least so often, so that the end of what was sent is known.
    repeat_ns : int
        Sender: time between two greetings, headers or ends that nobody has answered.
    burst_datagrams, pause_ns : int
        Sender: so many datagrams go out at once, and then so long none: buffers on the way are
        small.
    """

    retransmit: bool = True
    reorder_ns: int = 3_000_000
    ask_ns: int = 15_000_000
    deadline_ns: int = 80_000_000
    report_ns: int = 50_000_000
    key_retry_ns: int = 100_000_000
    window_packets: int = 256
    window_bytes: int = 32 << 20
    ping_ns: int = 10_000_000
    repeat_ns: int = 50_000_000
    burst_datagrams: int = 32
    pause_ns: int = 300_000

    def __post_init__(self) -> None:
        """Refuse what lets nothing through.

        Raises
        ------
        SpecError
            If a time or a bound is not positive.
        """
        for name in self.__slots__:
            if getattr(self, name) < 0 or (name != "retransmit" and not getattr(self, name)):
                raise SpecError(f"{name} is {getattr(self, name)}; use a number above 0")
