"""Packet -> frame: what the encoder does, from right to left."""

from __future__ import annotations

import struct
from typing import Any

from numpy.typing import NDArray

from edge_codec.base.layer import BaseModel
from edge_codec.bitstream.packet import LayerId, Packet
from edge_codec.bitstream.phases import PhaseOrder
from edge_codec.codec.samples import (
    RESIDUAL_CHECK,
    base_check,
    base_coder,
    bounded_region,
    check_open,
    frame_check,
    from_samples,
    is_key,
)
from edge_codec.engine import Mapper
from edge_codec.errors import BitstreamError, EngineError, SpecError
from edge_codec.residual import ResidualDecoder
from edge_codec.spec import ModelId, StreamSpec


class _DecoderSlice:
    """Decoding state of one group of a slice; `spec` is of that slice."""

    def __init__(
        self,
        spec: StreamSpec,
        model: BaseModel | None,
        mapper: Mapper,
        *,
        preview: bool,
        has_base: bool,
    ) -> None:
        self.base = base_coder(spec, model, mapper) if has_base else None
        self.residual: ResidualDecoder | None = None
        if spec.max_error is not None and not (preview and has_base):
            span, with_base = spec.high - spec.low, self.base is not None
            rows, columns = spec.info.frame_shape
            self.residual = ResidualDecoder(
                rows,
                columns,
                span,
                spec.max_error,
                with_base,
                mapper,
                spec.effort,
                bounded_region(spec),
            )
        self.due: int | None = None  # turn of the next frame


class Decoder:
    """Turns packets back into frames.

    Parameters
    ----------
    spec : StreamSpec
        From the stream's header.
    model : BaseModel, optional
        Loaded model, where `spec.model` is not `NONE`.
    preview : bool
        Decode the base layer only, and the residual layer of groups that have no base layer.
    mapper : callable
        As for `Encoder`.
    """

    def __init__(
        self,
        spec: StreamSpec,
        model: BaseModel | None = None,
        preview: bool = False,
        mapper: Mapper = map,
    ) -> None:
        if preview and spec.model is ModelId.NONE:
            raise SpecError("the stream has no base layer to preview; decode it whole")
        self.spec = spec
        self._model = model
        self._preview = preview
        self._map = mapper
        self._order = PhaseOrder(spec)
        self._slices: dict[int, _DecoderSlice] = {}

    def push(self, packet: Packet) -> NDArray[Any]:
        """Decode one packet.

        Packets of one slice must come in the order in which they were coded: that of their phases,
        but in an archive; decoding may begin or begin again at any key frame.

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
        state, turn = self._state(packet)
        base = None
        if state.base is not None:
            form = base_check(self.spec.model)
            check, payload = _split(packet, LayerId.BASE, form)
            base = state.base.decode(payload, packet.phase_index, packet.key)
            if form.size:
                _compare(frame_check(base) & 0xFFFF, check, packet, LayerId.BASE)
        decoded = base
        if state.residual is not None:
            check, payload = _split(packet, LayerId.RESIDUAL, RESIDUAL_CHECK)
            decoded = state.residual.decode(payload, base, packet.key)
            _compare(frame_check(decoded), check, packet, LayerId.RESIDUAL)
        if decoded is None:
            raise BitstreamError("the stream has neither a base nor a residual layer")
        state.due = turn + 1
        if state.due == self.spec.info.n_phases:
            del self._slices[packet.slice_index]
        return from_samples(decoded, self.spec)

    def _state(self, packet: Packet) -> tuple[_DecoderSlice, int]:
        """Return the slice's state and the frame's turn; refuse what does not continue it."""
        self._check_place(packet)
        state, phase = self._slices.get(packet.slice_index), packet.phase_index
        if packet.key:
            self._slices.pop(packet.slice_index, None)
            check_open(len(self._slices), self.spec, BitstreamError)
            state = _DecoderSlice(
                self.spec.of_slice(packet.slice_index),
                self._model,
                self._map,
                preview=self._preview,
                has_base=self._has_base(packet),
            )
            self._slices[packet.slice_index] = state
            state.due = phase  # a group begins with its first phase, in an archive too
        if state is None or state.due is None or self._order.phase_at(state.due) != phase:
            self._slices.pop(packet.slice_index, None)
            raise BitstreamError(
                f"slice {packet.slice_index} phase {phase}: the packet before it is "
                "missing; decoding can begin again at the next key frame"
            )
        if self._has_base(packet) != (state.base is not None):
            self._slices.pop(packet.slice_index)
            raise BitstreamError(
                f"packet {packet.sequence}: all base layers of a group are empty, or none; this "
                "one is not as that of its key frame"
            )
        turn, state.due = state.due, None  # until this packet is decoded, nothing can follow it
        return state, turn

    def _has_base(self, packet: Packet) -> bool:
        """Whether a frame has a base layer; beside a residual layer, an empty one is none."""
        if self.spec.model is ModelId.NONE:
            return False
        return self.spec.max_error is None or packet.layers.get(LayerId.BASE) != b""

    def _check_place(self, packet: Packet) -> None:
        """Refuse a packet that has no place in the stream."""
        phase = packet.phase_index
        if packet.slice_index >= self.spec.info.n_slices:
            raise BitstreamError(f"packet for slice {packet.slice_index} is outside the stream")
        if 0 < self.spec.info.n_phases <= phase:
            raise BitstreamError(f"packet for phase {phase} is outside the stream")
        if not packet.key and is_key(self.spec, phase):
            raise BitstreamError(f"phase {phase} must be a key frame and is none")
        if packet.key and self.spec.archive and not is_key(self.spec, phase):
            raise BitstreamError(
                f"phase {phase} is a key frame within a group of {self.spec.key_interval}; in an "
                "archive a group has one, its first"
            )


def _split(packet: Packet, layer: LayerId, check: struct.Struct) -> tuple[int, bytes]:
    """Return a layer's check, 0 where it has none, and coded payload."""
    payload = packet.layers.get(layer)
    if payload is None or len(payload) < check.size:
        raise BitstreamError(f"packet {packet.sequence} lacks its {layer.name.lower()} layer")
    found = check.unpack_from(payload)[0] if check.size else 0
    return found, payload[check.size :]


def _compare(found: int, check: int, packet: Packet, layer: LayerId) -> None:
    if found != check:
        raise EngineError(
            f"packet {packet.sequence}, {layer.name.lower()} layer: the decoded frame is not the "
            "one that was encoded; run `edge-codec doctor`, and try `--backend onnxruntime`"
        )
