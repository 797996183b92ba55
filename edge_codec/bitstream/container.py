"""The file of packets: its writer and its reader under one name."""

from edge_codec.bitstream.reader import MAX_REPORTS, DamageReport, StreamReader
from edge_codec.bitstream.resume import WholePart, find_whole_part
from edge_codec.bitstream.writer import StreamWriter

__all__ = [
    "MAX_REPORTS",
    "DamageReport",
    "StreamReader",
    "StreamWriter",
    "WholePart",
    "find_whole_part",
]
