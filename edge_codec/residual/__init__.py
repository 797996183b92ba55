"""The residual layer: a frame against its prediction, coded lossless or to a hard bound."""

from edge_codec.residual.coder import ResidualDecoder, ResidualEncoder, count_fast

__all__ = ["ResidualDecoder", "ResidualEncoder", "count_fast"]
