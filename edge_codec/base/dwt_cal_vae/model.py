"""The `dwt-cal-vae` model of a stream: shipped networks, and the quality that is asked of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_codec.base.dwt_cal_vae.coder import VaeCoder
from edge_codec.base.dwt_cal_vae.networks import Networks
from edge_codec.engine import Mapper
from edge_codec.spec import StreamSpec


class VaeModel:
    """Makes the coders of a stream's slices.

    Parameters
    ----------
    networks : Networks
    quality : int
        0 to 63, the finest, for encoding.
    """

    def __init__(self, networks: Networks, quality: int) -> None:
        self._networks = networks
        self._quality = quality

    def coder(self, spec: StreamSpec, mapper: Mapper = map) -> VaeCoder:
        """See `edge_codec.base.layer.BaseModel.coder`."""
        del mapper
        return VaeCoder(self._networks, spec, self._quality)

    def encode_frames(
        self,
        coders: Sequence[VaeCoder],
        samples: Sequence[NDArray[np.uint32]],
        phases: Sequence[int],
        keys: Sequence[bool],
        aheads: Sequence[Sequence[NDArray[np.uint32]]] = (),
    ) -> list[tuple[bytes, NDArray[np.uint32]]]:
        """See `edge_codec.base.layer.BaseModel.encode_frames`."""
        del aheads
        frames = zip(coders, samples, phases, keys, strict=True)
        return [coder.encode(frame, phase, key) for coder, frame, phase, key in frames]
