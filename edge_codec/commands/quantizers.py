"""How coarsely the frames of a `dwt-cal` base layer are quantized, told without decoding them."""

from __future__ import annotations

from typing import Any

from edge_codec.bitstream.packet import LayerId, Packet
from edge_codec.codec import BASE_CHECK
from edge_codec.spec import ModelId, StreamSpec


class Quantizers:
    """Gathers the quantizer index of each frame: the first byte of its payload.

    Parameters
    ----------
    spec : StreamSpec
        The stream.
    """

    def __init__(self, spec: StreamSpec) -> None:
        self._has = spec.model is ModelId.DWT_CAL
        self._seen: set[int] = set()

    def add(self, packet: Packet) -> None:
        """Look at a packet."""
        payload = packet.layers.get(LayerId.BASE, b"")[BASE_CHECK.size :]
        if self._has and payload:
            self._seen.add(payload[0])

    def fields(self) -> dict[str, Any]:
        """Return what `edge-codec info` shows: nothing for other models."""
        return {"quantizer_range": [min(self._seen), max(self._seen)]} if self._seen else {}
