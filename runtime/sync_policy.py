"""When the packets of a stream are forced onto the disk: what a loss of power may cost.

A process that is killed loses nothing that it wrote, since the kernel has it. A machine that loses
its power supply loses what the kernel had not written back yet. Forcing it costs time for each
time: a disk's, some milliseconds on flash memory without a buffer of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from edge_codec.errors import SpecError

_FORM = re.compile(r"(\d{1,9})|(\d{1,9}(?:\.\d{1,9})?)s")


@dataclass(frozen=True, slots=True)
class SyncPolicy:
    """When to force packets onto the disk; whichever of both limits comes first.

    A stream that ends is forced, too, unless both are 0. `NONE` and `EVERY_PACKET` are policies.

    Attributes
    ----------
    packets : int
        After so many packets: 1 for each before it counts as sent, 0 for no such limit.
    seconds : float
        With the first packet after so many seconds since the last time; 0 for no such limit.
    """

    NONE: ClassVar[SyncPolicy]
    EVERY_PACKET: ClassVar[SyncPolicy]

    packets: int = 0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        """Refuse limits that are none."""
        if self.packets < 0 or not 0 <= self.seconds < float("inf"):
            raise SpecError(
                f"sync after {self.packets} packets or {self.seconds} s; use numbers of 0 or more"
            )

    def due(self, packets: int, seconds: float) -> bool:
        """Whether to force now, `packets` and `seconds` after the last time."""
        return 0 < self.packets <= packets or 0 < self.seconds <= seconds

    @property
    def ever(self) -> bool:
        """Whether anything is ever forced."""
        return self.packets > 0 or self.seconds > 0


SyncPolicy.NONE = SyncPolicy()
SyncPolicy.EVERY_PACKET = SyncPolicy(packets=1)


def parse_sync(text: str) -> SyncPolicy:
    """Read a policy as it is written on a command line.

    Parameters
    ----------
    text : str
        `none`, `packet`, a number of packets like `30`, or of seconds like `2s`.

    Raises
    ------
    SpecError
        If it is none of these.
    """
    if text == "none":
        return SyncPolicy.NONE
    if text == "packet":
        return SyncPolicy.EVERY_PACKET
    match = _FORM.fullmatch(text)
    if match is None:
        raise SpecError(
            f"sync policy {text!r} is not known; use none, packet, a number of packets like 30, or "
            "of seconds like 2s"
        )
    packets, seconds = match.groups()
    return SyncPolicy(int(packets or 0), float(seconds or 0))
