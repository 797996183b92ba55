"""The native coder that suits the processor: one source, compiled for several kinds of them.

All of them give the same bits; tests compare them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from edge_codec.residual import _residual

if TYPE_CHECKING:
    native = _residual

FEATURES = ("avx512", "avx2")  # the best one first


def pick_native() -> object:
    """Return the module for the best features that the processor has."""
    present = _residual.features()
    for name in FEATURES:
        if present[name]:
            try:
                return importlib.import_module(f"edge_codec.residual._residual_{name}")
            except ImportError:  # built by a compiler that does not know these features
                continue
    return _residual


if not TYPE_CHECKING:
    native = pick_native()
