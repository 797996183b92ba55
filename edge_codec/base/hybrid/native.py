"""The native coder that suits the processor: one source, compiled for several kinds of them.

All of them give the same bits, in encoding too; tests compare them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from edge_codec.base.hybrid import _hybrid

if TYPE_CHECKING:
    native = _hybrid

FEATURES = ("avx512", "avx2")  # the best one first


def pick_native() -> object:
    """Return the module for the best features that the processor has."""
    present = _hybrid.features()
    for name in FEATURES:
        if present[name]:
            try:
                return importlib.import_module(f"edge_codec.base.hybrid._hybrid_{name}")
            except ImportError:  # built by a compiler that does not know these features
                continue
    return _hybrid


if not TYPE_CHECKING:
    native = pick_native()
