"""Frame <-> packet: the way of one frame through the codec, straight line, no I/O, no threads.

Encoding: samples -> base layer (tokens) -> residual against the base -> packet.
Decoding: the same words from right to left. Each layer's payload starts with the CRC-32 of the
frame it decodes to, so that a machine whose arithmetic differs is found out at the first frame
instead of showing a wrong heart.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.base import _frame
from edge_codec.base.vqvae import VqvaeCoder, VqvaeModel, encode_frames
from edge_codec.bitstream.packet import LayerId, Packet
from edge_codec.engine import Mapper, Mark, no_mark
from edge_codec.errors import (
    BitstreamError,
    EdgeCodecError,
    EngineError,
    FrameError,
    SpecError,
)
from edge_codec.noise import allowed_variance
from edge_codec.residual import ResidualDecoder, ResidualEncoder
from edge_codec.spec import ModelId, StreamSpec

CHECK = struct.Struct("<I")

# Voxels of all slices that are in work at once; each takes up to some 200 bytes of state, and each
# row and column as much as 32 voxels more.
MAX_OPEN_VOXELS = 1 << 24
SIDE_COST = 32


def frame_check(samples: NDArray[np.uint32]) -> int:
    """Return the CRC-32 of a decoded frame's samples as little-endian uint32."""
    data = np.ascontiguousarray(samples, dtype="<u4").data
    return _frame.crc32(data) if _frame.has_clmul() else zlib.crc32(data)


def is_key(spec: StreamSpec, phase_index: int) -> bool:
    """Whether the frame of this phase must be decodable on its own; others may be."""
    return phase_index % spec.key_interval == 0


def to_samples(
    frame: NDArray[Any], spec: StreamSpec, out: NDArray[np.uint32] | None = None
) -> NDArray[np.uint32]:
    """Check a frame against its stream and return its samples, uint32, stored value minus `low`.

    Parameters
    ----------
    frame : ndarray, shape (rows, columns), integer
    spec : StreamSpec
    out : ndarray, shape (rows, columns), uint32, optional
        Takes the samples, in place of new memory.

    Raises
    ------
    FrameError
        If shape or dtype do not fit, or a voxel lies outside `spec.low..spec.high`.
    """
    if frame.shape != spec.info.frame_shape:
        raise FrameError(f"frame is {frame.shape}, the stream holds {spec.info.frame_shape}")
    if frame.dtype.kind not in "iu":
        raise FrameError(f"frame is {frame.dtype}; push the stored integers")
    low, high = int(frame.min()), int(frame.max())
    if low < spec.low or high > spec.high:
        raise FrameError(
            f"frame has voxels {low}..{high}, the stream was opened for {spec.low}..{spec.high}; "
            "open it with wider bounds"
        )
    # Arithmetic modulo 2**32 is exact, since the difference is known to fit.
    offset = np.uint32(spec.low & 0xFFFFFFFF)
    samples: NDArray[np.uint32] = np.subtract(
        frame, offset, out=out, dtype=np.uint32, casting="unsafe"
    )
    return samples


def from_samples(samples: NDArray[np.uint32], spec: StreamSpec) -> NDArray[Any]:
    """Return the stored integers of decoded samples: the inverse of `to_samples`."""
    coded = coded_dtype(spec)
    if coded.itemsize <= 4:
        # Modulo 2**32, and the cast takes the low bits: exact, since the value is known to fit.
        return (samples + np.uint32(spec.low & 0xFFFFFFFF)).astype(coded)
    wide = samples.astype(np.uint64) + np.uint64(spec.low & 0xFFFFFFFFFFFFFFFF)
    return wide.view(coded)


def coded_dtype(spec: StreamSpec) -> np.dtype[Any]:
    """Integer dtype of the frames that go in and come out: the source's, int32 for floats."""
    return spec.info.dtype if spec.info.dtype.kind in "iu" else np.dtype(np.int32)


def _base_coder(spec: StreamSpec, model: VqvaeModel | None, mapper: Mapper) -> VqvaeCoder | None:
    if spec.model is ModelId.NONE:
        return None
    if model is None:
        raise SpecError(f"the stream needs model '{spec.model.name.lower()}'; pass it loaded")
    return VqvaeCoder(model, spec, mapper)


