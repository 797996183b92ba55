"""Whether a group of a file keeps its base layer: only where that costs little.

In a lossless stream, or one with a bound, a base layer is the price of a preview: what it tells of
a frame, the residual layer finds out by itself from the frames before, nearly as well. Where the
model is out of its depth it costs more, and how much is known only when the group is coded (the key
frame does not tell): so each group is coded with a base layer and without
(docs/decisions/0015-base-cost.md).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from edge_codec.base.layer import BaseModel
from edge_codec.bitstream.packet import LayerId, Packet
from edge_codec.codec import Encoder, Watch
from edge_codec.engine import Mapper
from edge_codec.errors import FrameError
from edge_codec.runtime.coding_order import FrameAhead
from edge_codec.spec import StreamSpec


@dataclass(slots=True)
class _Group:
    """What is held back of a group: its packets with a base layer, and those without."""

    kept: list[Packet] = field(default_factory=list)
    bare: list[Packet] = field(default_factory=list)


class FileEncoder:
    """Codes the frames of a file; where base layers have a price, gives each group as it is worth.

    Then every frame is coded twice, and held back are the packets of one group of each slice in
    work.

    Parameters
    ----------
    spec : StreamSpec
        The stream, its number of phases known.
    model : BaseModel or None
        Loaded model of the base layer.
    mapper : callable
        As for `Encoder`.
    base_cost_percent : float, optional
        What a group may cost more with its base layer than without it; None: whatever it does.
    watch : callable, optional
        As for `Encoder`.

    Attributes
    ----------
    groups_without_base : int
        How many of the groups so far have no base layer.
    """

    def __init__(
        self,
        spec: StreamSpec,
        model: BaseModel | None,
        mapper: Mapper,
        base_cost_percent: float | None = None,
        watch: Watch | None = None,
    ) -> None:
        self.groups_without_base = 0
        self._spec = spec
        self._encoder = Encoder(spec, model, mapper, watch=watch)
        self._bare: Encoder | None = None
        if base_cost_percent is not None:
            self._bare = Encoder(spec, None, mapper, empty_base=True)
            self._factor = 1 + base_cost_percent / 100
        self._groups: dict[int, _Group] = {}
        self._turns: dict[int, int] = {}
        self._sequence = 0

    def push(self, frame: FrameAhead, metadata: bytes = b"") -> list[Packet]:
        """Code the next frame of a slice.

        Parameters
        ----------
        frame : FrameAhead
            The frame and its place.
        metadata : bytes
            The packed source header of this frame.

        Returns
        -------
        list of Packet
            What can be written: the frame, or its group where it is the last of it, or nothing.

        Raises
        ------
        FrameError
            If it is not the next frame of its slice, or as `Encoder.push` does.
        """
        index = frame.slice_index
        due = self._encoder.next_phase(index)
        if frame.phase_index != due:
            raise FrameError(f"source gave phase {frame.phase_index} for {due}")
        packet = self._encoder.push(frame.samples, index, metadata, ahead=frame.ahead)
        if self._bare is None:
            return [packet]
        group = self._groups.setdefault(index, _Group())
        group.kept.append(packet)
        group.bare.append(self._bare.push(frame.samples, index, metadata))
        self._turns[index] = turn = self._turns.get(index, 0) + 1
        if turn % self._spec.key_interval and turn != self._spec.info.n_phases:
            return []
        return self._numbered(self._cheaper(self._groups.pop(index)))

    def _cheaper(self, group: _Group) -> list[Packet]:
        if _size(group.kept) <= self._factor * _size(group.bare):
            return group.kept
        self.groups_without_base += 1
        return group.bare

    def _numbered(self, packets: list[Packet]) -> list[Packet]:
        first, self._sequence = self._sequence, self._sequence + len(packets)
        return [replace(packet, sequence=first + n) for n, packet in enumerate(packets)]


def _size(packets: list[Packet]) -> int:
    """Return the bytes of what differs: base and residual layers."""
    layers = (LayerId.BASE, LayerId.RESIDUAL)
    return sum(len(packet.layers[layer]) for packet in packets for layer in layers)
