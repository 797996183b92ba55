"""The `vqvae` base layer: one codebook token for every 8x8 voxels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.base import _frame
from edge_codec.base.lookup import CodebookLookup
from edge_codec.base.tokens import TokenCoder
from edge_codec.engine import Engine, FrameEncoder, Mapper
from edge_codec.errors import BitstreamError, EngineError, FrameError
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

    def coder(self, spec: StreamSpec, mapper: Mapper = map) -> VqvaeCoder:
        """See `edge_codec.base.layer.BaseModel.coder`."""
        return VqvaeCoder(self, spec, mapper)

    def encode_frames(
        self,
        coders: Sequence[VqvaeCoder],
        samples: Sequence[NDArray[np.uint32]],
        phases: Sequence[int],
        keys: Sequence[bool],
        aheads: Sequence[Sequence[NDArray[np.uint32]]] = (),
    ) -> list[tuple[bytes, NDArray[np.uint32]]]:
        """See `edge_codec.base.layer.BaseModel.encode_frames`; networks run once for all."""
        del aheads
        if len(coders) == 1 or coders[0].is_whole:
            work = zip(coders, samples, phases, keys, strict=True)
            return [coder.encode(frame, phase, key) for coder, frame, phase, key in work]
        return _encode_together(coders, samples, keys)


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
        self._padded = (self._grid[0] * STRIDE, self._grid[1] * STRIDE)
        self._previous: NDArray[np.uint16] | None = None
        self._frame_encoder = _frame_encoder(model, spec)
        self._codes: NDArray[np.uint8] | None = None
        self._base: NDArray[np.uint32] | None = None

    @property
    def is_whole(self) -> bool:
        """Whether frames are coded as a whole, one by one, instead of in steps."""
        return self._frame_encoder is not None

    def encode(
        self,
        samples: NDArray[np.uint32],
        phase: int,
        key: bool,
        ahead: Sequence[NDArray[np.uint32]] = (),
    ) -> tuple[bytes, NDArray[np.uint32]]:
        """See `edge_codec.base.layer.BaseCoder.encode`; the payload is the coded tokens."""
        del phase, ahead  # a frame is predicted from the one before, whichever that is
        if self._frame_encoder is not None:
            return self._frame_encoder.encode(samples, key)
        tokens = self._analyze(self._normalize(samples)[None, None])
        before = self._follow(tokens[0], key)
        # Neither needs the other: on two threads the entropy coder hides behind the network.
        steps = (
            lambda: self._synthesize(tokens)[0, 0],
            lambda: self._model.tokens.encode(tokens[0], before),
        )
        codes, payload = self._map(lambda step: step(), steps)
        return payload, self._denormalize(codes)

    def _normalize(self, samples: NDArray[np.uint32]) -> NDArray[np.uint8]:
        """Return window codes, padded to whole tokens, in memory that the next frame takes."""
        table = self._window.codes
        if table is None:
            return pad(self._window.normalize(samples), STRIDE)
        if self._codes is None:
            self._codes = np.empty(self._padded, np.uint8)
        source = np.ascontiguousarray(samples)
        if not _frame.look_up_codes(source, table, self._codes, self._shape, self._padded):
            raise FrameError(f"a sample is {samples.max()}; the stream has 0 to {len(table) - 1}")
        return self._codes

    def _analyze(self, codes: NDArray[np.uint8]) -> NDArray[np.uint16]:
        """Return the tokens of frames of codes, shape (n, 1, rows, columns)."""
        if self._model.encoder is None or self._model.lookup is None:
            raise EngineError("the model was loaded for decoding only; load it with its encoder")
        return self._model.lookup.nearest(self._model.encoder.run(codes), self._map)

    def _follow(self, tokens: NDArray[np.uint16], key: bool) -> NDArray[np.uint16] | None:
        """Go on to the next frame's tokens; return what they are predicted from."""
        before = None if key else self._previous
        self._previous = tokens
        return before

    def decode(self, payload: bytes, phase: int, key: bool) -> NDArray[np.uint32]:
        """See `edge_codec.base.layer.BaseCoder.decode`."""
        del phase
        if not key and self._previous is None:
            raise BitstreamError("a predicted frame came before any key frame of its slice")
        tokens = self._model.tokens.decode(payload, *self._grid, None if key else self._previous)
        self._previous = tokens
        return self._denormalize(self._synthesize(tokens[None])[0, 0])

    def _synthesize(self, tokens: NDArray[np.uint16]) -> NDArray[np.uint8]:
        """Return the codes of frames of tokens, shape (n, h, w)."""
        codes: NDArray[np.uint8] = self._model.decoder.run(tokens.astype(np.int32))
        return codes

    def _denormalize(self, codes: NDArray[np.uint8]) -> NDArray[np.uint32]:
        """Return the samples of padded codes, in memory that the next frame takes again."""
        if self._base is None:
            self._base = np.empty(self._shape, np.uint32)
        source = np.ascontiguousarray(codes)
        _frame.look_up_samples(source, self._window.samples, self._base, self._shape, self._padded)
        return self._base


def _encode_together(
    coders: Sequence[VqvaeCoder], frames: Sequence[NDArray[np.uint32]], keys: Sequence[bool]
) -> list[tuple[bytes, NDArray[np.uint32]]]:
    """Code frames of several slices with one run of each network."""
    first = coders[0]
    codes = [coder._normalize(frame) for coder, frame in zip(coders, frames, strict=True)]
    tokens = first._analyze(np.stack(codes)[:, None])
    pairs = zip(coders, tokens, keys, strict=True)
    before = [coder._follow(grid, key) for coder, grid, key in pairs]

    def code_tokens() -> list[bytes]:
        return list(map(first._model.tokens.encode, tokens, before))

    steps: tuple[Callable[[], Any], ...] = (lambda: first._synthesize(tokens), code_tokens)
    made, payloads = first._map(lambda step: step(), steps)
    bases = [coder._denormalize(codes[0]) for coder, codes in zip(coders, made, strict=True)]
    return list(zip(payloads, bases, strict=True))


def _frame_encoder(model: VqvaeModel, spec: StreamSpec) -> FrameEncoder | None:
    is_wide = spec.high - spec.low >= 1 << 16
    return None if model.frame_encoder is None or is_wide else model.frame_encoder(spec)
