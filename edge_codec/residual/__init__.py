"""The residual layer: a frame against its prediction, coded lossless or to a hard bound."""

from edge_codec.residual.coder import ResidualDecoder, ResidualEncoder

__all__ = ["ResidualDecoder", "ResidualEncoder"]
