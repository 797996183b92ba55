"""DWT-CAL: a conditional video codec of wavelet, cross-attention and variational autoencoder.

A key frame is coded by itself, every other frame given the previous *decoded* one, so that each
frame can be decoded as soon as it arrives. For a frame (`FrameCodec.forward`, top down):

1. The decoder's features of the previous frame become a context.
2. A few side latents tell what the context cannot know, such as how much has changed.
3. Every block's displacement is sent. The previous decoded frame, seen through a window of weights
   that the displacements and the features give, becomes the prediction. Where the weights are zero
   it is the previous frame itself.
4. The latents are the wavelet coefficients of frame minus prediction, plus a learned correction
   that sees how the subbands of the two attend to each other.
5. They are quantized around what the decoder expects, and entropy coded (`latent_prior`).
6. The decoded latents, plus a learned correction through a gate, are added to the prediction's
   coefficients; a trainable filter finishes the frame, through a gate too.

Whatever a frame leaves to the next one is bounded, the decoded frame and the features, so that no
input and no weights let a sequence run away.

Both learned corrections start at zero, so that training starts from a working wavelet codec with
closed-loop prediction, and every gate can close: static content then stays exactly as it was
decoded once, at no cost, however long the sequence is.

Decoder and encoder share everything but `side_analysis`, `analysis` and the match of frames. What
they share is made of convolutions, ReLU, clips, sums and products of small tables: nothing that an
exact integer network could not do.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edge_codec.errors import SpecError
from edge_codec.nn.cross_attention import (
    WEIGHTS,
    attend_window,
    find_motion,
    match_scores,
    motion_weights,
    window_errors,
)
from edge_codec.nn.depth_unit import silent
from edge_codec.nn.dwt_cal_parts import (
    GATE_START,
    Analysis,
    Context,
    KeyContext,
    SideAnalysis,
    Synthesis,
)
from edge_codec.nn.laplace import Coded
from edge_codec.nn.latent_prior import LatentPrior, MotionPrior, SidePrior
from edge_codec.nn.lifting import COEFFICIENTS, STRIDE, Lifting
from edge_codec.nn.quality import bounded, hard_gate, trade_off
from edge_codec.nn.spatial_filter import SpatialFilter
from edge_codec.nn.vqvae import ConvUnit

KEY_ONLY = ("side_", "expect", "leave.")
"""Parts of the names of weights that the two codecs don't share at the start."""


FRAME_RANGE = (-0.5, 3.5)
"""Bounds of predictions and decoded frames. 0..1 is the window up to the 99.9th percentile; the
brightest voxel of an exam is rarely above 2.3."""


@dataclass(frozen=True, slots=True)
class DwtCalConfig:
    """Sizes of the network.

    Parameters
    ----------
    features : int
        Channels at an eighth of the resolution, where nearly everything happens.
    side : int
        Side latents per position at a sixteenth.
    analysis_depth, prior_depth, synthesis_depth : int
        Residual units of each part.
    filter_width : int
        Channels of the spatial filter at half the resolution.
    wavelet : str
        "9/7" or "5/3".
    learned_lifting : bool
        Train the wavelet's coefficients too.
    """

    features: int = 96
    side: int = 16
    analysis_depth: int = 2
    prior_depth: int = 2
    synthesis_depth: int = 3
    filter_width: int = 16
    wavelet: str = "9/7"
    learned_lifting: bool = False


SIZES = {
    "s": DwtCalConfig(),
    "m": DwtCalConfig(
        features=192,
        side=32,
        analysis_depth=4,
        prior_depth=4,
        synthesis_depth=6,
        filter_width=32,
    ),
}
"""`s` for CPUs and small boards, `m` for GPUs."""


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """What a decoder keeps of a frame for the next one.

    Attributes
    ----------
    decoded : Tensor, shape (n, 1, 8h, 8w), float
    features : Tensor, shape (n, features, h, w), float
        Of the synthesis.
    """

    decoded: Tensor
    features: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Symbols:
    """What is entropy coded for a frame: integers, as floats.

    Attributes
    ----------
    side : Tensor, shape (n, side, ceil(h / 2), ceil(w / 2))
    motion : Tensor, shape (n, 2, h, w)
        Half pixels; zero for key frames, where they are not coded.
    latents : Tensor, shape (n, 64, h, w)
    """

    side: Tensor
    motion: Tensor
    latents: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class CodedFrame:
    """A frame after coding and decoding.

    Attributes
    ----------
    decoded, prediction : Tensor, shape (n, 1, 8h, 8w), float
    bits, side_bits : Tensor, shape (n,), float
        All bits of the frame, and those of side latents and motion.
    symbols : Symbols
    state : State
    """

    decoded: Tensor
    prediction: Tensor
    bits: Tensor
    side_bits: Tensor
    symbols: Symbols
    state: State


