"""The file of packets: its writer and its reader under one name."""

from edge_codec.bitstream.reader import MAX_REPORTS, DamageReport, StreamReader
from edge_codec.bitstream.writer import StreamWriter

__all__ = ["MAX_REPORTS", "DamageReport", "StreamReader", "StreamWriter"]
