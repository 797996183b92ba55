"""Packet -> frame: what the encoder does, from right to left."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.base.vqvae import VqvaeModel
from edge_codec.bitstream.packet import LayerId, Packet
from edge_codec.codec.samples import (
    CHECK,
    base_coder,
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
    """Decoding state of one slice."""

    def __init__(
        self, spec: StreamSpec, model: VqvaeModel | None, mapper: Mapper, preview: bool
    ) -> None:
        self.base = base_coder(spec, model, mapper)
        self.residual: ResidualDecoder | None = None
        if spec.max_error is not None and not preview:
            span, with_base = spec.high - spec.low, self.base is not None
            rows, columns = spec.info.frame_shape
            self.residual = ResidualDecoder(
                rows, columns, span, spec.max_error, with_base, mapper, spec.effort
            )
        self.next_phase: int | None = None


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
            check_open(len(self._slices), self.spec, BitstreamError)
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
