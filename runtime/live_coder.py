"""The coder's side of a live stream: frames to packets, and a new segment where frames change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from edge_codec.bitstream.live import LiveNote
from edge_codec.bitstream.packet import LayerId, Packet
from edge_codec.codec import RESIDUAL_CHECK, Resume
from edge_codec.engine import Mark
from edge_codec.residual import count_fast
from edge_codec.runtime.clock import Clock
from edge_codec.runtime.cut_segment import CutSegment
from edge_codec.runtime.deadline import CodedTimes, Deadline, Due
from edge_codec.runtime.frame_event import FrameEvent
from edge_codec.runtime.frame_pool import FrameBuffer
from edge_codec.runtime.live_frame import LiveFrame
from edge_codec.runtime.live_options import LiveOptions
from edge_codec.runtime.live_spec import is_like, make_segment_spec
from edge_codec.runtime.packet_sink import Segment
from edge_codec.spec import CineInfo, StreamSpec

# A segment of a stream without an end is closed after so many frames: 9 minutes at 60 frames/s.
# Its index, 8 bytes a frame, is in memory until then, and going on with a cut file reads all of it.
MAX_SEGMENT_FRAMES = 1 << 14


class FrameCoder(Protocol):
    """What a live stream needs of `edge_codec.codec.Encoder`."""

    def push(
        self,
        frame: NDArray[Any],
        slice_index: int = 0,
        metadata: bytes = b"",
        *,
        key: bool = False,
        give_up_ns: int | None = None,
    ) -> Packet:
        """Code the next frame of a slice."""

    def push_many(
        self,
        frames: Sequence[tuple[int, NDArray[Any]]],
        metadata: Sequence[bytes] = (),
        *,
        keys: Collection[int] = (),
        give_up_ns: int | None = None,
    ) -> list[Packet]:
        """Code the next frames of several slices."""

    def restart(self) -> None:
        """Begin another stream of the same description."""


class MakeCoder(Protocol):
    """Makes the coder of a segment."""

    def __call__(self, spec: StreamSpec, mark: Mark, resume: Resume | None = None) -> FrameCoder:
        """Return it; `resume` says where it goes on with a segment that another one began."""


@dataclass(slots=True)
class Job:
    """A frame on its way to the coder.

    Attributes
    ----------
    frame : LiveFrame
        Its kind and bounds; its samples are those in `buffer`.
    buffer : FrameBuffer
        Where its samples are.
    event : FrameEvent
        What is known of it so far.
    metadata : bytes
        Its packed source header.
    acquired_unix_ns : int
        When it was acquired by the wall clock.
    clock_jumped : bool
        Whether that clock was set since the frame before.
    dropped : int
        Frames of its slice that were left out right before it.
    key : bool
        Whether a receiver asked for a key frame.
    """

    frame: LiveFrame
    buffer: FrameBuffer
    event: FrameEvent
    metadata: bytes
    acquired_unix_ns: int
    clock_jumped: bool
    dropped: int = 0
    key: bool = False


@dataclass(frozen=True, slots=True)
class Coded:
    """A packet on its way to the sinks.

    Attributes
    ----------
    packet : Packet
        The packet.
    data : bytes
        Its bytes.
    event : FrameEvent
        What is known of its frame so far.
    segment : Segment
        Where it belongs.
    coded_ns, ready_ns : int
        When the frame was coded, and the packet ready.
    """

    packet: Packet
    data: bytes
    event: FrameEvent
    segment: Segment
    coded_ns: int
    ready_ns: int


class _Marks:
    """When the steps of the frames in work ended."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._ends: list[tuple[str, int]] = []
        self._begun_ns = 0

    def start(self) -> int:
        """Begin with other frames; return the present."""
        self._ends.clear()
        self._begun_ns = self.clock.monotonic_ns()
        return self._begun_ns

    def mark(self, step: str) -> None:
        """Note that a step has ended."""
        self._ends.append((step, self.clock.monotonic_ns()))

    def shared(self) -> dict[str, int]:
        """Return the durations of the steps that the frames had in common."""
        durations: dict[str, int] = {}
        last_ns = self._begun_ns
        for step, end_ns in self._ends:
            if step != "code":
                durations[step] = durations.get(step, 0) + end_ns - last_ns
            last_ns = end_ns
        return durations

    def codes(self) -> list[tuple[int, int]]:
        """Return duration and end of each frame's residual coding."""
        befores = [self._begun_ns, *(end_ns for _, end_ns in self._ends)]
        return [
            (end_ns - before_ns, end_ns)
            for before_ns, (step, end_ns) in zip(befores, self._ends, strict=False)
            if step == "code"
        ]

    @property
    def last_ns(self) -> int:
        """When the last step ended."""
        return self._ends[-1][1]


