"""The order of packets: what makes a frame decodable, one rule for writer and reader.

Packets are numbered without gaps. A frame whose phase index is a multiple of the key interval is a
key frame, and any other may be one, but not in an archive. The phases of a slice come one after
another in the order of coding (`phases.PhaseOrder`); slices may be interleaved in any way. After
damage a slice goes on at its next key frame.
"""

from __future__ import annotations

from edge_codec.bitstream.packet import LayerId, Packet, PacketHead
from edge_codec.bitstream.phases import PhaseOrder
from edge_codec.bitstream.short_packet import Place
from edge_codec.spec import MAX_PHASES, ModelId, StreamSpec

_OPTIONAL = {LayerId.METADATA, LayerId.LIVE}


def layers_due(spec: StreamSpec) -> tuple[LayerId, ...]:
    """Return the layers that every packet of a stream has."""
    base = () if spec.model is ModelId.NONE else (LayerId.BASE,)
    return base if spec.max_error is None else (*base, LayerId.RESIDUAL)


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
        self._archive = spec.archive
        self._phases = PhaseOrder(spec)
        self._layers_due = set(layers_due(spec))
        self._next_sequence = 0
        self._last: Place | None = None  # the packet before, decodable or not
        self._seen: dict[int, int] = {}  # turn of the latest packet of each slice
        self._decodable: dict[int, int] = {}  # and of the latest that could be decoded

    @property
    def next_sequence(self) -> int:
        """Sequence number that the next packet must have."""
        return self._next_sequence

    @property
    def next_phases(self) -> dict[int, int]:
        """Phase that is due next in each slice that has begun."""
        last = self._decodable.items()
        return {slice_index: self._phases.phase_at(turn + 1) for slice_index, turn in last}

    def follow(self, next_slice: bool, last: Place | None = None) -> Place | None:
        """Return the place of a packet that does not say it: the short form in a file.

        It is the next frame, in the order of coding, of the slice of the packet before, or of the
        slice after that; the first slice comes after the last one.

        Parameters
        ----------
        next_slice : bool
            Whether it is the slice after that of the packet before.
        last : Place, optional
            The packet before, where that is not the one that was counted last but one after it.

        Returns
        -------
        Place or None
            None where no packet is before it, or its slice has all phases.
        """
        before = last or self._last
        if before is None:
            return None
        slice_index = (before.slice_index + next_slice) % self._n_slices
        turn = self._seen.get(slice_index, -1) + 1
        if last is not None and last.slice_index == slice_index:
            turn = self._phases.turn_of(last.phase_index) + 1
        if turn >= self._n_phases:
            return None
        return Place(before.sequence + 1, slice_index, self._phases.phase_at(turn))

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
        if packet.key and self._archive and packet.phase_index % self._key_interval:
            return (
                f"phase {packet.phase_index} is a key frame; in an archive only multiples of the "
                f"key interval {self._key_interval} are"
            )
        if self._phases.turn_of(packet.phase_index) > packet.sequence:
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
        last = self._decodable.get(packet.slice_index)
        turn = self._phases.turn_of(packet.phase_index)
        if last is not None and turn <= last:
            return (
                f"phase {packet.phase_index} of slice {packet.slice_index} follows its phase "
                f"{self._phases.phase_at(last)}"
            )
        if not packet.key and last != turn - 1:
            return (
                f"phase {packet.phase_index} of slice {packet.slice_index} cannot be decoded: "
                f"phase {self._phases.phase_at(turn - 1)} before it is lost"
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
        first = self._decodable.get(packet.slice_index, -1) + 1
        turn = self._phases.turn_of(packet.phase_index)
        if turn == first:
            return None
        if self._archive:
            return f"{turn - first} frames of slice {packet.slice_index} before it are missing"
        return f"phases {first} to {turn - 1} of slice {packet.slice_index} are missing"

    def assume(self, place: Packet | PacketHead | Place) -> None:
        """Take it that a packet stood at the place before the next one, whole or not."""
        self._last = Place(place.sequence, place.slice_index, place.phase_index)
        if place.slice_index < self._n_slices:  # hostile slices fill no memory
            self._seen[place.slice_index] = self._phases.turn_of(place.phase_index)

    def pass_by(self, packet: Packet | PacketHead) -> None:
        """Count a packet that was seen, decodable or not."""
        self.assume(packet)
        self._next_sequence = packet.sequence + 1

    def accept(self, packet: Packet | PacketHead) -> None:
        """Count a packet that was seen whole and is decodable."""
        self.pass_by(packet)
        self._decodable[packet.slice_index] = self._seen[packet.slice_index]
