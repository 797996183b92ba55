"""The writing side of the file: header, packets, index, footer, appended in one go.

The writer never seeks, so its output may be a pipe. Predicted frames stand in the short form where
their place follows from the packet before. What was written before a crash or a cut is readable;
`resume` goes on with it.
"""

from __future__ import annotations

from array import array
from types import TracebackType
from typing import BinaryIO

import numpy as np

from edge_codec.bitstream.header import pack_header
from edge_codec.bitstream.index import MAX_PACKETS, Footer, pack_index
from edge_codec.bitstream.order import PacketOrder, layers_due
from edge_codec.bitstream.packet import Packet
from edge_codec.bitstream.resume import WholePart
from edge_codec.bitstream.short_packet import pack_short
from edge_codec.errors import FrameError
from edge_codec.spec import StreamSpec


class StreamWriter:
    """Appends packets to a file or pipe; `close` adds the index and makes the stream complete.

    As a context manager it closes the stream unless an exception passes through: then the file is
    left without its footer, readable by recovery. The file itself is never closed.

    Parameters
    ----------
    file : BinaryIO
        Target, need not be seekable; the stream begins at its current position.
    spec : StreamSpec
        Description of the stream.
    part : WholePart, optional
        What the file holds already, up to its current position; see `resume`.

    Raises
    ------
    SpecError
        If the description has no place in the format.
    """

    def __init__(self, file: BinaryIO, spec: StreamSpec, part: WholePart | None = None) -> None:
        self._file = file
        self._n_slices = spec.info.n_slices
        self._layers = set(layers_due(spec))
        self._n_frames = spec.info.n_slices * spec.info.n_phases
        self._closed = False
        if part is None:
            self._order = PacketOrder(spec)
            self._slices, self._sizes = array("I"), array("I")  # of every packet: 8 bytes a frame
            self._offset = 0
            self._append(pack_header(spec))
        else:
            self._order = part.order
            self._slices, self._sizes = part.slices, part.sizes
            self._offset = part.end

    @classmethod
    def resume(cls, file: BinaryIO, part: WholePart) -> StreamWriter:
        """Go on with a stream that was cut, or that was complete.

        What follows its whole part is cut off: a packet that was being written, index and footer.

        Parameters
        ----------
        file : BinaryIO
            Open for reading and writing, seekable.
        part : WholePart
            What `find_whole_part` found in it; it belongs to the writer from now on.

        Returns
        -------
        StreamWriter
            Its next packet is number `part.sequence`, the phases are those of `part.next_phases`.
        """
        file.truncate(part.end)
        file.seek(part.end)
        return cls(file, part.spec, part)

    def __enter__(self) -> StreamWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()

    @property
    def offset(self) -> int:
        """Bytes of the stream so far; where a packet could not be written whole, up to it."""
        return self._offset

    def write(self, packet: Packet, data: bytes | None = None) -> int:
        """Append one packet and flush it; in its short form, where that is possible.

        Parameters
        ----------
        packet : Packet
            The next packet of the stream.
        data : bytes, optional
            `packet.pack()`, where the caller has it already.

        Returns
        -------
        int
            Bytes written.

        Raises
        ------
        FrameError
            If the packet does not fit the stream or its order.
        """
        order = self._order
        wrong = order.misfit(packet) or order.break_of_chain(packet) or order.gap_before(packet)
        if packet.sequence != self._order.next_sequence or packet.sequence >= MAX_PACKETS:
            wrong = (
                f"sequence number {packet.sequence} where {self._order.next_sequence} is due "
                f"(below {MAX_PACKETS})"
            )
        if self._closed:
            wrong = "the stream is closed"
        if wrong:
            raise FrameError(f"packet {packet.sequence} cannot be written: {wrong}")
        data = self._short_form(packet) or data or packet.pack()
        self._append(data)
        self._slices.append(packet.slice_index)
        self._sizes.append(len(data))
        self._order.accept(packet)
        return len(data)

    def close(self) -> None:
        """Append index and footer; a second call does nothing.

        Raises
        ------
        FrameError
            If the header promises more frames than were written. The file stays as it is.
        """
        if self._closed:
            return
        count = self._order.next_sequence
        if self._n_frames and count != self._n_frames:
            raise FrameError(
                f"the stream has {count} of {self._n_frames} frames; write the others, or leave it "
                "unclosed for recovery"
            )
        footer = Footer(self._offset, count)
        slices, sizes = np.array(self._slices, np.uint32), np.array(self._sizes, np.uint32)
        index = pack_index(slices, sizes, self._n_slices)
        self._append(index + footer.pack())
        self._closed = True

    def _short_form(self, packet: Packet) -> bytes | None:
        """Return the packet as it may stand after the one before, None if only in full."""
        if packet.key or packet.layers.keys() != self._layers:
            return None
        place = (packet.sequence, packet.slice_index, packet.phase_index)
        for next_slice in (False, True):
            if self._order.follow(next_slice) == place:
                return pack_short(packet, next_slice)
        return None

    def _append(self, data: bytes) -> None:
        view = memoryview(data)
        while view:  # an unbuffered file may take less than it is given
            view = view[self._file.write(view) :]
        self._file.flush()
        self._offset += len(data)