class LiveCoder:
    """Codes the frames of one live stream, in their order.

    Parameters
    ----------
    name : str
        The stream's.
    options : LiveOptions
        What was chosen for it.
    make_coder : callable
        Makes the coder of a segment.
    clock : Clock
        For the steps' times.
    spec : StreamSpec, optional
        Fixed description: there is one segment only.
    geometry : CineInfo, optional
        See `make_segment_spec`.
    cut : CutSegment, optional
        What the first segment goes on with, if its frames are of that kind.
    """

    def __init__(
        self,
        name: str,
        options: LiveOptions,
        make_coder: MakeCoder,
        clock: Clock,
        spec: StreamSpec | None = None,
        geometry: CineInfo | None = None,
        cut: CutSegment | None = None,
    ) -> None:
        self.deadline = Deadline(options)
        self._name = name
        self._options = options
        self._make_coder = make_coder
        self._fixed = spec
        self._geometry = geometry
        self._cut = cut
        self._resumed = {} if cut is None else cut.resume.next_phases
        self._marks = _Marks(clock)
        self._segment: Segment | None = None
        self._coder: FrameCoder | None = None
        self._phases: Counter[int] = Counter()
        self._n_frames = 0  # of the segment

    def resumed_at(self, slice_index: int) -> int:
        """Return how many frames of a slice a segment has that was to be gone on with."""
        return self._resumed.get(slice_index, 0)

    def code(self, jobs: list[Job], others: list[Due]) -> list[Coded]:
        """Code frames.

        Parameters
        ----------
        jobs : list of Job
            One frame, or one each of several slices.
        others : list of Due
            Frames that wait for the same worker.

        Raises
        ------
        EdgeCodecError
            If a frame cannot be coded: no other of the stream can be, then.
        """
        coded: list[Coded] = []
        while jobs:
            begun_ns = self._marks.start()
            segment, coder = self._segment_of(jobs[0])
            together = [jobs[0]]
            for job in jobs[1:]:
                if not self._fits(job, segment.spec):
                    break
                together.append(job)
            jobs = jobs[len(together) :]
            waiting = [due for job in (*together[1:], *jobs) if (due := self._due(job))]
            coded += self._code(together, segment, coder, begun_ns, [*others, *waiting])
        return coded

    def _due(self, job: Job) -> Due | None:
        return self.deadline.due(job.event.acquired_ns)

    def _code(
        self,
        jobs: list[Job],
        segment: Segment,
        coder: FrameCoder,
        begun_ns: int,
        others: list[Due],
    ) -> list[Coded]:
        """Code frames of one segment together."""
        now_ns = self._marks.clock.monotonic_ns()
        give_up_ns = self.deadline.give_up_ns(jobs[0].event.acquired_ns, now_ns, others)
        packets = _push(coder, jobs, give_up_ns)
        shared, codes = self._marks.shared(), self._marks.codes()
        before_ns = sum(shared.values()) // len(jobs)
        coded = []
        for i, (job, packet) in enumerate(zip(jobs, packets, strict=True)):
            code_ns, end_ns = codes[i] if codes else (0, self._marks.last_ns)
            self._count(job.event, packet, segment.spec)
            if packet.phase_index:  # the first frame of a slice also sets its coder up
                fast, bands = job.event.fast_bands, job.event.bands
                times = CodedTimes(before_ns, code_ns, give_up_ns, end_ns, fast, bands)
                self.deadline.learn_coding(times)
            steps_ns = {"wait": 0, **shared, **({"code": code_ns} if codes else {})}
            coded.append(self._pack(job, packet, segment, begun_ns, end_ns, steps_ns))
        return coded

    def _count(self, event: FrameEvent, packet: Packet, spec: StreamSpec) -> None:
        """Note what became of the frame."""
        self._phases[packet.slice_index] += 1
        self._n_frames += 1
        event.sequence, event.phase_index = packet.sequence, packet.phase_index
        event.key = packet.key
        residual = packet.layers.get(LayerId.RESIDUAL)
        if residual is not None:
            payload = residual[RESIDUAL_CHECK.size :]
            event.fast_bands, event.bands = count_fast(payload, spec.info.rows)

    def _pack(
        self,
        job: Job,
        packet: Packet,
        segment: Segment,
        begun_ns: int,
        coded_ns: int,
        steps_ns: dict[str, int],
    ) -> Coded:
        event, begun_pack_ns = job.event, self._marks.clock.monotonic_ns()
        packet = self._with_note(packet, job, begun_ns, begun_pack_ns)
        data = packet.pack()
        ready_ns = self._marks.clock.monotonic_ns()
        steps_ns["pack"] = ready_ns - begun_pack_ns
        # In the queue, and for frames that are coded together with this one.
        steps_ns["wait"] = ready_ns - event.acquired_ns - sum(steps_ns.values())
        event.steps_ns = steps_ns
        event.segment, event.packet_bytes = segment.number, len(data)
        return Coded(packet, data, event, segment, coded_ns, ready_ns)

    def _segment_of(self, job: Job) -> tuple[Segment, FrameCoder]:
        segment, coder = self._segment, self._coder
        if segment is not None and coder is not None and self._fits(job, segment.spec):
            return segment, coder
        number, before = (0, None) if segment is None else (segment.number + 1, segment.spec)
        if coder is not None and before is not None and self._fits_but_for_length(job, before):
            self._segment, self._n_frames = Segment(self._name, number, before), 0
            coder.restart()
            return self._segment, coder
        spec = self._fixed or make_segment_spec(job.frame, self._options, self._geometry, before)
        cut, self._cut = self._cut, None
        resume, self._n_frames = None, 0
        if cut is not None and job.frame.fits(cut.spec) and is_like(cut.spec, spec):
            spec, resume = cut.spec, cut.resume
            self._phases.update(resume.next_phases)
            self._n_frames = resume.sequence
        self._segment = Segment(self._name, number, spec)
        self._coder = coder = None  # what it keeps of each slice is freed before as much is made
        self._coder = coder = self._make_coder(spec, self._marks.mark, resume)
        self.deadline.resize(spec.info.rows * spec.info.columns)
        return self._segment, coder

    def _fits_but_for_length(self, job: Job, spec: StreamSpec) -> bool:
        return not spec.info.n_phases and job.frame.fits(spec)

    def _fits(self, job: Job, spec: StreamSpec) -> bool:
        n_phases = spec.info.n_phases
        if n_phases:
            full = n_phases <= self._phases[job.event.slice_index]
        else:
            full = self._fixed is None and self._n_frames >= MAX_SEGMENT_FRAMES
        return job.frame.fits(spec) and not full

    def _with_note(self, packet: Packet, job: Job, begun_ns: int, now_ns: int) -> Packet:
        event, budget_ns = job.event, self.deadline.budget_ns
        note = LiveNote(
            self._options.policy,
            job.acquired_unix_ns,
            waited_us=max(0, begun_ns - event.acquired_ns) // 1000,
            coded_us=(now_ns - begun_ns) // 1000,
            dropped=job.dropped,
            clock_jumped=job.clock_jumped,
            late=now_ns - event.acquired_ns > budget_ns > 0,
        )
        layers = {**packet.layers, LayerId.LIVE: note.pack()}
        return Packet(packet.sequence, packet.slice_index, packet.phase_index, packet.key, layers)


def _push(coder: FrameCoder, jobs: list[Job], give_up_ns: int | None) -> list[Packet]:
    if len(jobs) > 1:
        return coder.push_many(
            [(job.event.slice_index, job.frame.samples) for job in jobs],
            [job.metadata for job in jobs],
            keys=[job.event.slice_index for job in jobs if job.key],
            give_up_ns=give_up_ns,
        )
    job = jobs[0]
    packet = coder.push(
        job.frame.samples,
        job.event.slice_index,
        job.metadata,
        key=job.key,
        give_up_ns=give_up_ns,
    )
    return [packet]
