"""The container of compressed cines: header, packets, index, footer (see `docs/bitstream.md`)."""

from edge_codec.bitstream.container import DamageReport, StreamReader, StreamWriter
from edge_codec.bitstream.header import pack_header, read_header, unpack_header
from edge_codec.bitstream.live import LiveNote, Policy
from edge_codec.bitstream.metadata import pack_metadata, unpack_metadata
from edge_codec.bitstream.packet import LayerId, Packet
from edge_codec.bitstream.verify import VerifyReport, verify

__all__ = [
    "DamageReport",
    "LayerId",
    "LiveNote",
    "Packet",
    "Policy",
    "StreamReader",
    "StreamWriter",
    "VerifyReport",
    "pack_header",
    "pack_metadata",
    "read_header",
    "unpack_header",
    "unpack_metadata",
    "verify",
]