class _EncoderSlice:
    """Encoding state of one slice."""

    def __init__(
        self, spec: StreamSpec, model: VqvaeModel | None, mapper: Mapper, next_phase: int
    ) -> None:
        self.base = _base_coder(spec, model, mapper)
        self.residual: ResidualEncoder | None = None
        if spec.max_error is not None:
            span, with_base = spec.high - spec.low, self.base is not None
            rows, columns = spec.info.frame_shape
            self.residual = ResidualEncoder(
                rows, columns, span, spec.max_error, with_base, mapper, spec.effort
            )
        self.next_phase = next_phase
        self.begun = False
        self.failed = False
        # Memory that every frame of the slice takes again: new memory costs a fault for each page.
        self.samples = np.empty(spec.info.frame_shape, np.uint32)
        self.decoded: NDArray[np.uint32] | None = None
        if self.residual is not None:
            self.decoded = np.empty(spec.info.frame_shape, np.uint32)


class _DecoderSlice:
    """Decoding state of one slice."""

    def __init__(
        self, spec: StreamSpec, model: VqvaeModel | None, mapper: Mapper, preview: bool
    ) -> None:
        self.base = _base_coder(spec, model, mapper)
        self.residual: ResidualDecoder | None = None
        if spec.max_error is not None and not preview:
            span, with_base = spec.high - spec.low, self.base is not None
            rows, columns = spec.info.frame_shape
            self.residual = ResidualDecoder(
                rows, columns, span, spec.max_error, with_base, mapper, spec.effort
            )
        self.next_phase: int | None = None


@dataclass(frozen=True, slots=True)
class Resume:
    """Where an encoder goes on with a stream that another one began.

    Attributes
    ----------
    sequence : int
        Number of the next packet.
    next_phases : mapping of int to int
        Phase that the next frame of each slice gets; 0 for a slice that is not there.
    """

    sequence: int = 0
    next_phases: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Work:
    """A frame in work: its samples are in its slice's state."""

    state: _EncoderSlice
    slice_index: int
    key: bool


_Base = tuple[bytes | None, NDArray[np.uint32] | None]
"""A base layer's payload and the frame it decodes to; None in a stream without."""


