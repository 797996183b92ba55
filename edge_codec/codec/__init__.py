"""Frame <-> packet: the way of one frame through the codec, straight line, no I/O, no threads.

Encoding: samples -> base layer -> residual against the base -> packet.
Decoding: the same words from right to left. Each layer's payload starts with a check of the frame
it decodes to, so that a machine whose arithmetic differs is found out at the first frame instead of
showing a wrong heart.
"""

from edge_codec.codec.decoder import Decoder
from edge_codec.codec.encoder import Encoder, Resume, Watch
from edge_codec.codec.samples import (
    BASE_CHECK,
    RESIDUAL_CHECK,
    coded_dtype,
    frame_check,
    slice_size,
)

__all__ = [
    "BASE_CHECK",
    "RESIDUAL_CHECK",
    "Decoder",
    "Encoder",
    "Resume",
    "Watch",
    "coded_dtype",
    "frame_check",
    "slice_size",
]
