"""The decoder's networks: what encoder and decoder compute alike for a frame, in integers.

The float model is `edge_codec.nn.dwt_cal.FrameCodec`; the steps carry the names that they have
there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.base.dwt_cal_vae.attention import WEIGHTS, attend, gated_weights, motion_weights
from edge_codec.base.dwt_cal_vae.layers import Layer, Tensor, Units, Weights, join
from edge_codec.base.dwt_cal_vae.numbers import (
    BALANCE_BITS,
    COEFFICIENTS,
    GATE_BITS,
    INPUT_BITS,
    LATENT_LIMIT,
    PIXEL_BITS,
    SCALE_BITS,
    SCALES,
    SIDE_BITS,
    SIDE_STEP_BITS,
    STEP_BITS,
    STRIDE,
    SYMBOL_RANGE,
    depth_to_space,
    from_output,
    limit_pixels,
    round_shift,
    saturate,
    space_to_depth,
    to_input,
)
from edge_codec.base.dwt_cal_vae.wavelet import Wavelet

BLOCK = 2  # pixels per position of the spatial filter
ONE = 1 << GATE_BITS

Image = NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """What is kept of a frame for the next one.

    Attributes
    ----------
    decoded : ndarray, shape (8h, 8w), int16
        Pixels.
    features : ndarray, shape (h, w, features), int16
        Of the synthesis.
    """

    decoded: NDArray[np.int16]
    features: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Expected:
    """What is expected of latents before they are read.

    Attributes
    ----------
    mean : ndarray, shape (h, w, c), int32
        In the latents' unit.
    step : ndarray, shape (c,), int32
        Quantization steps, with `step_bits` more fraction bits than the latents have.
    scale : ndarray, shape (h, w, c), uint8
        Index of each symbol's distribution.
    step_bits : int
    """

    mean: Image
    step: NDArray[np.int32]
    scale: NDArray[np.uint8]
    step_bits: int

    def latents(self, symbols: NDArray[np.int16]) -> Image:
        """Latents of symbols (h, w, c)."""
        return self.mean + self.change(symbols)

    def change(self, symbols: NDArray[np.int16]) -> Image:
        """Return what symbols add to the mean."""
        return round_shift(symbols * self.step, self.step_bits)


@dataclass(frozen=True, slots=True, eq=False)
class HalfPrior:
    """Between the two halves of the latents.

    Attributes
    ----------
    x : ndarray, int16
        Features.
    mean, index : ndarray, shape (h, w, 64), int32
        Before the second half's are added: as networks give them, and `SCALE_BITS`.
    """

    x: Tensor
    mean: Image
    index: Image


class FrameNetwork:
    """One of the two codecs: of key frames, or of frames after another one.

    Parameters
    ----------
    weights : mapping of str to ndarray
        Of the zoo's `decoder.npz`.
    kind : str
        "key" or "inter".
    wavelet : Wavelet
    """

    def __init__(self, weights: Weights, kind: str, wavelet: Wavelet) -> None:
        def layer(name: str) -> Layer:
            return Layer(weights, f"{kind}.{name}")

        def units(name: str) -> Units:
            return Units(weights, f"{kind}.{name}")

        self._wavelet = wavelet
        self._is_key = kind == "key"
        if self._is_key:
            self._constant = weights["key.context"]
        else:
            self._context, self._context_units = layer("context.enter"), units("context.units")
            self._window = layer("window")
            self._motion = layer("motion_prior.expect.head")
        self._reduce = layer("side_prior.reduce")
        self._side_head = layer("side_prior.expect.head")
        self._widen, self._side_enter = layer("side_prior.widen"), layer("side_prior.enter")
        self._side_units = units("side_prior.units")
        self._side_step = weights[f"{kind}.side_prior.step"]
        self._enter, self._units = layer("prior.enter"), units("prior.units")
        self._first = layer("prior.expect_first.head")
        self._enter_second = layer("prior.enter_second")
        self._units_second = units("prior.units_second")
        self._second = layer("prior.expect_second.head")
        self._step = weights[f"{kind}.prior.step"]
        self._synthesis, self._trunk = layer("synthesis.enter"), units("synthesis.units")
        self._leave = layer("synthesis.leave")
        self._limit = np.int16(weights["features_limit"])
        names = ("hint", "spread", "enter", "middle", "leave")
        self._filter = {name: layer(f"filter.{name}") for name in names}

    def context(
        self, state: State | None, quality: int, size: tuple[int, int]
    ) -> tuple[Image, Tensor]:
        """Coefficients of the previous frame, zero without, and the context."""
        if self._is_key or state is None:
            constant = self._constant[quality]
            context = np.broadcast_to(constant, (*size, len(constant)))
            return np.zeros((*size, COEFFICIENTS), np.int32), np.ascontiguousarray(context)
        before = self._wavelet.forward(state.decoded)
        x = self._context.run(join(to_input(before), state.features), quality)
        return before, self._context_units.run(x)

    def expect_side(self, context: Tensor, quality: int) -> Expected:
        """Say what is expected of the side latents."""
        out = self._side_head.run(self._reduce.run(context), quality)
        mean, index = np.split(out.astype(np.int32), 2, axis=2)
        step = self._side_step[quality]
        return Expected(mean, step, _scales(index), SIDE_STEP_BITS - SIDE_BITS)

    def features(self, side: Image, context: Tensor, quality: int) -> Tensor:
        """Features of side latents and the context."""
        h, w = context.shape[:2]
        fine = depth_to_space(self._widen.run(saturate(side)), 2)[:h, :w]
        x = self._side_enter.run(join(fine, context), quality)
        return self._side_units.run(x)

    def motion_scales(self, features: Tensor) -> NDArray[np.uint8]:
        """Distributions of the displacements, shape (h, w, 2)."""
        return _scales(self._motion.run(features).astype(np.int32))

    def predict(
        self, state: State | None, features: Tensor, motion: NDArray[np.int16]
    ) -> tuple[NDArray[np.int16], Image]:
        """Make the prediction and its coefficients; zero for key frames."""
        h, w = features.shape[:2]
        if self._is_key or state is None:
            black = np.zeros((STRIDE * h, STRIDE * w), np.int16)
            return black, np.zeros((h, w, COEFFICIENTS), np.int32)
        weights = motion_weights(motion) + gated_weights(self._window.run(features))
        prediction = attend(state.decoded, weights[..., :WEIGHTS])
        return prediction, self._wavelet.forward(prediction)

    def expect_first(
        self, features: Tensor, known: Image, quality: int
    ) -> tuple[Expected, HalfPrior]:
        """Say what is expected of the latents from the features alone."""
        x = self._units.run(self._enter.run(join(features, to_input(known)), quality))
        mean, index = np.split(self._first.run(x, quality).astype(np.int32), 2, axis=2)
        return self._expected(mean, index, quality), HalfPrior(x, mean, index)

    def expect_second(
        self, half: HalfPrior, symbols: NDArray[np.int16], first: Expected, quality: int
    ) -> Expected:
        """Say what is expected of the rest, given the first half's symbols, else zeros."""
        clipped = np.clip(symbols, -SYMBOL_RANGE, SYMBOL_RANGE) << INPUT_BITS
        change = to_input(first.change(symbols))
        rows, columns = symbols.shape[:2]
        board = (np.add.outer(np.arange(rows), np.arange(columns)) % 2).astype(np.int16)
        x = join(half.x, clipped, change, board[..., None] << INPUT_BITS)
        more = self._second.run(self._units_second.run(self._enter_second.run(x)))
        mean, index = np.split(more.astype(np.int32), 2, axis=2)
        return self._expected(half.mean + mean, half.index + index, quality)

    def _expected(self, mean: Image, index: Image, quality: int) -> Expected:
        step = self._step[quality]
        return Expected(from_output(mean), step, _scales(index), STEP_BITS - PIXEL_BITS)

    def finish(
        self,
        latents: Image,
        prediction: NDArray[np.int16],
        known: Image,
        features: Tensor,
        quality: int,
    ) -> State:
        """Synthesize and filter the frame from its latents."""
        latents = np.clip(latents, -LATENT_LIMIT, LATENT_LIMIT)
        x = self._synthesis.run(join(to_input(latents), to_input(known), features), quality)
        trunk = np.clip(self._trunk.run(x), -self._limit, self._limit)
        out = self._leave.run(trunk).astype(np.int32)
        gates = np.clip(out[..., COEFFICIENTS:] + ONE // 2, 0, ONE)
        change = latents + _unbalance(out[..., :COEFFICIENTS] * gates[..., :1])
        decoded = self._wavelet.change(prediction, change)
        return State(self._clean(decoded, prediction, trunk, gates[..., 1:], quality), trunk)

    def _clean(
        self,
        frame: NDArray[np.int16],
        prediction: NDArray[np.int16],
        trunk: Tensor,
        gate: Image,
        quality: int,
    ) -> NDArray[np.int16]:
        """Apply the spatial filter."""
        parts = self._filter
        change = saturate(frame.astype(np.int32) - prediction)
        pair = np.concatenate((space_to_depth(frame, BLOCK), space_to_depth(change, BLOCK)), axis=2)
        hint = _enlarge(parts["spread"].run(parts["hint"].run(trunk), quality))
        x = parts["middle"].run(parts["enter"].run(pair, addend=hint))
        correction = parts["leave"].run(x) * _enlarge(gate)
        pixels = depth_to_space(round_shift(correction, 2 * GATE_BITS - PIXEL_BITS), BLOCK)
        return limit_pixels(frame + pixels[..., 0])


def _scales(index: Image) -> NDArray[np.uint8]:
    """Round indices to those of distributions."""
    rounded = round_shift(index, SCALE_BITS)
    scales: NDArray[np.uint8] = np.clip(rounded, 0, SCALES - 1).astype(np.uint8)
    return scales


def _unbalance(correction: Image) -> Image:
    """Turn products of correction and gate into latents: undo what `to_input` multiplies by."""
    # BALANCE is 2 for a factor of one.
    shift = (2 * GATE_BITS - PIXEL_BITS - 1) + BALANCE_BITS
    rounded: Image = (correction + (1 << (shift - 1))) >> shift
    return rounded


def _enlarge(image: NDArray[Any]) -> NDArray[Any]:
    """Repeat each position four times along both axes: an eighth to half the resolution."""
    return image.repeat(4, axis=0).repeat(4, axis=1)
