"""The native coder that suits the processor: one source, compiled without and with AVX2.

Both give the same bits; tests compare them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_codec.residual import _residual

if TYPE_CHECKING:
    native = _residual
elif _residual.has_avx2():
    try:
        from edge_codec.residual import _residual_avx2 as native
    except ImportError:  # built on another kind of processor
        native = _residual
else:
    native = _residual
