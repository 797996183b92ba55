"""Frame -> packet: samples -> base layer -> residual against the base -> packet."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.base.layer import BaseModel
from edge_codec.bitstream.packet import LayerId, Packet
from edge_codec.bitstream.phases import PhaseOrder
from edge_codec.codec.encoder_slice import EncoderSlice
from edge_codec.codec.samples import (
    RESIDUAL_CHECK,
    base_check,
    check_open,
    frame_check,
    is_key,
    to_samples,
)
from edge_codec.engine import Mapper, Mark, no_mark
from edge_codec.errors import FrameError, SpecError
from edge_codec.spec import ModelId, StreamSpec


@dataclass(frozen=True, slots=True)
class Resume:
    """Where an encoder goes on with a stream that another one began.

    Attributes
    ----------
    sequence : int
        Number of the next packet.
    next_phases : mapping of int to int
        Phase that the next frame of each slice gets; 0 for a slice that is not there. In an
        archive, that of a key frame.
    """

    sequence: int = 0
    next_phases: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Work:
    """A frame in work: its samples are in its slice's state."""

    state: EncoderSlice
    slice_index: int
    phase_index: int
    key: bool
    ahead: Sequence[NDArray[np.uint32]] = ()


Watch = Callable[[NDArray[np.uint32], NDArray[np.uint32]], None]
"""Is called with the samples of a frame and the frame that its base layer decodes to."""

_Base = tuple[bytes | None, NDArray[np.uint32] | None]
"""A base layer's payload and the frame it decodes to; None in a stream without."""


