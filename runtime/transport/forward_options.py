"""How packets are forwarded: who may receive them, how long to wait, what if nobody does."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from edge_codec.errors import SpecError

# Called where packets were lost, with the slice that needs a key frame, or None for every slice.
OnKeyRequest = Callable[["int | None"], None]


class WhenGone(Enum):
    """What becomes of the stream when its receiver does not take packets any more."""

    FAIL = "fail"  # the stream fails; nothing is lost that was not reported
    GO_ON = "go-on"  # other sinks go on; what found no room is counted, and a key frame requested


@dataclass(frozen=True, slots=True)
class ForwardOptions:
    """Options of every way of forwarding.

    Attributes
    ----------
    token : str or None
        Secret that the receiver demands, and must know itself.
    tls : ssl.SSLContext or None
        From `access.client_context`; None for a connection in clear.
    when_gone : WhenGone
        What if the receiver is gone.
    patience_s : float
        Longest time without any progress before the receiver counts as gone.
    window_packets, window_bytes : int
        Most that is kept for a receiver that has not confirmed it.
    connect_s, silence_s : float
        Longest time to connect in, and without a sign of life before the connection is made anew.
    retry_s, max_retry_s : float
        Pause before the second attempt to connect, and the longest that it doubles to.
    """

    token: str | None = None
    tls: ssl.SSLContext | None = None
    when_gone: WhenGone = WhenGone.FAIL
    patience_s: float = 10.0
    window_packets: int = 512
    window_bytes: int = 128 << 20
    connect_s: float = 5.0
    silence_s: float = 8.0
    retry_s: float = 0.1
    max_retry_s: float = 3.0

    def __post_init__(self) -> None:
        """Refuse bounds that let nothing through.

        Raises
        ------
        SpecError
            If a time or a window is not positive.
        """
        for name in (
            "patience_s", "window_packets", "window_bytes", "connect_s", "silence_s", "retry_s",
            "max_retry_s",
        ):  # fmt: skip
            if getattr(self, name) <= 0:
                raise SpecError(f"{name} is {getattr(self, name)}; use a number above 0")

    @property
    def secret(self) -> bytes:
        """The token as a key of `access.prove`; empty without one."""
        return (self.token or "").encode()


@dataclass(slots=True)
class ForwardCounts:
    """What a forwarding sink did so far.

    Attributes
    ----------
    packets, acknowledged : int
        Taken from the pipeline, and confirmed as stored.
    lost : int
        Given up for want of room, or lost by the receiver after it had confirmed them.
    connections, key_requests : int
        Connections that were made, and requests for key frames.
    last_error : str
        Why the last connection ended; empty if none did.
    """

    packets: int = 0
    acknowledged: int = 0
    lost: int = 0
    connections: int = 0
    key_requests: int = 0
    last_error: str = ""
