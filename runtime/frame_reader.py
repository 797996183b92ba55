"""Frames of a stream, read and decoded one after another; lost ones may be filled in."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.bitstream.container import StreamReader
from edge_codec.bitstream.metadata import unpack_metadata
from edge_codec.bitstream.packet import LayerId, Packet
from edge_codec.codec import Decoder, coded_dtype
from edge_codec.errors import BitstreamError, FrameError
from edge_codec.runtime.options import TransferReport
from edge_codec.spec import StreamSpec


@dataclass(frozen=True, slots=True, eq=False)
class DecodedFrame:
    """A frame as it came out of the decoder.

    Attributes
    ----------
    samples : ndarray, shape (rows, columns), integer
        Stored values.
    metadata : bytes
        Its source header; empty where it has none.
    key : bool
        Whether it was coded without earlier frames.
    lost : bool
        Whether the stream does not hold it, and `samples` only stand in its place.
    """

    samples: NDArray[Any]
    metadata: bytes = b""
    key: bool = False
    lost: bool = False


class FrameReader:
    """Reads and decodes frames, and notes what that took and what is lost.

    Parameters
    ----------
    reader : StreamReader
        Where packets come from.
    decoder : Decoder
        Of the stream, its number of phases known.
    report : TransferReport
        Where times and losses are noted.
    recover : bool
        Whether something stands in the place of frames that cannot be decoded.
    """

    def __init__(
        self, reader: StreamReader, decoder: Decoder, report: TransferReport, *, recover: bool
    ) -> None:
        self._reader, self._decoder, self._report = reader, decoder, report
        self._filler = _filler(decoder.spec) if recover else None

    def read(self, slice_index: int, phase_index: int) -> DecodedFrame:
        """Return a frame; those of a slice are asked for in the order in which they were coded.

        Raises
        ------
        BitstreamError, FrameError
            If it cannot be decoded, and nothing shall stand in its place.
        """
        place = (slice_index, phase_index)
        try:
            return self._decoded(self._reader.read(*place))
        except (BitstreamError, FrameError) as error:
            if self._filler is None:
                raise
            self._report.lose(place, error)
            return DecodedFrame(self._filler, lost=True)

    def _decoded(self, packet: Packet) -> DecodedFrame:
        start = time.perf_counter()
        samples = self._decoder.push(packet)
        self._report.frame_ms.append(1e3 * (time.perf_counter() - start))
        packed = packet.layers.get(LayerId.METADATA, b"")
        source = self._decoder.spec.info.source.data
        return DecodedFrame(samples, unpack_metadata(packed, source) if packed else b"", packet.key)


def _filler(spec: StreamSpec) -> NDArray[Any]:
    """Return the frame that stands for every lost one, as many may wait for their turn."""
    frame = np.full(spec.info.frame_shape, spec.low, coded_dtype(spec))
    frame.flags.writeable = False
    return frame
