"""Where a live stream goes on that was cut off: by a crash, a lost power supply, a full disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from edge_codec.codec import Resume
from edge_codec.runtime.packet_sink import Segment
from edge_codec.spec import StreamSpec


class ResumeFrom(Protocol):
    """What knows where a stream was cut off: `edge_codec.runtime.stream_file.FileSink`."""

    def last_spec(self, stream: str) -> StreamSpec | None:
        """Return the description of the stream's last segment, None where there is none."""

    def resume_point(self, segment: Segment) -> Resume | None:
        """Return where the stream's last segment goes on if it is like this one, else None."""

    def abort(self) -> None:
        """Let go of the segment; never raises."""


@dataclass(frozen=True, slots=True)
class CutSegment:
    """A segment that is to be gone on with.

    Attributes
    ----------
    spec : StreamSpec
        Its description.
    resume : Resume
        Where it goes on.
    """

    spec: StreamSpec
    resume: Resume


def find_cut(name: str, spec: StreamSpec | None, source: ResumeFrom) -> CutSegment | None:
    """Find the segment that a stream goes on with.

    Parameters
    ----------
    name : str
        The stream's.
    spec : StreamSpec or None
        Its fixed description, if it has one.
    source : ResumeFrom
        Where to look.

    Raises
    ------
    SinkError
        If what is there cannot be read.
    """
    last = spec or source.last_spec(name)
    point = None if last is None else source.resume_point(Segment(name, 0, last))
    return None if last is None or point is None else CutSegment(last, point)
