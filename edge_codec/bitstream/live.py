"""The note of a live frame: when it was acquired, how long it took, and what was left out for it.

A packet of a live stream may carry one as its layer `LIVE`. It says nothing about the voxels: a
decoder does without it, and a damaged or hostile one harms no frame. Its bytes are in
`docs/bitstream.md`, section 4.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from edge_codec.errors import BitstreamError, FrameError

_NOTE = struct.Struct("<BBHqIII")  # policy, flags, 0, acquired, waited, coded, dropped
_MOST = (1 << 32) - 1
_CLOCK_JUMPED, _LATE = 1, 2
NOTE_SIZE = _NOTE.size


class Policy(IntEnum):
    """Wire id of what a live encoder may do to keep its deadline."""

    NONE = 0  # it knows no deadline
    STRICT_LOSSLESS = 1  # less effort, never other voxels, never a frame less
    ADAPTIVE = 2  # less effort or a smaller model, within the stream's promise
    DROP_OLDEST = 3  # for a live view: also leaves out frames, and counts them


@dataclass(frozen=True, slots=True)
class LiveNote:
    """What a live encoder notes about one frame.

    Attributes
    ----------
    policy : Policy
        What the encoder may do to keep its deadline.
    acquired_unix_ns : int
        Wall clock when the frame was acquired, nanoseconds since 1970; signed, 64 bits. The clock
        may be wrong or jump: nothing but a display should depend on it.
    waited_us, coded_us : int
        Microseconds in the queue, and from there to the packet. More than 2**32 - 1 (71 minutes)
        are noted as that.
    dropped : int
        Frames of this slice that were left out right before this one; they have no phase index.
    clock_jumped : bool
        Whether the wall clock was set between the frame before (of any slice) and this one.
    late : bool
        Whether the deadline was over when the packet was ready.
    """

    policy: Policy
    acquired_unix_ns: int
    waited_us: int
    coded_us: int
    dropped: int = 0
    clock_jumped: bool = False
    late: bool = False

    def pack(self) -> bytes:
        """Serialize the note.

        Returns
        -------
        bytes
            `NOTE_SIZE` bytes.

        Raises
        ------
        FrameError
            If a number is negative that cannot be, or the time of acquisition has over 64 bits.
        """
        counts = (self.waited_us, self.coded_us, self.dropped)
        if min(counts) < 0 or not -(1 << 63) <= self.acquired_unix_ns < 1 << 63:
            raise FrameError(
                f"note of a live frame has waited_us, coded_us, dropped {counts} and "
                f"acquired_unix_ns {self.acquired_unix_ns}; give counts of 0 or more and a time of "
                "64 bits"
            )
        flags = self.clock_jumped * _CLOCK_JUMPED | self.late * _LATE
        capped = (min(count, _MOST) for count in counts)
        return _NOTE.pack(self.policy, flags, 0, self.acquired_unix_ns, *capped)

    @classmethod
    def unpack(cls, data: bytes) -> LiveNote:
        """Parse a note, bytes from outside.

        Parameters
        ----------
        data : bytes
            Payload of the layer `LIVE`.

        Returns
        -------
        LiveNote
            The note.

        Raises
        ------
        BitstreamError
            If it has another size, an unknown policy, or reserved bits that are not 0.
        """
        if len(data) != _NOTE.size:
            raise BitstreamError(f"note of a live frame has {len(data)} bytes; {NOTE_SIZE} are due")
        policy, flags, zero, acquired, waited, coded, dropped = _NOTE.unpack(data)
        if flags & ~(_CLOCK_JUMPED | _LATE) or zero:
            raise BitstreamError(
                f"note of a live frame has flags {flags:#04x} and reserved bytes {zero:#06x}; only "
                "flag bits 0 and 1 are known: upgrade edge-codec if the stream is newer"
            )
        if policy > max(Policy):
            raise BitstreamError(
                f"note of a live frame names policy {policy}; known are 0 to {max(Policy)}"
            )
        jumped, late = bool(flags & _CLOCK_JUMPED), bool(flags & _LATE)
        return cls(Policy(policy), acquired, waited, coded, dropped, jumped, late)
