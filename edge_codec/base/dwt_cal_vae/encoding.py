"""The encoder's choices: displacements, latents and their symbols.

Floats may decide here, since the decoder depends on nothing but the symbols. The float models are
those of `edge_codec.nn.cross_attention`, `edge_codec.nn.laplace` and the analyses of
`edge_codec.nn.dwt_cal_parts`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edge_codec.base.dwt_cal_vae.codec import Known
from edge_codec.base.dwt_cal_vae.layers import Layer, Units, Weights, join
from edge_codec.base.dwt_cal_vae.network import Expected, Image, State
from edge_codec.base.dwt_cal_vae.numbers import (
    BALANCE,
    INPUT_BITS,
    LARGEST_SYMBOL,
    PIXEL_BITS,
    round_shift,
    saturate,
    to_input,
)
from edge_codec.base.dwt_cal_vae.reading import Coded
from edge_codec.base.dwt_cal_vae.scales import symbol_bits
from edge_codec.base.dwt_cal_vae.search import find_motion, match_scores, window_errors
from edge_codec.base.dwt_cal_vae.wavelet import Wavelet

CORRECTION_BITS = 11  # of what the analysis adds to latents
LOWEST_TRADE_OFF = 16.0
INDICES_PER_OCTAVE = 6.0
MAX_SHIFT = 0.5
HEAD = 8  # length of a query
BANDS = (1, 1, 1, 1, 4, 4, 4, 16, 16, 16)

Floats = NDArray[np.float32]


def trade_off(quality: int) -> float:
    """Bits that a unit of squared error is worth at a quality."""
    return LOWEST_TRADE_OFF * math.pow(2.0, quality / INDICES_PER_OCTAVE)


class Analysis:
    """The networks that only an encoder has, of one kind of frames.

    Parameters
    ----------
    weights : mapping of str to ndarray
        Of the zoo's `encoder.npz`.
    kind : str
        "key" or "inter".
    """

    def __init__(self, weights: Weights, kind: str) -> None:
        def layer(name: str) -> Layer:
            return Layer(weights, f"{kind}.{name}")

        self._side_enter, self._side_leave = (
            layer("side_analysis.enter"),
            layer("side_analysis.leave"),
        )
        self._side_units = Units(weights, f"{kind}.side_analysis.units")
        self._enter, self._leave = layer("analysis.enter"), layer("analysis.leave")
        self._units = Units(weights, f"{kind}.analysis.units")
        self._attention = {
            name: weights[f"{kind}.analysis.attention.{name}"].astype(np.float32)
            for name in ("embed", "embed_bias", "project", "project_bias")
        }

    def side(self, change: Image, known: Known, scores: Floats | None) -> NDArray[np.int16]:
        """Side latents, `SIDE_BITS`, of the change of coefficients and the previous frame's."""
        parts = [to_input(change), to_input(known.coefficients), known.features]
        if scores is not None:
            parts.append(saturate(np.rint(scores * (1 << INPUT_BITS))))
        return self._side_leave.run(self._side_units.run(self._side_enter.run(join(*parts))))

    def latents(self, residual: Image, known: Known) -> Image:
        """Latents of the residual's coefficients: themselves, corrected."""
        change, reference = to_input(residual), to_input(known.coefficients)
        mixed = self._attend(change, reference)
        x = self._enter.run(join(change, reference, known.features), addend=mixed)
        out = self._leave.run(self._units.run(x)).astype(np.int32)
        # BALANCE is 2 for a factor of one: see `to_input`.
        correction = round_shift(out * (16 // BALANCE), CORRECTION_BITS - PIXEL_BITS + 3)
        corrected: Image = residual + correction
        return corrected

    def _attend(self, change: NDArray[np.int16], reference: NDArray[np.int16]) -> NDArray[np.int16]:
        """Let the subbands of a frame look at each other and at those of its prediction."""
        h, w = change.shape[:2]
        pair = np.stack((change, reference)).reshape(2, h * w, -1) / np.float32(1 << INPUT_BITS)
        embed, bias = self._attention["embed"], self._attention["embed_bias"]
        width = len(BANDS) * HEAD
        own = (pair[0] @ embed[: 3 * width].T + bias[: 3 * width]).reshape(h * w, 3, -1, HEAD)
        other = (pair[1] @ embed[3 * width :].T + bias[3 * width :]).reshape(h * w, 2, -1, HEAD)
        keys = np.concatenate((own[:, 1], other[:, 0]), axis=1)
        values = np.concatenate((own[:, 2], other[:, 1]), axis=1)
        weights = np.maximum(own[:, 0] @ keys.transpose(0, 2, 1), 0)
        weights /= 1 + weights.sum(axis=2, keepdims=True)
        mixed = (weights @ values).reshape(h * w, width)
        out = mixed @ self._attention["project"].T + self._attention["project_bias"]
        return saturate(np.rint(out)).reshape(h, w, -1)


class SymbolChooser:
    """Chooses a frame's symbols: the counterpart of `reading.SymbolReader`.

    Parameters
    ----------
    analysis : Analysis
    wavelet : Wavelet
    frame : ndarray, shape (8h, 8w), int16
        Pixels.
    state : State or None
        Left by the frame before.
    quality : int
    """

    def __init__(
        self,
        analysis: Analysis,
        wavelet: Wavelet,
        frame: NDArray[np.int16],
        state: State | None,
        quality: int,
    ) -> None:
        self._analysis = analysis
        self._coefficients = wavelet.forward(frame)
        self._price = trade_off(quality)
        self._errors = None if state is None else window_errors(frame, state.decoded)
        self._latents: Image | None = None
        self.parts: list[Coded] = []
        """Distributions and symbols in the order of the payload."""

    def side(self, expected: Expected, known: Known) -> NDArray[np.int16]:
        """See `codec.Symbols.side`: the nearest ones."""
        scores = None if self._errors is None else match_scores(self._errors)
        change = self._coefficients - known.coefficients
        side = self._analysis.side(change, known, scores)
        exact = (side - expected.mean) * float(1 << expected.step_bits) / expected.step
        return self._keep(expected.scale, _whole(np.rint(exact)))

    def motion(self, scales: NDArray[np.uint8]) -> NDArray[np.int16]:
        """See `codec.Symbols.motion`."""
        errors = self._errors
        if errors is None:
            return np.zeros(scales.shape, np.int16)
        return self._keep(scales, find_motion(errors, self._price))

    def latents(
        self, expected: Expected, known: Known, places: NDArray[np.intp]
    ) -> NDArray[np.int16]:
        """See `codec.Symbols.latents`: those that cost least, in bits and in errors."""
        if self._latents is None:
            self._latents = self._analysis.latents(self._coefficients - known.coefficients, known)
        step = expected.step.astype(np.float32) / np.float32(1 << expected.step_bits)
        change = (self._latents - expected.mean).astype(np.float32)
        value = (change / step).ravel()[places]
        weight = np.float32(self._price) * (step / np.float32(1 << PIXEL_BITS)) ** 2
        weights = np.broadcast_to(weight, expected.mean.shape).ravel()[places]
        scale = expected.scale.ravel()[places]
        return self._keep(scale, choose_symbols(value, scale, weights))

    def _keep(self, scale: NDArray[np.uint8], symbols: NDArray[np.int16]) -> NDArray[np.int16]:
        self.parts.append((scale, symbols))
        return symbols


def choose_symbols(value: Floats, scale: NDArray[np.uint8], weight: Floats) -> NDArray[np.int16]:
    """Round with the cost in mind: the best of the two integers around a value, and zero.

    Parameters
    ----------
    value : ndarray, float
        Latents minus their means, in steps.
    scale : ndarray, uint8, same shape
        Index of the distribution.
    weight : ndarray, float, same shape
        Bits that a squared error of one step is worth.
    """
    table = symbol_bits()
    size = np.abs(value)
    shift = (0.5 / math.log(2.0)) / np.maximum(table.width[scale] * weight, 1e-9)
    rounded = np.maximum(np.floor(size + 0.5 - np.minimum(shift, MAX_SHIFT)), 1.0)
    saved = weight * (np.square(size) - np.square(size - rounded))
    cost = table.first[scale] + (rounded - 1.0) * table.more[scale] - table.zero[scale]
    return _whole(np.where(saved > cost, rounded, 0.0) * np.sign(value))


def _whole(symbols: NDArray[np.floating]) -> NDArray[np.int16]:
    clipped: NDArray[np.int16] = np.clip(symbols, -LARGEST_SYMBOL, LARGEST_SYMBOL).astype(np.int16)
    return clipped
