"""Codes the frames of one slice against their prediction, with a bound on every voxel.

A voxel is predicted from decoded voxels: before it in the frame, around its place in up to three
earlier frames, and of the base layer where there is one. What is left, divided by 2N + 1 and
rounded, so that no voxel is off by more than N, is coded by how large such differences were around
it. The three efforts differ in both: a filter that is sent, filters that both sides fit to each
block, and three of those with every binary decision mixed from what each says.

Where there is no time for the effort of the stream, a frame is coded as at the least effort, from
the frames that are decoded already, whatever effort they were coded with.

In a region of interest, the bound of a voxel may be lower than elsewhere, down to lossless.

A frame is cut into horizontal bands that know nothing of each other, so that several threads can
share it without changing a bit. The arithmetic is in C (`_residual.c`); `docs/bitstream.md`
specifies the bytes, and the tests hold the same in plain Python.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_codec.engine import Mapper
from edge_codec.errors import BitstreamError, FrameError, SpecError
from edge_codec.residual.native import native
from edge_codec.spec import MAX_SIDE, Effort

BAND_ROWS = 96
MAX_BANDS = 8
SIZE = struct.Struct("<I")
FAST_MODES = (3, 4)  # of a band's payload: coded as FAST in a stream of another effort
MODES = 5
NEVER = (1 << 63) - 1


def cut_bands(rows: int) -> list[slice]:
    """Return the rows of each band: one band for every 96 rows, at most 8, of nearly equal size."""
    count = max(1, min(MAX_BANDS, rows // BAND_ROWS))
    return [slice(rows * i // count, rows * (i + 1) // count) for i in range(count)]


def count_fast(payload: bytes, rows: int) -> tuple[int, int]:
    """Return how many bands of a frame fell back to the least effort, and how many there are.

    Parameters
    ----------
    payload : bytes
        The frame as `ResidualEncoder.encode` returned it.
    rows : int
        Rows of the frame.

    Raises
    ------
    BitstreamError
        If the payload is damaged where it says so; what was coded is not looked at.
    """
    parts = _split(payload, len(cut_bands(rows)))
    if not all(part and part[0] < MODES for part in parts):
        raise BitstreamError("the residual layer has a band of no known mode")
    return sum(part[0] in FAST_MODES for part in parts), len(parts)


def _split(payload: bytes, count: int) -> list[bytes]:
    """Return the payload of each band."""
    start = SIZE.size * (count - 1)
    if len(payload) < start:
        raise BitstreamError("the residual layer is cut")
    parts = []
    for index in range(count - 1):
        (size,) = SIZE.unpack_from(payload, SIZE.size * index)
        if size > len(payload) - start:
            raise BitstreamError("the residual layer is cut")
        parts.append(payload[start : start + size])
        start += size
    return [*parts, payload[start:]]


@dataclass(frozen=True, slots=True)
class BoundedRegion:
    """Voxels of all frames of a slice that have a lower bound than the others.

    Attributes
    ----------
    voxels : ndarray, shape (rows, columns), bool
        Which ones.
    max_error : int
        Their bound; a frame whose own bound is lower has that one everywhere.
    """

    voxels: NDArray[np.bool_]
    max_error: int

    def check(self, shape: tuple[int, int], max_error: int) -> None:
        """Refuse a region that does not fit a slice.

        Raises
        ------
        SpecError
            If it has another shape or type, or no lower bound than the slice.
        """
        if self.voxels.shape != shape or self.voxels.dtype != np.bool_:
            raise SpecError(
                f"a region of {self.voxels.shape} {self.voxels.dtype}; expected {shape} bool"
            )
        if not 0 <= self.max_error < max_error:
            raise SpecError(
                f"max_error {self.max_error} in a region and {max_error} outside of it; use a "
                "lower one in the region"
            )


class _Slice:
    """State of one slice and the checks that encoder and decoder share."""

    def __init__(
        self,
        rows: int,
        columns: int,
        span: int,
        max_error: int,
        with_base: bool,
        mapper: Mapper = map,
        effort: Effort = Effort.DEFAULT,
        region: BoundedRegion | None = None,
    ) -> None:
        if not (
            1 <= rows <= MAX_SIDE
            and 1 <= columns <= MAX_SIDE
            and 0 <= span < 1 << 32
            and 0 <= max_error < 1 << 31
        ):
            raise SpecError(
                f"frames of {rows}x{columns}, span {span}, max_error {max_error}: sides are 1 to "
                f"{MAX_SIDE}, the span is below 2**32, max_error is below 2**31"
            )
        if region is not None:
            region.check((rows, columns), max_error)
        self._shape = (rows, columns)
        self._span = span
        self._max_error = max_error
        self._with_base = with_base
        self._begun = False
        self._pending: bool | None = None  # `key` of a frame that was encoded and not committed
        self._map = mapper
        self._bands = cut_bands(rows)
        self._states = [
            native.new(
                band.stop - band.start,
                columns,
                span,
                max_error,
                with_base,
                effort,
                *(() if region is None else (region.voxels[band].tobytes(), region.max_error)),
            )
            for band in self._bands
        ]

    def _check_base(self, base: NDArray[np.uint32] | None) -> None:
        if (base is not None) != self._with_base:
            raise FrameError("a base frame is " + ("missing" if base is None else "not expected"))
        if base is not None:
            self._check(base)

    def _check(self, frame: NDArray[np.uint32]) -> None:
        if frame.shape != self._shape or frame.dtype != np.uint32:
            raise FrameError(f"frame is {frame.shape} {frame.dtype}, not {self._shape} uint32")
        if (largest := int(frame.max())) > self._span:
            raise FrameError(f"a sample is {largest}; this slice was opened for 0 to {self._span}")

    def _room(self) -> NDArray[np.uint32]:
        return np.empty(self._shape, np.uint32)

    def _check_room(self, out: NDArray[np.uint32]) -> NDArray[np.uint32]:
        if out.shape != self._shape or out.dtype != np.uint32:
            raise FrameError(f"room is {out.shape} {out.dtype}, not {self._shape} uint32")
        if not (out.flags.c_contiguous and out.flags.writeable):
            raise FrameError("room for a frame must be contiguous and writeable")
        return out


def _cut(frame: NDArray[np.uint32] | None, band: slice) -> NDArray[np.uint32] | None:
    return None if frame is None else np.ascontiguousarray(frame[band])


class ResidualEncoder(_Slice):
    """Encoder of one slice.

    Parameters
    ----------
    rows, columns : int
        Size of a frame.
    span : int
        Largest sample, below 2**32.
    max_error : int
        Bound of the difference of any voxel, 0 for lossless.
    with_base : bool
        Whether every frame comes with a base.
    mapper : callable
        How to go over the bands: `map`, or an executor's `map` for several threads.
    effort : Effort
        Which of the three predictors and coders.
    region : BoundedRegion, optional
        Voxels of a lower bound.

    Raises
    ------
    SpecError
        If a size or a bound is out of range.
    """

    def encode(
        self,
        samples: NDArray[np.uint32],
        base: NDArray[np.uint32] | None,
        key: bool,
        bound: int | None = None,
        give_up_ns: int | None = None,
        out: NDArray[np.uint32] | None = None,
    ) -> tuple[bytes, NDArray[np.uint32]]:
        """Code the next frame; called again before `commit`, code it anew.

        Parameters
        ----------
        samples : ndarray, shape (rows, columns), uint32
            The frame, values up to `span`.
        base : ndarray of the same shape, or None
            The base layer's decoded frame.
        key : bool
            Code without earlier frames.
        bound : int, optional
            Bound of this frame, at most the slice's `max_error`, which it is if not given.
        give_up_ns : int, optional
            Instant of `time.monotonic_ns` from which on bands that are not done are coded as FAST;
            one in the past does so at once. Slices of effort FAST take no notice.
        out : ndarray of the same shape, uint32, contiguous, optional
            Takes the decoded frame, in place of new memory.

        Returns
        -------
        payload : bytes
            The coded frame.
        decoded : ndarray, shape (rows, columns), uint32
            What the decoder makes of it; `out` where that is given.

        Raises
        ------
        FrameError
            If an array does not fit the slice, `out` cannot be written to, a sample is above
            `span`, the first frame is not a key frame, or the bound is not between 0 and
            `max_error`.
        """
        bound = self._max_error if bound is None else bound
        self._check_turn(key, bound)
        self._check(samples)
        self._check_base(base)
        decoded = self._room() if out is None else self._check_room(out)
        give_up = NEVER if give_up_ns is None else min(max(give_up_ns, 0), NEVER)
        self._pending = key

        def encode_band(index: int) -> bytes:
            band, state = self._bands[index], self._states[index]
            frame, below = np.ascontiguousarray(samples[band]), _cut(base, band)
            return native.encode(state, frame, below, key, decoded[band], bound, give_up)

        payloads = list(self._map(encode_band, range(len(self._bands))))
        self._begun = True
        sizes = b"".join(SIZE.pack(len(payload)) for payload in payloads[:-1])
        return sizes + b"".join(payloads), decoded

    def _check_turn(self, key: bool, bound: int) -> None:
        """Refuse a frame that cannot be the next one."""
        if not 0 <= bound <= self._max_error:
            raise FrameError(f"bound {bound} of a frame is not between 0 and {self._max_error}")
        if not key and not self._begun:
            raise FrameError("the first frame of a slice must be a key frame")
        if self._pending is not None and self._pending is not key:
            raise FrameError("a frame that is coded anew before commit keeps its key flag")

    def commit(self) -> None:
        """Go on to the next frame: what `encode` returned last is what the decoder will get."""
        self._pending = None
        for state in self._states:
            native.commit(state)


class ResidualDecoder(_Slice):
    """Decoder of one slice; the parameters are the encoder's."""

    def decode(
        self, payload: bytes, base: NDArray[np.uint32] | None, key: bool
    ) -> NDArray[np.uint32]:
        """Return the next frame, shape (rows, columns), uint32.

        Raises
        ------
        BitstreamError
            If the payload is damaged, or no key frame came before.
        FrameError
            If the base does not fit the slice.
        """
        self._check_base(base)
        if not key and not self._begun:
            raise BitstreamError("a predicted frame came before any key frame of its slice")
        parts = _split(payload, len(self._bands))
        decoded = self._room()

        def decode_band(index: int) -> bool:
            part, band = parts[index], self._bands[index]
            return native.decode(self._states[index], part, _cut(base, band), key, decoded[band])

        self._begun = False  # after damage only a key frame can follow
        if not all(list(self._map(decode_band, range(len(self._bands))))):
            raise BitstreamError("the residual layer is damaged")
        self._begun = True
        return decoded