class Encoder:
    """Turns the frames of a stream into packets.

    Frames of one slice are pushed in the order of their phases; slices may be interleaved in any
    way. The encoder counts phases itself.

    Parameters
    ----------
    spec : StreamSpec
        What the stream holds.
    model : VqvaeModel, optional
        Loaded model, where `spec.model` is not `NONE`.
    mapper : callable
        How to go over the bands of a frame: `map`, or an executor's for several threads; the bits
        are the same.
    mark : callable
        Called with the name of each step of a frame as it ends.
    resume : Resume, optional
        Where a stream goes on that was cut off: its next frames become key frames.

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
        model: VqvaeModel | None = None,
        mapper: Mapper = map,
        mark: Mark = no_mark,
        resume: Resume | None = None,
    ) -> None:
        self.spec = spec
        self._model = model
        self._map = mapper
        self._mark = mark
        self._slices: dict[int, _EncoderSlice] = {}
        resume = resume or Resume()
        self._next_phases = resume.next_phases
        phases = spec.info.n_phases
        self._finished = {i for i, phase in self._next_phases.items() if phase == phases > 0}
        self._sequence = resume.sequence

    def push(
        self,
        frame: NDArray[Any],
        slice_index: int = 0,
        metadata: bytes = b"",
        *,
        key: bool = False,
        give_up_ns: int | None = None,
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
            Make this a key frame where it need not be one, for a receiver that lost packets.
        give_up_ns : int, optional
            Instant of `time.monotonic_ns` from which on the residual layer does not try for the
            stream's effort any more: what is not finished by then is coded as `fast` does.

        Returns
        -------
        Packet
            Ready to be written or sent.

        Raises
        ------
        FrameError
            If the frame does not fit the stream, or the slice has all its phases already, or an
            earlier frame of the slice failed halfway.
        """
        work = [self._begin(frame, slice_index, key)]
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

    def _begin(self, frame: NDArray[Any], slice_index: int, key: bool) -> _Work:
        """Check a frame and its slice; what fails here harms nothing."""
        state = self._state(slice_index)
        to_samples(frame, self.spec, state.samples)
        key = key or not state.begun or is_key(self.spec, state.next_phase)
        return _Work(state, slice_index, key)

    def _encode_bases(self, work: Sequence[_Work]) -> list[_Base]:
        """Code the base layers of frames of different slices."""
        for job in work:
            job.state.failed = True  # until the frame is whole: its coders may stop in between
        coders = [job.state.base for job in work if job.state.base is not None]
        if not coders:
            return [(None, None)] * len(work)
        samples, keys = [job.state.samples for job in work], [job.key for job in work]
        coded = encode_frames(coders, samples, keys)
        self._mark("infer")
        return list(coded)

    def _finish(self, work: _Work, coded: _Base, metadata: bytes, give_up_ns: int | None) -> Packet:
        """Code a frame's residual and make its packet."""
        state, (payload, base) = work.state, coded
        layers: dict[LayerId, bytes] = {}
        if payload is not None and base is not None:
            layers[LayerId.BASE] = CHECK.pack(frame_check(base)) + payload
        if state.residual is not None:
            payload, decoded = _encode_residual(state, base, work.key, self.spec, give_up_ns)
            layers[LayerId.RESIDUAL] = CHECK.pack(frame_check(decoded)) + payload
            self._mark("code")
        if metadata:
            layers[LayerId.METADATA] = metadata
        packet = Packet(self._sequence, work.slice_index, state.next_phase, work.key, layers)
        state.failed = False
        state.begun = True
        state.next_phase += 1
        self._sequence += 1
        if state.next_phase == self.spec.info.n_phases:
            self._finished.add(work.slice_index)
            del self._slices[work.slice_index]
        return packet

    def _state(self, slice_index: int) -> _EncoderSlice:
        if not 0 <= slice_index < self.spec.info.n_slices:
            raise FrameError(f"slice {slice_index} of a stream of {self.spec.info.n_slices} slices")
        if slice_index in self._finished:
            raise FrameError(f"slice {slice_index} has all its phases already")
        if slice_index not in self._slices:
            _check_open(len(self._slices), self.spec, SpecError)
            self._slices[slice_index] = _EncoderSlice(
                self.spec, self._model, self._map, self._next_phases.get(slice_index, 0)
            )
        if self._slices[slice_index].failed:
            raise FrameError(f"an earlier frame of slice {slice_index} failed; begin a new stream")
        return self._slices[slice_index]


def _check_open(n_open: int, spec: StreamSpec, error: type[EdgeCodecError]) -> None:
    """Bound the memory of slices that are in work at once."""
    rows, columns = spec.info.frame_shape
    size = (rows + SIDE_COST) * (columns + SIDE_COST)
    if n_open and (n_open + 1) * size > MAX_OPEN_VOXELS:
        raise error(
            f"{n_open + 1} slices of {rows}x{columns} voxels in work at once exceed the limit of "
            f"{MAX_OPEN_VOXELS} voxels; code the slices in streams of their own"
        )


def _encode_residual(
    state: _EncoderSlice,
    base: NDArray[np.uint32] | None,
    key: bool,
    spec: StreamSpec,
    give_up_ns: int | None,
) -> tuple[bytes, NDArray[np.uint32]]:
    """Code a frame with the largest bound that keeps the stream's promises, and prove them.

    That is the stream's bound but for odd frames: the bound was derived for errors that are spread
    evenly, and those of a frame of few values, say, may all be as large as the bound.

    Raises
    ------
    FrameError
        If any voxel is further off than the bound.
    """
    allowed = allowed_variance(spec.noise_sigma, spec.snr_loss_percent)
    promised, bound = spec.snr_loss_percent > 0, spec.max_error or 0
    coder, samples = state.residual, state.samples
    if coder is None:
        raise EngineError("the stream has no residual layer; this is a defect, report it")
    while True:
        payload, decoded = coder.encode(samples, base, key, bound, give_up_ns, state.decoded)
        variance = _variance_within(bound, samples, decoded)
        if variance <= allowed or not promised:
            coder.commit()
            return payload, decoded
        # Errors grow about as their bound does. It does not fall below sqrt(allowed): enough.
        bound = min(bound - 1, int(bound * math.sqrt(allowed / variance)))


