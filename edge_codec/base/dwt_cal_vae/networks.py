"""All networks and tables of the `dwt-cal-vae` model, loaded from the zoo's files."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_codec.base.dwt_cal_vae.encoding import Analysis
from edge_codec.base.dwt_cal_vae.layers import read_weights
from edge_codec.base.dwt_cal_vae.network import FrameNetwork
from edge_codec.base.dwt_cal_vae.wavelet import Wavelet, check_steps
from edge_codec.errors import EngineError

KINDS = ("key", "inter")


@dataclass(frozen=True, slots=True, eq=False)
class Networks:
    """What frames are coded with; remembers nothing of them.

    Attributes
    ----------
    wavelet : Wavelet
    table : ndarray, shape (64, 257), uint32
        Cumulative frequencies of the symbols' distributions.
    frames : dict of str to FrameNetwork
        Of key frames, "key", and of those after another one, "inter".
    analyses : dict of str to Analysis, or None
        What only an encoder has.
    """

    wavelet: Wavelet
    table: NDArray[np.uint32]
    frames: dict[str, FrameNetwork]
    analyses: dict[str, Analysis] | None


def load_networks(decoder: bytes, encoder: bytes | None = None) -> Networks:
    """Make networks of the zoo's files.

    Parameters
    ----------
    decoder : bytes
        Contents of `decoder.npz`.
    encoder : bytes, optional
        Contents of `encoder.npz`; without it networks only decode.

    Raises
    ------
    EngineError
        If a file is none, or a sum could leave 32 bits.
    """
    weights = read_weights(decoder)
    try:
        wavelet = Wavelet(
            weights["wavelet.steps"], weights["wavelet.gains"], weights["wavelet.inverse_gains"]
        )
        if not check_steps(wavelet.steps):
            raise ValueError("the wavelet's sums could leave 32 bits")
        frames = {kind: FrameNetwork(weights, kind, wavelet) for kind in KINDS}
        table = np.ascontiguousarray(weights["table"])
        if encoder is None:
            return Networks(wavelet, table, frames, None)
        more = read_weights(encoder)
        return Networks(wavelet, table, frames, {kind: Analysis(more, kind) for kind in KINDS})
    except (KeyError, ValueError) as error:
        raise EngineError(f"the weights lack a part ({error}); reinstall edge-codec") from error
