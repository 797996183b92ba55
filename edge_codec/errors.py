"""The exceptions of edge_codec: one root, one class per kind of cause.

Every error that bad input can cause is one of these, and its message says what was found, what was
expected, where, and what to do about it.
"""


class EdgeCodecError(Exception):
    """Root of all errors that edge_codec raises on purpose."""


class BitstreamError(EdgeCodecError):
    """A compressed stream is damaged, truncated, hostile, or of an unknown version."""


class SpecError(EdgeCodecError):
    """The description of a stream (sizes, dtype, model, bound) is impossible or unsupported."""


class FrameError(EdgeCodecError):
    """A frame does not fit its stream: wrong shape, dtype, order, or values out of range."""


class SourceError(EdgeCodecError):
    """An input or output file cannot be read, written, or represented without loss."""


class EngineError(EdgeCodecError):
    """An inference backend or a model file is missing, altered, or failed."""


class CalibrationError(EdgeCodecError):
    """A network cannot be made an exact integer network, or a calibrated model is refused."""


class TrainingError(EdgeCodecError):
    """A training cannot go on: its gradients are lost."""


class StreamError(EdgeCodecError):
    """A live stream cannot go on: overload, a full disk, a peer that is gone, a closed pipeline."""


class SinkError(StreamError):
    """A sink of packets failed: its file, its disk or its connection."""


class ProtocolError(EdgeCodecError):
    """A peer on the network sent what the protocol does not allow, or too much, or too slowly."""
