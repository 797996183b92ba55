"""Every build of the native layers that runs on this processor."""

from __future__ import annotations

import importlib.util
from types import ModuleType

from edge_codec.base.dwt_cal_vae import _network
from edge_codec.native_build import FEATURES


def builds() -> list[ModuleType]:
    """The plain one first."""
    present = _network.features()
    names = [f"{_network.__name__}_{kind}" for kind in FEATURES if present[kind]]
    built = [name for name in names if importlib.util.find_spec(name)]
    return [_network, *map(importlib.import_module, built)]
