"""One slice of the `titok` base layer: samples to payloads and back, frame after frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.base.titok.canvas import SIDE, canvas_of
from edge_codec.base.titok.conditions import unpack_facts
from edge_codec.base.titok.token_coder import TokenCoder, Tokens
from edge_codec.base.titok.token_prior import CODE_DIM, TOKENS
from edge_codec.engine import Mapper
from edge_codec.errors import EngineError, FrameError
from edge_codec.spec import WINDOW_ONE, StreamSpec
from edge_codec.window import Window

if TYPE_CHECKING:
    from edge_codec.base.titok.model import TitokModel

MEMORY = 4
GRAY = 0.4
BRIGHTEST = 255 / WINDOW_ONE
GRID = 8
ANATOMY = 16

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Guidance:
    """Where the heart is, as the encoder may be told; the decoder needs none of it.

    Attributes
    ----------
    heart : ndarray, shape (8, 8), float32, 0..1
        Share of the heart in each 16x16 pixels of the canvas.
    anatomy : ndarray, shape (16,), float32
        Features of the segmentation.
    """

    heart: Floats
    anatomy: Floats


Guide = Callable[[NDArray[np.uint32], StreamSpec], Guidance]
"""Looks at a frame's samples and says where the heart is."""

UNGUIDED = Guidance(np.zeros((GRID, GRID), np.float32), np.zeros(ANATOMY, np.float32))


@dataclass(slots=True, eq=False)
class _Past:
    """What encoder and decoder know before a frame; arrays as the networks take them."""

    frame: Floats
    codes: Floats
    known: Floats
    age: int = 0

    @classmethod
    def nothing(cls) -> _Past:
        """Return what is known before the first frame of a group."""
        return cls(
            np.full((1, 1, SIDE, SIDE), GRAY, np.float32),
            np.zeros((1, MEMORY, TOKENS, CODE_DIM), np.float32),
            np.zeros((1, MEMORY), np.float32),
        )

    def after(self, frame: Floats, codes: Floats) -> _Past:
        """Return what is known after a frame."""
        known = np.concatenate([np.ones((1, 1), np.float32), self.known[:, :-1]], axis=1)
        codes = np.concatenate([codes[:, None], self.codes[:, :-1]], axis=1)
        return _Past(frame, codes, known, self.age + 1)

    def inputs(self) -> dict[str, NDArray[Any]]:
        """Return the networks' inputs by name."""
        return {
            "past_frame": self.frame,
            "past_codes": self.codes,
            "past_known": self.known,
            "age": np.array([self.age], np.int64),
        }


class TitokCoder:
    """Codes or decodes the base layer of one slice; keeps what the frames before have left.

    Parameters
    ----------
    model : TitokModel
        Networks, codebook and tables.
    spec : StreamSpec
        Gives frame size, window and facts.
    mapper : callable
        How to go over steps that may be in work at the same time.

    Attributes
    ----------
    tokens : ndarray, shape (32,), uint16
        Of the latest frame; zeros before the first.

    Raises
    ------
    BitstreamError
        If the facts in the stream's header are none.
    """

    def __init__(self, model: TitokModel, spec: StreamSpec, mapper: Mapper = map) -> None:
        self._model = model
        self._spec = spec
        self._map = mapper
        self._facts = unpack_facts(spec.model_data)
        self._window = Window(spec)
        self._canvas = canvas_of(*spec.info.frame_shape)
        self._coder = TokenCoder(model.prior)
        self._past = _Past.nothing()
        self.tokens: Tokens = np.zeros(TOKENS, np.uint16)

    def encode(
        self,
        samples: NDArray[np.uint32],
        phase: int,
        key: bool,
        ahead: Sequence[NDArray[np.uint32]] = (),
    ) -> tuple[bytes, NDArray[np.uint32]]:
        """See `edge_codec.base.layer.BaseCoder.encode`; the payload is the coded tokens."""
        del ahead
        tokens = self._choose(samples, phase, key)
        # Neither needs the other: on two threads the entropy coder hides behind the network.
        steps: tuple[Callable[[], Any], ...] = (
            lambda: self._paint(tokens, phase),
            lambda: self._coder.encode(tokens, key),
        )
        base, payload = self._map(lambda step: step(), steps)
        return payload, base

    def decode(self, payload: bytes, phase: int, key: bool) -> NDArray[np.uint32]:
        """See `edge_codec.base.layer.BaseCoder.decode`; on other machines about the same frame."""
        tokens = self._coder.decode(payload, key)
        if key:
            self._past = _Past.nothing()
        return self._paint(tokens, phase)

    def _choose(self, samples: NDArray[np.uint32], phase: int, key: bool) -> Tokens:
        """Return the tokens of a frame."""
        model, shape = self._model, self._spec.info.frame_shape
        if samples.shape != shape:
            raise FrameError(f"frame is {samples.shape}, the stream holds {shape}; crop or pad it")
        if key:
            self._past = _Past.nothing()
        if model.encoder is None:
            raise EngineError("the model was loaded for decoding only; load it with its encoder")
        codes = self._window.normalize(samples).astype(np.float32) / np.float32(WINDOW_ONE)
        guidance = UNGUIDED if model.guide is None else model.guide(samples, self._spec)
        latents = model.encoder.run(
            {
                "frame": self._canvas.fit(codes)[None, None],
                **self._told(phase),
                "heart": guidance.heart[None, None],
                "anatomy": guidance.anatomy[None],
            }
        )
        return self._coder.choose(latents[0], model.nearness, model.thrift, key)

    def _paint(self, tokens: Tokens, phase: int) -> NDArray[np.uint32]:
        """Return the frame of tokens, and remember both."""
        self.tokens = tokens
        codes = self._model.codebook[tokens][None]
        frame = self._model.decoder.run({"codes": codes, **self._told(phase)})
        np.clip(frame, 0, BRIGHTEST, out=frame)
        self._past = self._past.after(frame, codes)
        return samples_of(self._canvas.restore(frame[0, 0]), self._spec)

    def _told(self, phase: int) -> Mapping[str, NDArray[Any]]:
        """Return what both networks are told of a frame before they see it."""
        inside = self._canvas.inside[None, None]
        clinical = self._facts.vector(phase)[None]
        return {**self._past.inputs(), "inside": inside, "clinical": clinical}


def samples_of(frame: Floats, spec: StreamSpec) -> NDArray[np.uint32]:
    """Return the samples of values of which 0 to 1 is the window, same shape."""
    offset, width = spec.window_low - spec.low, spec.window_high - spec.window_low
    values = np.floor(offset + frame.astype(np.float64) * width + 0.5)
    return np.clip(values, 0, spec.high - spec.low).astype(np.uint32)