@dataclass(frozen=True, slots=True, eq=False)
class Rollout:
    """A group of frames after coding and decoding.

    Attributes
    ----------
    decoded, prediction : Tensor, shape (n, t, 8h, 8w), float
    bits, side_bits : Tensor, shape (n, t), float
    """

    decoded: Tensor
    prediction: Tensor
    bits: Tensor
    side_bits: Tensor


class DwtCal(nn.Module):
    """Key-frame codec and conditional codec together.

    Raises
    ------
    SpecError
        If the configuration's wavelet is unknown.
    """

    def __init__(self, config: DwtCalConfig) -> None:
        super().__init__()
        self.config = config
        self.lifting = Lifting(config.wavelet, config.learned_lifting)
        self.key = FrameCodec(config, "key")
        self.inter = FrameCodec(config, "inter")

    def forward(self, frame: Tensor, state: State | None, quality: Tensor) -> CodedFrame:
        """Code frames, each given the state after the one before it, or None for key frames.

        Parameters
        ----------
        frame : Tensor, shape (n, 1, 8h, 8w), float
            0..1 is the exam's window; values outside are allowed.
        state : State or None
        quality : Tensor, shape (n,), float
            Indices 0..63.

        Raises
        ------
        SpecError
            If a side is no multiple of 8.
        """
        if frame.shape[-1] % STRIDE or frame.shape[-2] % STRIDE:
            raise SpecError(
                f"frames of {tuple(frame.shape[-2:])} are no multiples of {STRIDE}; pad them first"
            )
        codec = self.inter if state is not None else self.key
        result: CodedFrame = codec(frame, state, quality, self.lifting)
        return result

    def decode(self, symbols: Symbols, state: State | None, quality: Tensor) -> CodedFrame:
        """Decode frames from their symbols and what the frame before left: the decoder's whole way.

        Gives what `forward` gave to the encoder, in the same arithmetic.
        """
        codec = self.inter if state is not None else self.key
        return codec.decode(symbols, state, quality, self.lifting)

    def rollout(self, frames: Tensor, quality: Tensor) -> Rollout:
        """Code groups of frames that begin with a key frame.

        Parameters
        ----------
        frames : Tensor, shape (n, t, 8h, 8w), float
        quality : Tensor, shape (n, t), float
        """
        state = None
        coded = []
        for index in range(frames.shape[1]):
            coded.append(self(frames[:, index, None], state, quality[:, index]))
            state = coded[-1].state
        return Rollout(
            torch.cat([frame.decoded for frame in coded], dim=1),
            torch.cat([frame.prediction for frame in coded], dim=1),
            torch.stack([frame.bits for frame in coded], dim=1),
            torch.stack([frame.side_bits for frame in coded], dim=1),
        )

    def start_inter_from_key(self) -> None:
        """Give the conditional codec what it can use of the key-frame codec's weights.

        These are the steps, the filter and the trunks. What a key frame expects of its latents and
        how it corrects them says nothing about a difference between frames.
        """
        own = self.inter.state_dict()
        same = {
            name: value
            for name, value in self.key.state_dict().items()
            if name in own
            and own[name].shape == value.shape
            and not any(part in name for part in KEY_ONLY)
        }
        self.inter.load_state_dict({**own, **same})


