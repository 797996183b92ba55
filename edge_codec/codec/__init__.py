"""Frame <-> packet: the way of one frame through the codec, straight line, no I/O, no threads.

Encoding: samples -> base layer (tokens) -> residual against the base -> packet.
Decoding: the same words from right to left. Each layer's payload starts with the CRC-32 of the
frame it decodes to, so that a machine whose arithmetic differs is found out at the first frame
instead of showing a wrong heart.
"""

from edge_codec.codec.decoder import Decoder
from edge_codec.codec.encoder import Encoder, Resume
from edge_codec.codec.samples import CHECK, SIDE_COST, coded_dtype, frame_check

__all__ = ["CHECK", "SIDE_COST", "Decoder", "Encoder", "Resume", "coded_dtype", "frame_check"]
