"""The `vqvae` base layer: one codebook token for every 8x8 voxels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_codec.base.lookup import CodebookLookup
from edge_codec.base.tokens import TokenCoder
from edge_codec.engine import Engine, FrameEncoder, Mapper
from edge_codec.errors import BitstreamError, EngineError
from edge_codec.spec import StreamSpec
from edge_codec.window import Window, pad

STRIDE = 8


@dataclass(frozen=True, slots=True)
class VqvaeModel:
    """The shipped networks and tables, loaded.

    Attributes
    ----------
    decoder : Engine
        Exact integer network, tokens int32 (n, h, w) -> window codes uint8 (n, 1, 8h, 8w).
    tokens : TokenCoder
        Entropy coder of the tokens.
    encoder : Engine or None
        Window codes uint8 (n, 1, 8h, 8w) -> latents int8 (n, h, w, dim); None where only decoding
        is needed.
    lookup : CodebookLookup or None
        Latents -> tokens; goes with `encoder`.
    frame_encoder : callable or None
        Makes what encodes whole frames of a slice, of samples of up to 16 bits, instead of
        `encoder`, `lookup` and `tokens`.
    """

    decoder: Engine
    tokens: TokenCoder
    encoder: Engine | None = None
    lookup: CodebookLookup | None = None
    frame_encoder: Callable[[StreamSpec], FrameEncoder] | None = None


class VqvaeCoder:
    """Codes the base layer of one slice; keeps the previous frame's tokens as context.

    Parameters
    ----------
    model : VqvaeModel
        Networks and tables.
    spec : StreamSpec
        Gives frame size and window.
    mapper : callable
        How to go over parts of a frame in the codebook lookup.
    """

    def __init__(self, model: VqvaeModel, spec: StreamSpec, mapper: Mapper = map) -> None:
        self._model = model
        self._map = mapper
        self._window = Window(spec)
        self._shape = spec.info.frame_shape
        rows, columns = self._shape
        self._grid = (-(-rows // STRIDE), -(-columns // STRIDE))
        self._previous: NDArray[np.uint16] | None = None
        self._frame_encoder = _frame_encoder(model, spec)

    def encode(self, samples: NDArray[np.uint32], key: bool) -> tuple[bytes, NDArray[np.uint32]]:
        """Code one frame.

        Parameters
        ----------
        samples : ndarray, shape (rows, columns), uint32
            Stored values minus the stream's lower bound.
        key : bool
            Whether the frame must be decodable without the previous one.

        Returns
        -------
        payload : bytes
            The coded tokens.
        base : ndarray, shape (rows, columns), uint32
            The frame that a decoder makes of them.
        """
        if self._frame_encoder is not None:
            return self._frame_encoder.encode(samples, key)
        if self._model.encoder is None or self._model.lookup is None:
            raise EngineError("the model was loaded for decoding only; load it with its encoder")
        codes = pad(self._window.normalize(samples), STRIDE)
        latents = self._model.encoder.run(codes[None, None])[0]
        tokens = self._model.lookup.nearest(latents, self._map)
        before = None if key else self._previous
        self._previous = tokens
        # Neither needs the other: on two threads the entropy coder hides behind the network.
        steps = (
            lambda: self._model.tokens.encode(tokens, before),
            lambda: self._synthesize(tokens),
        )
        payload, base = self._map(lambda step: step(), steps)
        return payload, base

    def decode(self, payload: bytes, key: bool) -> NDArray[np.uint32]:
        """Return the frame, shape (rows, columns), uint32, that `encode` reported.

        Raises
        ------
        BitstreamError
            If the payload is damaged or follows a frame that was not decoded.
        """
        if not key and self._previous is None:
            raise BitstreamError("a predicted frame came before any key frame of its slice")
        tokens = self._model.tokens.decode(payload, *self._grid, None if key else self._previous)
        self._previous = tokens
        return self._synthesize(tokens)

    def _synthesize(self, tokens: NDArray[np.uint16]) -> NDArray[np.uint32]:
        rows, columns = self._shape
        codes = self._model.decoder.run(tokens.astype(np.int32)[None])[0, 0]
        return self._window.denormalize(codes[:rows, :columns])


def _frame_encoder(model: VqvaeModel, spec: StreamSpec) -> FrameEncoder | None:
    is_wide = spec.high - spec.low >= 1 << 16
    return None if model.frame_encoder is None or is_wide else model.frame_encoder(spec)