class Encoder:
    """Turns the frames of a stream into packets.

    Frames of one slice are pushed in the order of their phases; in an archive, in the order that
    `next_phase` tells. Slices may be interleaved in any way. The encoder counts phases itself.

    Parameters
    ----------
    spec : StreamSpec
        What the stream holds.
    model : BaseModel, optional
        Loaded model, where `spec.model` is not `NONE`.
    mapper : callable
        How to go over the bands of a frame: `map`, or an executor's for several threads; the bits
        are the same.
    mark : callable
        Called with the name of each step of a frame as it ends.
    resume : Resume, optional
        Where a stream goes on that was cut off: its next frames become key frames.
    watch : callable, optional
        Called with the samples of each frame and the frame that its base layer decodes to, both
        uint32 and valid during the call only.
    empty_base : bool
        Leave the base layers of a stream empty that has a residual layer as well; without a model.

    Raises
    ------
    SpecError
        If base layers shall be empty that the stream lacks, or that are all it has.

    Examples
    --------
    >>> import numpy as np
    >>> from edge_codec.spec import CineInfo, StreamSpec
    >>> info = CineInfo(1, 1, rows=4, columns=5, dtype=np.dtype(np.int16))
    >>> spec = StreamSpec(info, low=0, high=99)
    >>> frame = np.arange(20, dtype=np.int16).reshape(4, 5)
    >>> packet = Encoder(spec).push(frame)
    >>> bool((Decoder(spec).push(packet) == frame).all())
    True
    """

    def __init__(
        self,
        spec: StreamSpec,
        model: BaseModel | None = None,
        mapper: Mapper = map,
        mark: Mark = no_mark,
        resume: Resume | None = None,
        watch: Watch | None = None,
        *,
        empty_base: bool = False,
    ) -> None:
        if empty_base and (spec.model is ModelId.NONE or spec.max_error is None):
            raise SpecError("only where a residual layer follows can a base layer be empty")
        self.spec = spec
        self._empty_base = empty_base
        self._model = model
        self._map = mapper
        self._mark = mark
        self._watch = watch
        self._order = PhaseOrder(spec)
        self._slices: dict[int, EncoderSlice] = {}
        resume = resume or Resume()
        self._next_phases = _checked(resume.next_phases, spec)
        phases = spec.info.n_phases
        self._finished = {i for i, phase in self._next_phases.items() if phase == phases > 0}
        self._sequence = resume.sequence

    def next_phase(self, slice_index: int = 0) -> int:
        """Return the phase of the frame that a slice codes next.

        Raises
        ------
        FrameError
            If there is no such slice, or it has all its phases.
        """
        self._check_slice(slice_index)
        state = self._slices.get(slice_index)
        turn = self._next_phases.get(slice_index, 0) if state is None else state.turn
        return self._order.phase_at(turn)

    def push(
        self,
        frame: NDArray[Any],
        slice_index: int = 0,
        metadata: bytes = b"",
        *,
        key: bool = False,
        give_up_ns: int | None = None,
        ahead: Sequence[NDArray[Any]] = (),
    ) -> Packet:
        """Code the next frame of a slice.

        Parameters
        ----------
        frame : ndarray, shape (rows, columns), integer
            Stored values within `spec.low..spec.high`.
        slice_index : int
            Slice the frame belongs to.
        metadata : bytes
            The packed source header of this frame, kept beside the voxels.
        key : bool
            Make this a key frame where it need not be one, for a receiver that lost packets; not
            possible in an archive.
        give_up_ns : int, optional
            Instant of `time.monotonic_ns` from which on the residual layer does not try for the
            stream's effort any more: what is not finished by then is coded as `fast` does.
        ahead : sequence of ndarray
            Frames of the slice that follow this one in time, the nearest first, as far as they are
            known and wanted: a base layer may code a key frame that suits them. They are still to
            be pushed. Decoders need not know.

        Returns
        -------
        Packet
            Ready to be written or sent.

        Raises
        ------
        FrameError
            If the frame does not fit the stream, or the slice has all its phases already, or an
            earlier frame of the slice failed halfway, or it cannot be a key frame.
        """
        work = [self._begin(frame, slice_index, key, ahead)]
        self._mark("normalize")
        base = self._encode_bases(work)[0]
        return self._finish(work[0], base, metadata, give_up_ns)

    def push_many(
        self,
        frames: Sequence[tuple[int, NDArray[Any]]],
        metadata: Sequence[bytes] = (),
        *,
        keys: Collection[int] = (),
        give_up_ns: int | None = None,
    ) -> list[Packet]:
        """Code the next frames of several slices: the packets of as many calls of `push`.

        Networks run once for all frames, which a GPU does in hardly more time than for one.

        Parameters
        ----------
        frames : sequence of (int, ndarray)
            Slice index and frame, as `push` takes them; no slice may come twice.
        metadata : sequence of bytes
            The packed source header of each frame, or nothing for all of them.
        keys : collection of int
            Slices whose frame shall be a key frame where it need not be one.
        give_up_ns : int, optional
            For `push`, of all frames.

        Returns
        -------
        list of Packet

        Raises
        ------
        FrameError
            If a slice comes twice or `metadata` is of another length, or as `push` does, for any
            frame; nothing is coded then.
        """
        slices = [slice_index for slice_index, _ in frames]
        if len(set(slices)) != len(slices):
            raise FrameError(f"frames of slices {slices}; code one frame of a slice at a time")
        if metadata and len(metadata) != len(frames):
            raise FrameError(f"{len(metadata)} headers for {len(frames)} frames")
        work = [self._begin(frame, index, index in keys) for index, frame in frames]
        self._mark("normalize")
        headers = metadata or [b""] * len(work)
        bases = self._encode_bases(work)
        return [
            self._finish(job, base, header, give_up_ns)
            for job, base, header in zip(work, bases, headers, strict=True)
        ]

    def restart(self) -> None:
        """Begin another stream of the same description.

        Packets are numbered from 0 again, and the next frame of each slice is its first, a key
        frame: they are what a new encoder would make. Most memory is kept, which a new one would
        have to find in pieces.

        Raises
        ------
        FrameError
            If an earlier frame failed halfway.
        """
        for index, state in self._slices.items():
            if state.failed:
                raise FrameError(f"an earlier frame of slice {index} failed; begin a new stream")
        for index, state in self._slices.items():
            state.restart(self.spec.of_slice(index), self._model, self._map)
        self._next_phases, self._finished, self._sequence = {}, set(), 0

    def _begin(
        self,
        frame: NDArray[Any],
        slice_index: int,
        key: bool,
        ahead: Sequence[NDArray[Any]] = (),
    ) -> _Work:
        """Check a frame and its slice; what fails here harms nothing."""
        state = self._state(slice_index)
        phase = self._order.phase_at(state.turn)
        must = not state.begun or is_key(self.spec, phase)
        if key and self.spec.archive and not must:
            raise FrameError(
                f"phase {phase} of an archive cannot be a key frame; its key interval is "
                f"{self.spec.key_interval}"
            )
        following = [to_samples(other, self.spec) for other in ahead]
        to_samples(frame, self.spec, state.samples)
        return _Work(state, slice_index, phase, key or must, following)

    def _encode_bases(self, work: Sequence[_Work]) -> list[_Base]:
        """Code the base layers of frames of different slices."""
        for job in work:
            job.state.failed = True  # until the frame is whole: its coders may stop in between
        coders = [job.state.base for job in work if job.state.base is not None]
        if not coders or self._model is None:
            return [(None, None)] * len(work)
        coded = self._model.encode_frames(
            coders,
            [job.state.samples for job in work],
            [job.phase_index for job in work],
            [job.key for job in work],
            [job.ahead for job in work],
        )
        self._mark("infer")
        return list(coded)

    def _finish(self, work: _Work, coded: _Base, metadata: bytes, give_up_ns: int | None) -> Packet:
        """Code a frame's residual and make its packet."""
        state, (payload, base) = work.state, coded
        layers: dict[LayerId, bytes] = {}
        if payload is not None and base is not None:
            layers[LayerId.BASE] = self._checked(base) + payload
            if self._watch is not None:
                self._watch(state.samples, base)
        elif self._empty_base:
            layers[LayerId.BASE] = b""
        if state.residual is not None:
            payload, decoded = state.encode_residual(base, work.key, self.spec, give_up_ns)
            layers[LayerId.RESIDUAL] = RESIDUAL_CHECK.pack(frame_check(decoded)) + payload
            self._mark("code")
        if metadata:
            layers[LayerId.METADATA] = metadata
        packet = Packet(self._sequence, work.slice_index, work.phase_index, work.key, layers)
        state.failed = False
        state.begun = True
        state.turn += 1
        self._sequence += 1
        if state.turn == self.spec.info.n_phases:
            self._finished.add(work.slice_index)
            del self._slices[work.slice_index]
        return packet

    def _checked(self, base: NDArray[np.uint32]) -> bytes:
        """Return the check of a base frame, or nothing where the model's frames have none."""
        form = base_check(self.spec.model)
        return form.pack(frame_check(base) & 0xFFFF) if form.size else b""

    def _check_slice(self, slice_index: int) -> None:
        if not 0 <= slice_index < self.spec.info.n_slices:
            raise FrameError(f"slice {slice_index} of a stream of {self.spec.info.n_slices} slices")
        if slice_index in self._finished:
            raise FrameError(f"slice {slice_index} has all its phases already")

    def _state(self, slice_index: int) -> EncoderSlice:
        self._check_slice(slice_index)
        if slice_index not in self._slices:
            check_open(len(self._slices), self.spec, SpecError)
            self._slices[slice_index] = EncoderSlice(
                self.spec.of_slice(slice_index),
                self._model,
                self._map,
                self._next_phases.get(slice_index, 0),
                has_base=not self._empty_base,
            )
        if self._slices[slice_index].failed:
            raise FrameError(f"an earlier frame of slice {slice_index} failed; begin a new stream")
        return self._slices[slice_index]


def _checked(next_phases: Mapping[int, int], spec: StreamSpec) -> Mapping[int, int]:
    """Return where slices go on; in an archive that can only be where a group begins."""
    for slice_index, phase in next_phases.items():
        if spec.archive and not is_key(spec, phase) and phase != spec.info.n_phases:
            raise SpecError(
                f"slice {slice_index} of an archive cannot go on at phase {phase}: its groups "
                f"begin at multiples of {spec.key_interval}; write the archive anew"
            )
    return next_phases
