"""The residual layer: a frame against its prediction, coded lossless or to a hard bound."""

from edge_codec.residual.coder import (
    BoundedRegion,
    ResidualDecoder,
    ResidualEncoder,
    count_fast,
)

__all__ = ["BoundedRegion", "ResidualDecoder", "ResidualEncoder", "count_fast"]
