"""The check of a whole stream: every byte of it, and that it holds all it promises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

from edge_codec.bitstream.container import DamageReport, StreamReader
from edge_codec.errors import BitstreamError
from edge_codec.spec import StreamSpec


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What a check of a stream found.

    Attributes
    ----------
    spec : StreamSpec or None
        Description of the stream; None if the header is damaged.
    packets : int
        Packets that are whole and decodable.
    problems : tuple of DamageReport
        Everything that is wrong, in the order found.
    """

    spec: StreamSpec | None
    packets: int
    problems: tuple[DamageReport, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def verify(file: BinaryIO) -> VerifyReport:
    """Check every byte of a stream without decoding it.

    Header, heads, layers, index and footer have CRCs; reserved bytes must be zero; packets must
    be numbered without gaps, stand one after another, fit the header, agree with the index, and be
    as many as the header promises; nothing may follow the footer. Voxels are not decoded.

    Parameters
    ----------
    file : BinaryIO
        Seekable source; the stream begins at byte 0.

    Returns
    -------
    VerifyReport
        What was found; damage is never raised.

    Raises
    ------
    SourceError
        If the file is not seekable.
    """
    try:
        reader = StreamReader(file, recover=True)
    except BitstreamError as error:
        return VerifyReport(None, 0, (DamageReport(0, str(error)),))
    packets = sum(1 for _ in reader.packets())
    return VerifyReport(reader.spec, packets, reader.damage)