class FrameCodec(nn.Module):
    """Codes one frame: `kind` "key" without a previous frame, "inter" with one."""

    def __init__(self, config: DwtCalConfig, kind: str) -> None:
        super().__init__()
        features = config.features
        inter = kind == "inter"
        self.context = Context(features) if inter else KeyContext(features)
        self.side_analysis = SideAnalysis(features, config.side, inter)
        self.side_prior = SidePrior(features, config.side)
        self.window = silent(ConvUnit(features, WEIGHTS + 1, 1, relu=False)) if inter else None
        self.motion_prior = MotionPrior(features) if inter else None
        self.analysis = Analysis(features, config.analysis_depth)
        self.prior = LatentPrior(features, config.prior_depth, kind)
        self.synthesis = Synthesis(features, config.synthesis_depth)
        self.filter = SpatialFilter(config.filter_width, features)

    def forward(
        self, frame: Tensor, state: State | None, quality: Tensor, lifting: Lifting
    ) -> CodedFrame:
        """Code frames (n, 1, 8h, 8w); see `DwtCal.forward`."""
        coefficients = lifting(frame)
        before, context = self._context(state, quality, lifting, coefficients.shape[-2:])
        errors = None if state is None else window_errors(frame, state.decoded)
        scores = None if errors is None else match_scores(errors)
        side = self.side_prior.code(
            self.side_analysis(coefficients - before, before, context, scores), context, quality
        )
        features = self.side_prior.features(side.latents, context, quality)
        motion = features.new_zeros(len(frame), 2, *features.shape[-2:], dtype=torch.float32)
        if errors is not None:
            motion = find_motion(errors, trade_off(quality)[:, None, None, None])
        prediction, known = self._predict(state, features, motion, lifting)
        residual = coefficients - known
        latents = residual + self.analysis(residual, known, features)
        coded = self.prior.code(latents, features, known, quality)
        return self._finish(prediction, known, features, (side, motion, coded), quality, lifting)

    def decode(
        self, symbols: Symbols, state: State | None, quality: Tensor, lifting: Lifting
    ) -> CodedFrame:
        """Decode frames; see `DwtCal.decode`."""
        _, context = self._context(state, quality, lifting, symbols.latents.shape[-2:])
        side = self.side_prior.decode(symbols.side, context, quality)
        features = self.side_prior.features(side.latents, context, quality)
        motion = symbols.motion
        prediction, known = self._predict(state, features, motion, lifting)
        coded = self.prior.decode(symbols.latents, features, known, quality)
        return self._finish(prediction, known, features, (side, motion, coded), quality, lifting)

    def _context(
        self, state: State | None, quality: Tensor, lifting: Lifting, size: torch.Size
    ) -> tuple[Tensor, Tensor]:
        """Coefficients of the previous frame, zero for key frames, and the context."""
        if state is None:
            before = quality.new_zeros(len(quality), COEFFICIENTS, *size)
            return before, self.context(before, None, quality)
        before = lifting(state.decoded)
        return before, self.context(before, state.features, quality)

    def _predict(
        self, state: State | None, features: Tensor, motion: Tensor, lifting: Lifting
    ) -> tuple[Tensor, Tensor]:
        """See the previous frame through the window, black for key frames; its coefficients too."""
        if state is None or self.window is None:
            n, _, h, w = features.shape
            black = features.new_zeros(n, 1, STRIDE * h, STRIDE * w, dtype=torch.float32)
            return black, features.new_zeros(n, COEFFICIENTS, h, w, dtype=torch.float32)
        more = self.window(features).float()
        gate = hard_gate(GATE_START + more[:, WEIGHTS:])
        weights = motion_weights(motion) + gate * more[:, :WEIGHTS].clamp(-1.0, 1.0)
        prediction = bounded(attend_window(state.decoded, weights), *FRAME_RANGE)
        return prediction, lifting(prediction)

    def _finish(
        self,
        prediction: Tensor,
        known: Tensor,
        features: Tensor,
        parts: tuple[Coded, Tensor, Coded],
        quality: Tensor,
        lifting: Lifting,
    ) -> CodedFrame:
        """Synthesize and filter the frame, from side latents, motion and latents."""
        side, motion, coded = parts
        change, gate, trunk = self.synthesis(coded.latents, known, features, quality)
        decoded = prediction + lifting.inverse(change)
        decoded = self.filter(decoded, prediction, trunk, gate, quality)
        decoded = bounded(decoded, *FRAME_RANGE)
        side_bits = side.bits.sum((1, 2, 3))
        if self.motion_prior is not None:
            side_bits = side_bits + self.motion_prior(features, motion).sum((1, 2, 3))
        bits = side_bits + coded.bits.sum((1, 2, 3))
        symbols = Symbols(side.symbols, motion, coded.symbols)
        return CodedFrame(decoded, prediction, bits, side_bits, symbols, State(decoded, trunk))
