"""What is known of one frame after its way through the pipeline: the unit of all telemetry."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class FrameOutcome(Enum):
    """What became of a frame that was pushed."""

    SENT = "sent"  # coded, and taken by every sink
    DROPPED = "dropped"  # left out on purpose, as the policy allows: counted and reported
    REFUSED = "refused"  # cannot be coded (NaN, wrong shape, ...): reported to who pushed it
    FAILED = "failed"  # a coder or a sink failed


@dataclass(slots=True)
class FrameEvent:
    """One frame's times and sizes.

    Attributes
    ----------
    stream : str
        Name of the stream.
    outcome : FrameOutcome
        What became of the frame.
    segment : int
        Number of the segment within the stream: a new one begins where the frames change.
    sequence, slice_index, phase_index : int
        As in the packet; -1 where there is none.
    key : bool
        Whether it became a key frame.
    acquired_ns : int
        `time.monotonic_ns` when the frame was acquired, or was due where a pacer says when.
    finished_ns : int
        The same clock when the last sink had taken the packet.
    steps_ns : dict of str to int
        Duration of each step in nanoseconds, in order: wait (in the queue), normalize, infer, code,
        pack, hand_over (queue to the sender), send.
    frame_bytes, packet_bytes : int
        Size of the voxels as stored, and of the packet.
    voxels : int
        Number of the frame's voxels; 0 where it was refused.
    fast_bands, bands : int
        Parts of the residual layer that fell back to effort fast, and all parts; 0, 0 without one.
    deadline_ns : int
        Budget of the frame in nanoseconds; 0 where there is none.
    detail : str
        Why it was refused, failed or dropped.
    """

    stream: str
    outcome: FrameOutcome = FrameOutcome.SENT
    segment: int = 0
    sequence: int = -1
    slice_index: int = 0
    phase_index: int = -1
    key: bool = False
    acquired_ns: int = 0
    finished_ns: int = 0
    steps_ns: dict[str, int] = field(default_factory=dict)
    frame_bytes: int = 0
    packet_bytes: int = 0
    voxels: int = 0
    fast_bands: int = 0
    bands: int = 0
    deadline_ns: int = 0
    detail: str = ""

    @property
    def latency_ns(self) -> int:
        """From acquisition to the last sink."""
        return self.finished_ns - self.acquired_ns

    @property
    def missed(self) -> bool:
        """Whether the frame was sent, but later than its deadline."""
        late = self.latency_ns > self.deadline_ns > 0
        return late and self.outcome is FrameOutcome.SENT
