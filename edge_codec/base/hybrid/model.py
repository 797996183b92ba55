"""The `dwt-cal` model of a stream: it has no weights, only what the encoder is asked to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_codec.base.hybrid.coder import HybridCoder
from edge_codec.base.hybrid.quantizer import DEFAULT_QUALITY
from edge_codec.base.hybrid.rate_control import (
    DEFAULT_BUFFER_FRAMES,
    BufferedRate,
    ConstantQuality,
    RateControl,
    RateReport,
)
from edge_codec.engine import Mapper
from edge_codec.spec import Effort, StreamSpec


@dataclass(frozen=True, slots=True)
class HybridSettings:
    """What an encoder is asked to do; a decoder needs none of it.

    Attributes
    ----------
    quality : int
        0 to 63, the finest, for all frames; without effect where `bits_per_frame` is given.
    bits_per_frame : float, optional
        Mean bits of the payloads of a slice's frames; the quality follows from it.
    buffer_frames : float
        With `bits_per_frame`: size of the buffer, in frames' worth of bits.
    effort : Effort
        How long to look for a small coding of a frame.
    """

    quality: int = DEFAULT_QUALITY
    bits_per_frame: float | None = None
    buffer_frames: float = DEFAULT_BUFFER_FRAMES
    effort: Effort = Effort.DEFAULT

    def control(self, spec: StreamSpec) -> RateControl:
        """Return what chooses the quantizers of a slice.

        Raises
        ------
        SpecError
            If a setting is out of range.
        """
        if self.bits_per_frame is None:
            return ConstantQuality(self.quality, spec.archive)
        rows, columns = spec.info.frame_shape
        return BufferedRate(self.bits_per_frame, rows * columns, spec.archive, self.buffer_frames)


class HybridModel:
    """Makes the coders of a stream's slices.

    Parameters
    ----------
    settings : HybridSettings, optional
        For encoding.
    """

    def __init__(self, settings: HybridSettings | None = None) -> None:
        self._settings = settings or HybridSettings()
        self._report = RateReport()

    @property
    def report(self) -> RateReport:
        """What became of the bits of all frames that `encode_frames` has coded, of all slices."""
        return self._report

    def coder(self, spec: StreamSpec, mapper: Mapper = map) -> HybridCoder:
        """See `edge_codec.base.layer.BaseModel.coder`.

        Raises
        ------
        SpecError
            If a setting is out of range.
        """
        return HybridCoder(spec, self._settings.control(spec), self._settings.effort, mapper)

    def encode_frames(
        self,
        coders: Sequence[HybridCoder],
        samples: Sequence[NDArray[np.uint32]],
        phases: Sequence[int],
        keys: Sequence[bool],
        aheads: Sequence[Sequence[NDArray[np.uint32]]] = (),
    ) -> list[tuple[bytes, NDArray[np.uint32]]]:
        """See `edge_codec.base.layer.BaseModel.encode_frames`."""
        frames = zip(coders, samples, phases, keys, aheads or [()] * len(keys), strict=True)
        return [self._encode_frame(*frame) for frame in frames]

    def _encode_frame(
        self,
        coder: HybridCoder,
        samples: NDArray[np.uint32],
        phase: int,
        key: bool,
        ahead: Sequence[NDArray[np.uint32]],
    ) -> tuple[bytes, NDArray[np.uint32]]:
        """Code a frame of one slice and take its bits into the report."""
        before = coder.control.report.overflows
        payload, base = coder.encode(samples, phase, key, ahead)
        slice_report = coder.control.report
        self._report = self._report.after(
            8 * len(payload), slice_report.fullest, slice_report.overflows - before
        )
        return payload, base
