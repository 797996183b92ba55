"""What a display shows where frames are missing. It is marked as made up, and is never stored.

A live display repeats the last frame that it has of the slice.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from edge_codec.bitstream.header import unpack_header
from edge_codec.bitstream.packet import Packet
from edge_codec.codec import Decoder
from edge_codec.errors import BitstreamError, ProtocolError
from edge_codec.spec import StreamSpec

MAX_REPEATED = 256  # frames shown for one hole, however many are missing


@dataclass(frozen=True, slots=True)
class ShownFrame:
    """A frame to be shown.

    Attributes
    ----------
    segment, slice_index, phase_index : int
        Its place.
    frame : ndarray, shape (rows, columns), integer
        The stored values, or what stands for them.
    concealed : bool
        Whether it is made up, as the true one is lost: never to be measured or stored.
    """

    segment: int
    slice_index: int
    phase_index: int
    frame: NDArray[Any]
    concealed: bool


@dataclass(slots=True)
class _Last:
    phase: int
    frame: NDArray[Any] | None


class ConcealingDecoder:
    """Decodes what comes over a link that may lose packets, and fills the holes: a display's side.

    Parameters
    ----------
    show : callable
        Gets each frame: of one slice in the order of their phases, every phase once.
    make_decoder : callable
        Makes the decoder of a stream; `Decoder` itself does where there is no model.

    Attributes
    ----------
    keys_wanted : set of int
        Slices that cannot go on without a key frame.
    intact, concealed, blank : int
        Frames that were decoded, made up, and missing with nothing to show in their place.
    """

    def __init__(
        self,
        show: Callable[[ShownFrame], None],
        make_decoder: Callable[[StreamSpec], Decoder] = Decoder,
    ) -> None:
        self.keys_wanted: set[int] = set()
        self.intact = self.concealed = self.blank = 0
        self._show = show
        self._make_decoder = make_decoder
        self._decoder: Decoder | None = None
        self._segment = self._sequence = 0
        self._header = b""
        self._last: dict[int, _Last] = {}

    @property
    def spec(self) -> StreamSpec:
        """Description of the segment."""
        if self._decoder is None:
            raise ProtocolError("no segment has begun; send its header first")
        return self._decoder.spec

    @property
    def due(self) -> tuple[int, int]:
        """Segment and packet to go on with."""
        return self._segment, self._sequence

    def begin(self, number: int, header: bytes) -> None:
        """Begin a segment, or hear again of the one that has begun."""
        if self._decoder is not None and (number, header) == (self._segment, self._header):
            return
        self._decoder = self._make_decoder(unpack_header(header))
        self._segment, self._sequence, self._header = number, 0, header
        self._last.clear()
        self.keys_wanted.clear()

    def skip(self, end: int, slices: Collection[int] = ()) -> None:
        """Hear that packets are lost. What is shown for them is known with the next of a slice."""
        self._sequence = max(self._sequence, end)
        n_slices = self.spec.info.n_slices
        broken = (0,) if n_slices == 1 else slices
        self.keys_wanted.update(index for index in broken if index < n_slices)

    def put(self, packet: Packet, data: bytes) -> bool:
        """Decode the next packet; where that is impossible, show what stands for it."""
        del data
        if self._decoder is None:
            raise ProtocolError("no segment has begun; send its header first")
        self._sequence = packet.sequence + 1
        last = self._last.get(packet.slice_index) or _Last(-1, None)
        if packet.phase_index <= last.phase or packet.slice_index >= self.spec.info.n_slices:
            return False
        self._fill(packet.slice_index, last, packet.phase_index)
        try:
            frame = self._decoder.push(packet)
        except BitstreamError:  # what it depends on is lost
            frame = None
        if frame is None:
            self.keys_wanted.add(packet.slice_index)
            self._fill(packet.slice_index, last, packet.phase_index + 1)
        else:
            self.keys_wanted.discard(packet.slice_index)
            self.intact += 1
            last = _Last(packet.phase_index, frame)
            self._show(
                ShownFrame(self._segment, packet.slice_index, packet.phase_index, frame, False)
            )
        self._last[packet.slice_index] = last
        return packet.slice_index not in self.keys_wanted

    def end(self, count: int) -> None:
        """Hear that the segment is complete."""
        self._sequence = max(self._sequence, count)

    def _fill(self, slice_index: int, last: _Last, end: int) -> None:
        """Show the last frame for every phase before `end` that is missing."""
        first, last.phase = last.phase + 1, end - 1
        if last.frame is None:
            self.blank += end - first
            return
        self.concealed += end - first
        for phase in range(max(first, end - MAX_REPEATED), end):
            self._show(ShownFrame(self._segment, slice_index, phase, last.frame, True))
