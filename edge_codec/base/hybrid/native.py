"""The native coder of `dwt-cal`, in the build that suits the processor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_codec.base.hybrid import _hybrid
from edge_codec.native_build import best_build

if TYPE_CHECKING:
    native = _hybrid
else:
    native = best_build(_hybrid)
