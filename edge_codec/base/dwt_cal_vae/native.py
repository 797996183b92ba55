"""The native layers that suit the processor: one source, compiled for several kinds of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_codec.base.dwt_cal_vae import _network
from edge_codec.native_build import best_build

if TYPE_CHECKING:
    native = _network
else:
    native = best_build(_network)
