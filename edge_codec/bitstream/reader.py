"""The reading side of the file: packets in order or at random, and what damage leaves of them.

The reader treats everything it reads as hostile: it holds one packet and the index in memory, and
looks at a size only after comparing it with what the file has left.

Recovery is deliberately simple. Where no packet is, the reader goes on at the next whole one
that the index lists; without an index, right behind a damaged short form, or at the next valid full
head (sync bytes and CRC). Where a head is valid but its payload is not, the payload is skipped by
the size in the head. Frames that build on a lost frame are not handed out; the next key frame of
their slice is. Each step costs time in proportion to the bytes passed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from edge_codec.bitstream.index import ENTRY, FOOTER_SIZE, Footer, entry_of, unpack_index
from edge_codec.bitstream.order import PacketOrder
from edge_codec.bitstream.packet import Packet, PacketHead
from edge_codec.bitstream.packet_file import PacketFile, always
from edge_codec.bitstream.phases import PhaseOrder
from edge_codec.bitstream.short_packet import Place
from edge_codec.errors import BitstreamError, FrameError
from edge_codec.spec import StreamSpec

MAX_REPORTS = 1000
REMEDY = "save what is whole with 'edge-codec decompress --recover'"


@dataclass(frozen=True, slots=True)
class DamageReport:
    """One place where a stream is not what it should be.

    Attributes
    ----------
    offset : int
        Byte of the file where the damage was found.
    what : str
        What is wrong there.
    """

    offset: int
    what: str


class StreamReader:
    """Reads the packets of a stream, in order or at random.

    Parameters
    ----------
    file : BinaryIO
        Seekable source; the stream begins at byte 0.
    recover : bool
        Whether to skip damage and note it in `damage` instead of raising.

    Raises
    ------
    BitstreamError
        If the header is damaged; without `recover` also if the end of the file is.
    SourceError
        If the file is not seekable.
    """

    def __init__(self, file: BinaryIO, recover: bool = False) -> None:
        self._file = PacketFile(file)
        self._recover = recover
        self._damage: list[DamageReport] = []
        self._end = self._file.size
        self._phases = PhaseOrder(self._file.spec)
        self._entries = self._read_end()
        self._damage_of_end = tuple(self._damage)
        self._scanned: NDArray[np.void] | None = None
        self._sorted: tuple[NDArray[np.uint64], NDArray[np.intp]] | None = None

    @property
    def spec(self) -> StreamSpec:
        """Description of the stream."""
        return self._file.spec

    @property
    def complete(self) -> bool:
        """Whether index and footer are right, and no damage was found so far."""
        return not self._damage

    @property
    def damage(self) -> tuple[DamageReport, ...]:
        """Damage found on opening and by the latest `packets()`, at most about `MAX_REPORTS`."""
        return tuple(self._damage)

    @property
    def n_phases(self) -> int:
        """Phases that the header states, or that the packets turned out to have."""
        if self.spec.info.n_phases:
            return self.spec.info.n_phases
        entries = self._entries_to_search()
        return int(entries["phase"].max()) + 1 if len(entries) else 0

    @property
    def n_packets(self) -> int:
        """Number of frame packets that can be read."""
        return len(self._entries_to_search())

    def packets(self) -> Iterator[Packet]:
        """Yield the packets in file order; with `recover`, those that are whole and decodable.

        Yields
        ------
        Packet
            The next packet.

        Raises
        ------
        BitstreamError
            On damage, without `recover`.
        """
        for _, _, packet in self._walk():
            yield packet

    def read(self, slice_index: int, phase_index: int) -> Packet:
        """Read the packet of one frame.

        Parameters
        ----------
        slice_index, phase_index : int
            Place of the frame.

        Returns
        -------
        Packet
            Its packet. To decode it, the packets since its key frame are needed: `read_chain`.

        Raises
        ------
        FrameError
            If the stream has no such frame, or (with `recover`) it is not decodable.
        BitstreamError
            If the packet is damaged.
        """
        head, offset = self._head_of(slice_index, phase_index)
        try:
            return Packet.from_payload(head, self._file.payload_of(head, offset))
        except BitstreamError as error:
            raise BitstreamError(f"byte {offset}: {error}; {REMEDY}") from error

    def read_chain(self, slice_index: int, phase_index: int) -> Iterator[Packet]:
        """Yield the packets that decoding one frame takes, from its key frame to itself.

        The latest key frame is found by the heads, backwards from the frame on: at most as many as
        the key interval, since every phase that is a multiple of it is a key frame. In an archive
        these are the frames of the group in the order of coding, up to the frame.

        Parameters
        ----------
        slice_index, phase_index : int
            Place of the frame.

        Yields
        ------
        Packet
            The next packet of the slice.

        Raises
        ------
        FrameError, BitstreamError
            As `read`.
        """
        first = last = self._phases.turn_of(phase_index)
        while not self._head_of(slice_index, self._phases.phase_at(first))[0].key:
            first -= 1
        for turn in range(first, last + 1):
            yield self.read(slice_index, self._phases.phase_at(turn))

    def _head_of(self, slice_index: int, phase_index: int) -> tuple[PacketHead, int]:
        """Return head and offset of a frame's packet; errors as those of `read`."""
        entries = self._entries_to_search()
        place = self._find(entries, slice_index, phase_index)
        if place is None:
            raise FrameError(
                f"the stream has no frame of slice {slice_index}, phase {phase_index}; "
                "'edge-codec info' shows what it has"
            )
        offset, sequence = int(entries["offset"][place]), int(entries["sequence"][place])
        follow = always(Place(sequence, slice_index, phase_index))
        try:
            head = self._file.head_at(offset, follow)
            wrong = PacketOrder(self.spec).misfit(head)
            if entry_of(head, offset) != entries[place].item():
                wrong = "the packet is not the one that the index lists"
            if wrong:
                raise BitstreamError(wrong)
        except BitstreamError as error:
            raise BitstreamError(f"byte {offset}: {error}; {REMEDY}") from error
        return head, offset

    def _read_end(self) -> NDArray[np.void] | None:
        """Read footer and index; None, with a report, where they are not right."""
        file = self._file
        offset = max(file.start, file.size - FOOTER_SIZE)
        try:
            footer = Footer.unpack(file.bytes_at(offset, FOOTER_SIZE))
            if not file.start <= footer.index_offset <= offset:
                raise BitstreamError(
                    f"footer says the index is at byte {footer.index_offset}; it must lie between "
                    f"{file.start} and {offset}"
                )
            end, offset = offset, footer.index_offset
            head = file.head_at(offset, lambda _: None)
            if offset + head.size != end or head.sequence != footer.n_packets:
                raise BitstreamError(
                    f"index has {head.size} bytes and {head.sequence} entries; the footer leaves "
                    f"{end - offset} and says {footer.n_packets}"
                )
            payload = file.payload_of(head, offset)
            entries = unpack_index(head, payload, file.start, offset, file.spec)
        except BitstreamError as error:
            self._report(offset, str(error))
            return None
        self._end = offset
        return entries

    def _walk(self) -> Iterator[tuple[int, PacketHead, Packet]]:
        """Yield offset, head and packet of all whole and decodable packets."""
        self._damage = list(self._damage_of_end)
        order = PacketOrder(self.spec)
        untried = iter(range(0 if self._entries is None else len(self._entries)))
        offset, found = self._file.start, 0
        while offset < self._end:
            try:
                head = self._file.head_at(offset, order.follow)
            except BitstreamError as error:
                self._report(offset, str(error))
                offset = self._after_damage(offset, order, untried)
                continue
            if head.is_index:
                break
            packet = self._examine(head, offset, order)
            if packet is not None:
                found += 1
                yield offset, head, packet
            offset += head.size
        self._check_end(offset, found, order)

    def _after_damage(self, offset: int, order: PacketOrder, untried: Iterator[int]) -> int:
        """Return where the next whole packet begins, or the end."""
        if self._entries is None:
            found = self._file.short_after(offset, order)
            return self._file.next_packet(offset + 1, self._end) if found is None else found
        for number in untried:  # never again, so that the index is gone through once
            if number < order.next_sequence:
                continue
            entry = self._entries[number]
            place = Place(number, int(entry["slice"]), int(entry["phase"]))
            if entry["offset"] > offset and self._is_packet(int(entry["offset"]), place):
                return int(entry["offset"])
            order.assume(place)
        return self._file.next_packet(offset + 1, self._end)

    def _is_packet(self, offset: int, place: Place) -> bool:
        try:
            self._file.head_at(offset, always(place))
        except BitstreamError:
            return False
        return True

    def _examine(self, head: PacketHead, offset: int, order: PacketOrder) -> Packet | None:
        """Read the packet of a valid head; None, with a report, if it cannot be used."""
        due = order.next_sequence
        if head.sequence < due:
            self._report(offset, f"packet {head.sequence} stands where packet {due} is due")
            return None
        if head.sequence > due:
            self._report(offset, f"packets {due} to {head.sequence - 1} are missing")
        order.pass_by(head)
        wrong = order.misfit(head)
        if wrong is None and self._entries is not None and not self._listed(head, offset):
            wrong = "the index says otherwise"
        if wrong is not None:
            self._report(offset, f"packet {head.sequence}: {wrong}")
            return None
        try:
            packet = Packet.from_payload(head, self._file.payload_of(head, offset))
        except BitstreamError as error:
            self._report(offset, str(error))
            return None
        wrong = order.break_of_chain(head)
        if wrong is not None:
            self._report(offset, f"packet {head.sequence}: {wrong}")
            return None
        gap = order.gap_before(head)
        if gap is not None:
            self._report(offset, f"packet {head.sequence}: {gap}")
        order.accept(head)
        return packet

    def _listed(self, head: PacketHead, offset: int) -> bool:
        entries = self._entries
        if entries is None or head.sequence >= len(entries):
            return False
        return bool(entries[head.sequence].item() == entry_of(head, offset))

    def _check_end(self, offset: int, found: int, order: PacketOrder) -> None:
        """Report what is missing after the last packet."""
        if self._entries is not None and order.next_sequence != len(self._entries):
            self._report(
                offset,
                f"packets end here before number {order.next_sequence}; the index lists "
                f"{len(self._entries)}",
            )
        n_frames = self.spec.info.n_slices * self.spec.info.n_phases
        if n_frames and found != n_frames:
            self._report(offset, f"{found} frames found; the header promises {n_frames}")

    def _entries_to_search(self) -> NDArray[np.void]:
        """Give the index; with `recover` one of the decodable frames, made by reading all once."""
        if self._entries is not None and not self._recover:
            return self._entries
        if self._scanned is None:
            made = (entry_of(head, offset) for offset, head, _ in self._walk())
            self._scanned = np.fromiter(made, ENTRY)
        return self._scanned

    def _find(self, entries: NDArray[np.void], slice_index: int, phase_index: int) -> int | None:
        """Find the place of a frame's entry."""
        if self._sorted is None:
            keys = (entries["slice"].astype(np.uint64) << np.uint64(32)) | entries["phase"]
            order = np.argsort(keys, kind="stable")
            self._sorted = keys[order], order
        keys, order = self._sorted
        if not (0 <= slice_index < 1 << 32 and 0 <= phase_index < 1 << 32):
            return None
        wanted = np.uint64(slice_index << 32 | phase_index)
        at = int(np.searchsorted(keys, wanted))
        return int(order[at]) if at < len(keys) and keys[at] == wanted else None

    def _report(self, offset: int, what: str) -> None:
        if not self._recover:
            raise BitstreamError(f"byte {offset}: {what}; {REMEDY}")
        if len(self._damage) < MAX_REPORTS:
            self._damage.append(DamageReport(offset, what))
        elif len(self._damage) == MAX_REPORTS:
            self._damage.append(DamageReport(offset, "more damage, not listed"))
