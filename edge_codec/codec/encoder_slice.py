"""What an encoder keeps of one slice, and the residual layer that keeps the stream's promises."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edge_codec.base.layer import BaseModel
from edge_codec.codec.samples import base_coder, bounded_region
from edge_codec.engine import Mapper
from edge_codec.errors import EngineError, FrameError
from edge_codec.noise import allowed_variance
from edge_codec.residual import ResidualEncoder
from edge_codec.spec import StreamSpec


class EncoderSlice:
    """Encoding state of one slice.

    Parameters
    ----------
    spec : StreamSpec
        The stream, of this slice alone.
    model : BaseModel or None
        Of its base layer.
    mapper : callable
        As for `Encoder`.
    turn : int
        Of its next frame: how many are coded before it (`edge_codec.bitstream.phases`).
    has_base : bool
        Whether its frames have a base layer where the stream has.
    """

    def __init__(
        self,
        spec: StreamSpec,
        model: BaseModel | None,
        mapper: Mapper,
        turn: int,
        has_base: bool = True,
    ) -> None:
        self.base = base_coder(spec, model, mapper) if has_base else None
        self.residual: ResidualEncoder | None = None
        self._region = bounded_region(spec)
        if spec.max_error is not None:
            span, with_base = spec.high - spec.low, self.base is not None
            rows, columns = spec.info.frame_shape
            self.residual = ResidualEncoder(
                rows,
                columns,
                span,
                spec.max_error,
                with_base,
                mapper,
                spec.effort,
                self._region,
            )
        self.turn = turn
        self.begun = False
        self.failed = False
        # Memory that every frame of the slice takes again: new memory costs a fault for each page.
        self.samples = np.empty(spec.info.frame_shape, np.uint32)
        self.decoded: NDArray[np.uint32] | None = None
        if self.residual is not None:
            self.decoded = np.empty(spec.info.frame_shape, np.uint32)

    def restart(self, spec: StreamSpec, model: BaseModel | None, mapper: Mapper) -> None:
        """Begin again with the first frame, as if there had been none."""
        self.turn, self.begun = 0, False
        if self.base is None:
            return
        self.base = None  # its memory is free before the next one takes as much
        self.base = base_coder(spec, model, mapper)  # a base may learn from all that it has coded

    def encode_residual(
        self,
        base: NDArray[np.uint32] | None,
        key: bool,
        spec: StreamSpec,
        give_up_ns: int | None,
    ) -> tuple[bytes, NDArray[np.uint32]]:
        """Code a frame with the largest bound that keeps the stream's promises, and prove them.

        That is the stream's bound but for odd frames: the bound was derived for errors that are
        spread evenly, and those of a frame of few values, say, may all be as large as the bound.

        Raises
        ------
        FrameError
            If any voxel is further off than its bound.
        """
        allowed = allowed_variance(spec.noise_sigma, spec.snr_loss_percent)
        promised, bound = spec.snr_loss_percent > 0, spec.max_error or 0
        coder, samples = self.residual, self.samples
        if coder is None:
            raise EngineError("the stream has no residual layer; this is a defect, report it")
        while True:
            payload, decoded = coder.encode(samples, base, key, bound, give_up_ns, self.decoded)
            variance = _variance_within(bound, samples, decoded)
            if self._region is not None and (inner := self._region).max_error < bound:
                inside = inner.voxels
                _variance_within(inner.max_error, samples[inside], decoded[inside])
            if variance <= allowed or not promised:
                coder.commit()
                return payload, decoded
            # Errors grow about as their bound does. It does not fall below sqrt(allowed): enough.
            bound = min(bound - 1, int(bound * math.sqrt(allowed / variance)))


def _variance_within(bound: int, samples: NDArray[np.uint32], decoded: NDArray[np.uint32]) -> float:
    """Check each voxel of the frame that a decoder will make; return the mean squared error."""
    if np.array_equal(samples, decoded):
        return 0.0
    error = np.maximum(samples, decoded) - np.minimum(samples, decoded)
    if int(error.max()) > bound:
        raise FrameError(
            f"the coded frame breaks its bound of {bound}; this is a defect, report it"
        )
    return float(np.square(error.astype(np.float64)).mean())
