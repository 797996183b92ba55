"""The native coder of the residual layer, in the build that suits the processor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_codec.native_build import best_build
from edge_codec.residual import _residual

if TYPE_CHECKING:
    native = _residual
else:
    native = best_build(_residual)
