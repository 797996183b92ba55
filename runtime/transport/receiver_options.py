"""What receivers of packets bound, whatever senders do."""

from __future__ import annotations

from dataclasses import dataclass, field

from edge_codec.errors import SpecError
from edge_codec.runtime.access import Access
from edge_codec.runtime.sync_policy import SyncPolicy


@dataclass(frozen=True, slots=True)
class ReceiverOptions:
    """Options of the receivers over TCP and UDP.

    Attributes
    ----------
    access : Access
        Token and TLS that senders must show; TLS is for TCP only.
    sync : SyncPolicy
        When packets are forced onto the disk.
    max_peers : int
        Connections, or senders over UDP, at once.
    hello_s : float
        Longest time from the first byte of a sender until it has shown who it is.
    message_s : float
        Longest time that one message may take from its first byte to its last.
    silence_s : float
        Longest time without a sign of life; senders send one every few seconds.
    """

    access: Access = field(default_factory=Access)
    sync: SyncPolicy = SyncPolicy.NONE
    max_peers: int = 32
    hello_s: float = 5.0
    message_s: float = 30.0
    silence_s: float = 10.0

    def __post_init__(self) -> None:
        """Refuse bounds that let nobody in.

        Raises
        ------
        SpecError
            If a bound is not positive.
        """
        for name in ("max_peers", "hello_s", "message_s", "silence_s"):
            if getattr(self, name) <= 0:
                raise SpecError(f"{name} is {getattr(self, name)}; use a number above 0")
