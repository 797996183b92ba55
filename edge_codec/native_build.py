"""Picks the build of a native coder that suits the processor: one source, several kinds of builds.

Each build must give the same bits, in encoding too; tests compare them.
"""

from __future__ import annotations

import importlib
from types import ModuleType

FEATURES = ("avx512", "avx2")  # the best one first; `setup.py` says what each needs


def best_build(plain: ModuleType) -> ModuleType:
    """Return the build for the best features that the processor has.

    Parameters
    ----------
    plain : module
        The build for all processors, `package._name`. Its `features()` says what this one has;
        the others are `package._name_avx512` and so on, each with the same interface.
    """
    present = plain.features()
    for kind in FEATURES:
        if present[kind]:
            try:
                return importlib.import_module(f"{plain.__name__}_{kind}")
            except ImportError:  # built by a compiler that does not know these features
                continue
    return plain
