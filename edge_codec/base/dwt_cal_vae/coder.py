"""One slice of the `dwt-cal-vae` base layer: samples to payloads and back, frame after frame.

A payload is a byte of the frame's quality index, then its range-coded symbols.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_codec.base.dwt_cal_vae.codec import code_frame
from edge_codec.base.dwt_cal_vae.encoding import SymbolChooser
from edge_codec.base.dwt_cal_vae.network import State
from edge_codec.base.dwt_cal_vae.networks import Networks
from edge_codec.base.dwt_cal_vae.numbers import QUALITIES
from edge_codec.base.dwt_cal_vae.pixels import PixelWindow
from edge_codec.base.dwt_cal_vae.reading import SymbolReader, write_symbols
from edge_codec.errors import BitstreamError, EngineError, FrameError
from edge_codec.spec import StreamSpec

KEY_OFFSET = 8
CYCLE = (-2, 0, -2, 2)
"""What the quality of a key frame, and of the frames after it in turn, differs from the stream's:
the model was trained for it, as much is predicted from a key frame."""


class VaeCoder:
    """Codes or decodes the base layer of one slice; keeps what the frame before has left.

    Parameters
    ----------
    networks : Networks
    spec : StreamSpec
        Gives frame size and window.
    quality : int
        0 to 63, for encoding.
    """

    def __init__(self, networks: Networks, spec: StreamSpec, quality: int) -> None:
        self._networks = networks
        self._shape = spec.info.frame_shape
        self._window = PixelWindow(spec)
        self._quality = quality
        self._state: State | None = None
        self._turn = 0  # of the frame in its group

    def encode(
        self,
        samples: NDArray[np.uint32],
        phase: int,
        key: bool,
        ahead: Sequence[NDArray[np.uint32]] = (),
    ) -> tuple[bytes, NDArray[np.uint32]]:
        """See `edge_codec.base.layer.BaseCoder.encode`.

        Raises
        ------
        FrameError
            If the frame has another shape than the stream, or follows none without being a key.
        EngineError
            If the model was loaded for decoding only.
        """
        del phase, ahead
        if samples.shape != self._shape:
            raise FrameError(
                f"frame is {samples.shape}, the stream holds {self._shape}; crop or pad it"
            )
        if not key and self._state is None:
            raise FrameError("a predicted frame came before any key frame; begin with a key frame")
        analyses = self._networks.analyses
        if analyses is None:
            raise EngineError("the model was loaded for decoding only; load it with its encoder")
        kind, state = self._begin(key)
        quality = self._next_quality(key)
        pixels = self._window.narrow(samples)
        chooser = SymbolChooser(analyses[kind], self._networks.wavelet, pixels, state, quality)
        network = self._networks.frames[kind]
        self._state = code_frame(network, state, quality, self._window.size, chooser)
        payload = bytes([quality]) + write_symbols(chooser.parts, self._networks.table)
        return payload, self._window.widen(self._state.decoded)

    def decode(self, payload: bytes, phase: int, key: bool) -> NDArray[np.uint32]:
        """See `edge_codec.base.layer.BaseCoder.decode`."""
        del phase
        if not key and self._state is None:
            raise BitstreamError("a predicted frame came before any key frame of its slice")
        if not payload or payload[0] >= QUALITIES:
            found = f"quality {payload[0]}" if payload else "no byte"
            raise BitstreamError(
                f"a frame's payload begins with {found}, not with a quality of 0 to "
                f"{QUALITIES - 1}; it is damaged"
            )
        kind, state = self._begin(key)
        reader = SymbolReader(payload[1:], self._networks.table)
        network = self._networks.frames[kind]
        decoded = code_frame(network, state, payload[0], self._window.size, reader)
        reader.close()
        self._state = decoded
        return self._window.widen(decoded.decoded)

    def _begin(self, key: bool) -> tuple[str, State | None]:
        """Return the kind of the frame and what it is predicted from.

        Nothing can follow until it is finished: what fails halfway leaves no frame behind.
        """
        state, self._state = self._state, None
        return ("key", None) if key else ("inter", state)

    def _next_quality(self, key: bool) -> int:
        """Return the quality of the frame, by its place in the group."""
        self._turn = 0 if key else self._turn + 1
        offset = KEY_OFFSET if key else CYCLE[(self._turn - 1) % len(CYCLE)]
        return min(max(self._quality + offset, 0), QUALITIES - 1)
