"""The order of packets: what makes a frame decodable, one rule for writer and reader.

Packets are numbered without gaps. A frame whose phase index is a multiple of the key interval is a
key frame, and any other may be one. The phases of a slice are 0, 1, 2 without gaps; slices may be
interleaved in any way. After damage a slice goes on at its next key frame.
"""

from __future__ import annotations

from edge_codec.bitstream.packet import LayerId, Packet, PacketHead
from edge_codec.spec import MAX_PHASES, ModelId, StreamSpec

_OPTIONAL = {LayerId.METADATA, LayerId.LIVE}


class PacketOrder:
    """Follows a stream packet by packet and says what is wrong with the next one.

    Parameters
    ----------
    spec : StreamSpec
        Description of the stream.
    """

    def __init__(self, spec: StreamSpec) -> None:
        self._n_slices = spec.info.n_slices
        self._n_phases = spec.info.n_phases or MAX_PHASES
        self._key_interval = spec.key_interval
        due = set()
        if spec.model is not ModelId.NONE:
            due.add(LayerId.BASE)
        if spec.max_error is not None:
            due.add(LayerId.RESIDUAL)
        self._layers_due = due
        self._next_sequence = 0
        self._last_phase: dict[int, int] = {}

    @property
    def next_sequence(self) -> int:
        """Sequence number that the next packet must have."""
        return self._next_sequence

    @property
    def next_phases(self) -> dict[int, int]:
        """Phase that is due next in each slice that has begun."""
        return {slice_index: last + 1 for slice_index, last in self._last_phase.items()}

    def misfit(self, packet: Packet | PacketHead) -> str | None:
        """Say what in a packet contradicts the stream's header, if anything.

        Parameters
        ----------
        packet : Packet or PacketHead
            A frame packet.

        Returns
        -------
        str or None
            What is wrong, None if nothing.
        """
        if packet.slice_index >= self._n_slices:
            return f"slice {packet.slice_index}, but the header says {self._n_slices} slices"
        if packet.phase_index >= self._n_phases:
            return f"phase {packet.phase_index}, but the header says {self._n_phases} phases"
        if not packet.key and packet.phase_index % self._key_interval == 0:
            return (
                f"phase {packet.phase_index} is no key frame, but must be one: the key interval is "
                f"{self._key_interval}"
            )
        if packet.phase_index > packet.sequence:
            return f"phase {packet.phase_index} after only {packet.sequence} packets"
        if isinstance(packet, Packet):
            layers = set(packet.layers)
        else:
            layers = {LayerId(layer) for layer, _, _ in packet.layers}
        if layers - _OPTIONAL != self._layers_due:
            return (
                f"layers {sorted(int(i) for i in layers)}, but the header demands "
                f"{sorted(int(i) for i in self._layers_due)}; only 2 and 5 may be there or not"
            )
        return None

    def break_of_chain(self, packet: Packet | PacketHead) -> str | None:
        """Say why a packet cannot be decoded after those before it, if so.

        Parameters
        ----------
        packet : Packet or PacketHead
            A frame packet that fits the header.

        Returns
        -------
        str or None
            What is wrong, None if nothing.
        """
        last = self._last_phase.get(packet.slice_index)
        phase = packet.phase_index
        if last is not None and phase <= last:
            return f"phase {phase} of slice {packet.slice_index} follows its phase {last}"
        if not packet.key and last != phase - 1:
            return (
                f"phase {phase} of slice {packet.slice_index} cannot be decoded: phase {phase - 1} "
                "before it is lost"
            )
        return None

    def gap_before(self, packet: Packet | PacketHead) -> str | None:
        """Say which phases of its slice are missing before a decodable packet, if any.

        Parameters
        ----------
        packet : Packet or PacketHead
            A frame packet that is decodable.

        Returns
        -------
        str or None
            What is missing, None if nothing.
        """
        first = self._last_phase.get(packet.slice_index, -1) + 1
        if packet.phase_index == first:
            return None
        return (
            f"phases {first} to {packet.phase_index - 1} of slice {packet.slice_index} are missing"
        )

    def pass_by(self, packet: Packet | PacketHead) -> None:
        """Count a packet that was seen, decodable or not."""
        self._next_sequence = packet.sequence + 1

    def accept(self, packet: Packet | PacketHead) -> None:
        """Count a packet that was seen whole and is decodable."""
        self._next_sequence = packet.sequence + 1
        self._last_phase[packet.slice_index] = packet.phase_index