def _variance_within(bound: int, samples: NDArray[np.uint32], decoded: NDArray[np.uint32]) -> float:
    """Check each voxel of the frame that a decoder will make; return the mean squared error."""
    if np.array_equal(samples, decoded):
        return 0.0
    error = np.maximum(samples, decoded) - np.minimum(samples, decoded)
    if int(error.max()) > bound:
        raise FrameError(
            f"the coded frame breaks its bound of {bound}; this is a defect, report it"
        )
    return float(np.square(error.astype(np.float64)).mean())


class Decoder:
    """Turns packets back into frames.

    Parameters
    ----------
    spec : StreamSpec
        From the stream's header.
    model : VqvaeModel, optional
        Loaded model, where `spec.model` is not `NONE`.
    preview : bool
        Decode the base layer only.
    mapper : callable
        As for `Encoder`.
    """

    def __init__(
        self,
        spec: StreamSpec,
        model: VqvaeModel | None = None,
        preview: bool = False,
        mapper: Mapper = map,
    ) -> None:
        if preview and spec.model is ModelId.NONE:
            raise SpecError("the stream has no base layer to preview; decode it whole")
        self.spec = spec
        self._model = model
        self._preview = preview
        self._map = mapper
        self._slices: dict[int, _DecoderSlice] = {}

    def push(self, packet: Packet) -> NDArray[Any]:
        """Decode one packet.

        Packets of one slice must come in the order of their phases; decoding may begin or begin
        again at any key frame.

        Returns
        -------
        ndarray, shape (rows, columns), integer
            The stored values, dtype `coded_dtype(spec)`.

        Raises
        ------
        BitstreamError
            If the packet is damaged, lacks a layer, or a packet before it is missing.
        EngineError
            If this machine's arithmetic gives another frame than the encoder's did.
        """
        state = self._state(packet)
        base = None
        if state.base is not None:
            check, payload = _split(packet, LayerId.BASE)
            base = state.base.decode(payload, packet.key)
            _compare(base, check, packet, LayerId.BASE)
        decoded = base
        if state.residual is not None:
            check, payload = _split(packet, LayerId.RESIDUAL)
            decoded = state.residual.decode(payload, base, packet.key)
            _compare(decoded, check, packet, LayerId.RESIDUAL)
        if decoded is None:
            raise BitstreamError("the stream has neither a base nor a residual layer")
        state.next_phase = packet.phase_index + 1
        if state.next_phase == self.spec.info.n_phases:
            del self._slices[packet.slice_index]
        return from_samples(decoded, self.spec)

    def _state(self, packet: Packet) -> _DecoderSlice:
        """Return the slice's state, and refuse a packet that does not continue it."""
        if packet.slice_index >= self.spec.info.n_slices:
            raise BitstreamError(f"packet for slice {packet.slice_index} is outside the stream")
        if 0 < self.spec.info.n_phases <= packet.phase_index:
            raise BitstreamError(f"packet for phase {packet.phase_index} is outside the stream")
        if not packet.key and is_key(self.spec, packet.phase_index):
            raise BitstreamError(f"phase {packet.phase_index} must be a key frame and is none")
        state = self._slices.get(packet.slice_index)
        if packet.key:
            self._slices.pop(packet.slice_index, None)
            _check_open(len(self._slices), self.spec, BitstreamError)
            state = _DecoderSlice(self.spec, self._model, self._map, self._preview)
            self._slices[packet.slice_index] = state
        if state is None or (not packet.key and state.next_phase != packet.phase_index):
            self._slices.pop(packet.slice_index, None)
            raise BitstreamError(
                f"slice {packet.slice_index} phase {packet.phase_index}: the packet before it is "
                "missing; decoding can begin again at the next key frame"
            )
        state.next_phase = None  # until this packet is decoded, nothing can follow it
        return state


def _split(packet: Packet, layer: LayerId) -> tuple[int, bytes]:
    """Return a layer's checksum and coded payload."""
    payload = packet.layers.get(layer)
    if payload is None or len(payload) < CHECK.size:
        raise BitstreamError(f"packet {packet.sequence} lacks its {layer.name.lower()} layer")
    return CHECK.unpack_from(payload)[0], payload[CHECK.size :]


def _compare(frame: NDArray[np.uint32], check: int, packet: Packet, layer: LayerId) -> None:
    if frame_check(frame) != check:
        raise EngineError(
            f"packet {packet.sequence}, {layer.name.lower()} layer: the decoded frame is not the "
            "one that was encoded; run `edge-codec doctor`, and try `--backend onnxruntime`"
        )
