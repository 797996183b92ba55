"""One slice of the `dwt-cal` base layer: samples to payloads and back, frame after frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_codec.base.hybrid.depth import DepthMap
from edge_codec.base.hybrid.native import native
from edge_codec.base.hybrid.quantizer import FILTERED_OFFSET, quantizer_at
from edge_codec.base.hybrid.rate_control import RateControl
from edge_codec.base.hybrid.structure import FramePlan, GroupPlace, group_place
from edge_codec.bitstream.phases import PhaseOrder
from edge_codec.engine import Mapper
from edge_codec.errors import BitstreamError, EdgeCodecError, FrameError
from edge_codec.spec import Effort, StreamSpec

MOST_AHEAD = 16  # frames that the temporal filter takes; the nearest come first
WORKERS = 4  # parts of a frame that may be in work at a time


class HybridCoder:
    """Codes or decodes the base layer of one slice, with the kept frames that others come from.

    Parameters
    ----------
    spec : StreamSpec
        Gives frame size, range of the samples, order of the phases and the region, of one slice
        alone (`StreamSpec.of_slice`).
    control : RateControl
        Chooses the quantizer of each frame.
    effort : Effort
        How long to look for a small coding of a frame.
    mapper : callable
        How to go over the parts of a frame.
    """

    def __init__(
        self,
        spec: StreamSpec,
        control: RateControl,
        effort: Effort = Effort.DEFAULT,
        mapper: Mapper = map,
    ) -> None:
        rows, columns = spec.info.frame_shape
        self._spec = spec
        self._control = control
        self._effort = effort
        self._map = mapper
        self._order = PhaseOrder(spec)
        self._depth = DepthMap(spec.high - spec.low)
        self._region = spec.region if spec.region and spec.region.quality_gain else None
        self._native = self._new_coder()
        self._internal = np.empty((rows, columns), np.int16)
        self._base = np.empty((rows, columns), np.uint32)
        self._turn: int | None = None  # of the frame before; None where none can be followed
        self._key_turn = 0

    @property
    def control(self) -> RateControl:
        """What chose the quantizers, and what it knows of the bits that were spent."""
        return self._control

    def encode(
        self,
        samples: NDArray[np.uint32],
        phase: int,
        key: bool,
        ahead: Sequence[NDArray[np.uint32]] = (),
    ) -> tuple[bytes, NDArray[np.uint32]]:
        """See `edge_codec.base.layer.BaseCoder.encode`.

        A key frame is coded as what remains of it, and of those ahead, when noise is averaged out:
        most frames of its group are predicted from it, each with noise of its own. It is worth a
        finer quantizer than a frame with noise; what controls the rate reckons without that.

        Raises
        ------
        FrameError
            If the frame has another shape than the stream, or is not the next one of its slice.
        """
        if samples.shape != self._internal.shape:
            raise FrameError(
                f"frame is {samples.shape}, the stream holds {self._internal.shape}; crop or pad it"
            )
        place = self._begin(phase, key, FrameError)
        plan = place.plan
        self._depth.narrow(samples, self._internal)
        others = self._narrow(ahead[:MOST_AHEAD]) if key else []
        quantizer = self._control.choose(plan.layer, place.layers_ahead)
        payload = self._encode(quantizer, plan, others)
        # Only a key frame can be coded again: for others, contexts have learned from the frame.
        while key and (other := self._control.again(quantizer, 8 * len(payload))) is not None:
            quantizer = other
            payload = self._encode(quantizer, plan, others)
        self._control.spend(plan.layer, quantizer, 8 * len(payload))
        return payload, self._finish(phase, plan)

    def _narrow(self, frames: Sequence[NDArray[np.uint32]]) -> list[NDArray[np.int16]]:
        """Return frames in internal values."""
        narrow = [np.empty_like(self._internal) for _ in frames]
        for samples, out in zip(frames, narrow, strict=True):
            self._depth.narrow(samples, out)
        return narrow

    def _new_coder(self) -> native.Coder:
        rows, columns = self._spec.info.frame_shape
        if self._region is None:
            return native.Coder(rows, columns)
        return native.Coder(rows, columns, self._region.squares, self._region.quality_gain)

    def _filter(self, quantizer: int, others: Sequence[NDArray[np.int16]]) -> NDArray[np.int16]:
        """Return the frame in `_internal` filtered over time, as strongly as a quantizer asks for.

        Inside of a region, that is its own.
        """
        frame = np.empty_like(self._internal)
        native.filter_over_time(self._internal, others, quantizer, frame)
        if self._region is None:
            return frame
        inner = np.empty_like(frame)
        finer = quantizer_at(quantizer, -self._region.quality_gain)
        native.filter_over_time(self._internal, others, finer, inner)
        rows, columns = frame.shape
        np.copyto(frame, inner, where=self._region.mask(1, rows, columns)[0])
        return frame

    def _encode(
        self, quantizer: int, plan: FramePlan, others: Sequence[NDArray[np.int16]]
    ) -> bytes:
        """Code the frame in `_internal`, filtered over time with those others that there are."""
        frame = self._internal
        if others:
            quantizer = quantizer_at(quantizer, FILTERED_OFFSET)
            frame = self._filter(quantizer, others)
        try:
            payload: bytes = self._native.encode(
                frame,
                quantizer,
                plan.layer == 0,
                plan.references,
                plan.slot,
                int(self._effort),
                plan.layer,
                self._map,
                WORKERS,
            )
        except BaseException:  # a thread of the mapper may come late: to a coder that is at rest
            self._native = self._new_coder()
            raise
        return payload

    def decode(self, payload: bytes, phase: int, key: bool) -> NDArray[np.uint32]:
        """See `edge_codec.base.layer.BaseCoder.decode`."""
        plan = self._begin(phase, key, BitstreamError).plan
        self._native.decode(payload, key, plan.references, plan.slot)
        return self._finish(phase, plan)

    def _begin(self, phase: int, key: bool, error: type[EdgeCodecError]) -> GroupPlace:
        """Return the frame's place in its group, and refuse one that does not continue it.

        Nothing can follow until it is finished: what fails halfway leaves contexts behind that no
        other coder has.
        """
        turn, before = self._order.turn_of(phase), self._turn
        must_be_key = phase % self._spec.key_interval == 0
        if key != must_be_key and (must_be_key or self._spec.archive):
            kind = "a" if key else "no"
            raise error(
                f"phase {phase} as {kind} key frame; key frames of this stream are the multiples "
                f"of {self._spec.key_interval}"
            )
        if not key and before is None:
            raise error(f"phase {phase} came before any key frame of its slice; begin with one")
        if not key and turn - 1 != before:
            raise error(
                f"phase {phase} does not follow the frame before it in the order of coding; go on "
                f"with the frame that does, or begin again at a key frame"
            )
        self._turn = None
        if key:
            self._key_turn = turn
        return group_place(self._spec, turn, self._key_turn)

    def _finish(self, phase: int, plan: FramePlan) -> NDArray[np.uint32]:
        """Return the frame that was made, in memory that the next one takes again."""
        self._native.frame(plan.slot, self._internal)
        self._depth.widen(self._internal, self._base)
        self._turn = self._order.turn_of(phase)
        return self._base
