"""Which quantizer a frame gets: of a constant quality, or so that a channel carries the stream.

A channel of constant rate takes the same number of bits in each frame's time; what does not fit
waits in a buffer (the leaky bucket of the hypothetical reference decoders of H.264 and H.265, Annex
C there). `BufferedRate` keeps the mean at the target and the buffer below its size. It knows how
many bits each layer of the structure takes at each quantizer from a model that learns with every
frame (`edge_codec.base.hybrid.rate_model`). For every frame it looks for the one level of quality
at which all that is left of the group would take what is left of the group's bits: so key frames
and anchors get their larger share from the offsets of the structure, as at constant quality.
Nothing of this is needed to decode, and equal frames give equal decisions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from edge_codec.base.hybrid.quantizer import (
    FINEST,
    QUANTIZERS,
    check_quality,
    level_of,
    offsets,
    quantizer_at,
)
from edge_codec.base.hybrid.rate_model import RateModel
from edge_codec.errors import SpecError

DEFAULT_BUFFER_FRAMES = 32.0

# Of the buffer, full when a stream begins and when a group ends: room for errors on both sides.
_START = 0.25
_SLACK = 0.9  # of the space in the buffer, what a frame may be predicted to take
_STEADY = 3  # indices that the level may move from one frame to the next in a group
_TRIES = 3  # codings of a key frame
_SURPRISE = 1.25  # times what was planned: a slice's first key frame is coded again


@dataclass(frozen=True, slots=True)
class RateReport:
    """What became of the bits of a slice, or of all slices of a model.

    Attributes
    ----------
    frames, bits : int
        Frames coded, and bits of their payloads.
    largest : int
        Bits of the largest payload.
    fullest : float
        Most bits that waited in the buffer after a frame; 0 without a buffer.
    overflows : int
        Frames after which more waited than the buffer holds: a decoder that starts after the
        buffer's delay would have to wait for them.
    """

    frames: int = 0
    bits: int = 0
    largest: int = 0
    fullest: float = 0.0
    overflows: int = 0

    @property
    def mean(self) -> float:
        """Mean bits of a frame; 0 without frames."""
        return self.bits / self.frames if self.frames else 0.0

    def after(self, bits: int, waiting: float = 0.0, overflows: int = 0) -> RateReport:
        """Return the report once another frame is coded.

        Parameters
        ----------
        bits : int
            What the frame took.
        waiting : float
            Bits in its slice's buffer after it.
        overflows : int
            1 if that is more than the buffer holds, else 0.
        """
        return RateReport(
            self.frames + 1,
            self.bits + bits,
            max(self.largest, bits),
            max(self.fullest, waiting),
            self.overflows + overflows,
        )


class RateControl(Protocol):
    """Chooses the quantizers of the frames of one slice, in the order in which they are coded."""

    @property
    def report(self) -> RateReport:
        """What became of the bits so far."""

    def choose(self, layer: int, ahead: Callable[[], Sequence[int]]) -> int:
        """Return the quantizer of the next frame.

        Parameters
        ----------
        layer : int
            Its layer.
        ahead : callable
            Returns the layers of the frame and of those that follow it in its group, as far as
            anything is planned.
        """

    def again(self, quantizer: int, bits: int) -> int | None:
        """Return what to code a key frame with once more, None where it is well as it is.

        Parameters
        ----------
        quantizer, bits : int
            What it was coded with, and what it took.
        """

    def spend(self, layer: int, quantizer: int, bits: int) -> None:
        """Learn what a frame took."""


class ConstantQuality:
    """The same quality for all frames, but for the offsets of their layers.

    Parameters
    ----------
    quality : int
        0 to `MAX_QUALITY`, the finest.
    archive : bool
        Structure of the stream.

    Raises
    ------
    SpecError
        If there is no such quality.
    """

    def __init__(self, quality: int, archive: bool = False) -> None:
        check_quality(quality)
        self._quantizers = [quantizer_at(level_of(quality), add) for add in offsets(archive)]
        self._report = RateReport()

    @property
    def report(self) -> RateReport:
        """See `RateControl.report`."""
        return self._report

    def choose(self, layer: int, ahead: Callable[[], Sequence[int]]) -> int:
        """See `RateControl.choose`."""
        del ahead
        return self._quantizers[layer]

    def again(self, quantizer: int, bits: int) -> int | None:
        """See `RateControl.again`."""
        del quantizer, bits
        return None

    def spend(self, layer: int, quantizer: int, bits: int) -> None:
        """See `RateControl.spend`."""
        del layer, quantizer
        self._report = self._report.after(bits)


class BufferedRate:
    """A mean number of bits for a frame, and a buffer that does not overflow.

    Parameters
    ----------
    bits_per_frame : float
        What the channel takes in a frame's time: bits of payload.
    voxels : int
        Size of a frame.
    archive : bool
        Structure of the stream.
    buffer_frames : float
        Size of the buffer, in frames' worth of the channel: the delay that a receiver has to
        allow for. A key frame takes as much as tens of other frames and must fit.

    Raises
    ------
    SpecError
        If the target is less than eight bits, or the buffer is shorter than a frame.
    """

    def __init__(
        self,
        bits_per_frame: float,
        voxels: int,
        archive: bool = False,
        buffer_frames: float = DEFAULT_BUFFER_FRAMES,
    ) -> None:
        if not (math.isfinite(bits_per_frame) and bits_per_frame >= 8):
            raise SpecError(f"bits_per_frame is {bits_per_frame}; a frame takes at least 8")
        if not (math.isfinite(buffer_frames) and buffer_frames >= 1):
            raise SpecError(f"buffer_frames is {buffer_frames}; a buffer holds at least one frame")
        self._target = bits_per_frame
        self._size = bits_per_frame * buffer_frames
        self._offsets = offsets(archive)
        self._model = RateModel(voxels)
        self._fullness = _START * self._size
        self._level = 0.0  # of the frame before
        self._planned = 0.0  # bits of the frame in work
        self._layers: Sequence[int] = ()
        self._tries = 0
        self._report = RateReport(fullest=self._fullness)

    @property
    def report(self) -> RateReport:
        """See `RateControl.report`."""
        return self._report

    def choose(self, layer: int, ahead: Callable[[], Sequence[int]]) -> int:
        """See `RateControl.choose`."""
        self._layers = ahead()
        self._tries = 1
        return self._choose(layer)

    def _choose(self, layer: int) -> int:
        """Return the quantizer that the model holds to be right for the next frame."""
        level = self._find_level(self._layers)
        if layer != 0:
            level = min(max(level, self._level - _STEADY), self._level + _STEADY)
        quantizer = quantizer_at(round(level), self._offsets[layer])
        self._level = round(level)
        limit = _SLACK * self._space()
        while quantizer < QUANTIZERS - 1 and self._model.bits(layer, quantizer) > limit:
            quantizer += 1
        self._planned = self._model.bits(layer, quantizer)
        return quantizer

    def _space(self) -> float:
        """Return the bits that the next frame may take."""
        return self._size - self._fullness + self._target

    def _find_level(self, layers: Sequence[int]) -> float:
        """Return the level at which frames of these layers take the bits that there are."""
        even = self._target * len(layers)
        budget = max(even + _START * self._size - self._fullness, even / 8)
        counts = [(layer, layers.count(layer)) for layer in sorted(set(layers))]
        low, high = float(FINEST - max(self._offsets)), float(QUANTIZERS)
        while high - low > 1 / 8:
            level = (low + high) / 2
            bits = sum(
                count * self._model.bits(layer, level + self._offsets[layer])
                for layer, count in counts
            )
            low, high = (level, high) if bits > budget else (low, level)
        return high

    def again(self, quantizer: int, bits: int) -> int | None:
        """See `RateControl.again`."""
        overflows = bits > self._space()
        ratio = bits / self._planned
        surprising = not 1 / _SURPRISE < ratio < _SURPRISE
        if self._tries >= _TRIES or not (overflows or (surprising and not self._report.frames)):
            return None
        self._tries += 1
        self._model.believe(0, quantizer, bits)
        better = self._choose(0)
        return None if better == quantizer else better

    def spend(self, layer: int, quantizer: int, bits: int) -> None:
        """See `RateControl.spend`."""
        self._model.learn(layer, quantizer, bits)
        self._fullness = max(0.0, self._fullness + bits - self._target)
        self._report = self._report.after(bits, self._fullness, self._fullness > self._size)
