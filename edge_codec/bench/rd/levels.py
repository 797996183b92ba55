"""Integer maps between a cine's values and what peers take: unsigned, of a fixed bit depth.

Lossless trials use `Levels.exact`: an offset and nothing else. Lossy trials use `Levels.filling`:
also a shift, so that the values fill the codec's depth, for a lossy codec judges an error by the
depth and not by the values that occur. The frame difference is exact modulo the depth.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.bench.rd.case import Case
from edge_codec.bench.rd.trial import Coded, NotApplicableError

MAX_DEPTH = 16


@dataclass(frozen=True, slots=True)
class Levels:
    """Code = (value - offset) times 2**shift, in `depth` bits; a negative shift rounds.

    Attributes
    ----------
    offset : int
        Value of code 0.
    shift : int
        Bits to shift up (positive) or down (negative, rounded, and the top code clipped).
    depth : int
        Bits of a code, 1 to 16.
    """

    offset: int
    shift: int
    depth: int

    @classmethod
    def exact(cls, case: Case, depth: int = 0) -> Levels:
        """Map without loss and without a shift.

        Parameters
        ----------
        case : Case
            Whose voxels.
        depth : int
            Bits of the codec; 0 for a codec that takes bytes where they do and 16 bits otherwise.

        Raises
        ------
        NotApplicableError
            If the values need more than `depth` bits.
        """
        depth = depth or _container(case)
        if case.bits > depth:
            raise NotApplicableError(f"values need {case.bits} bits, the codec holds {depth}")
        return cls(case.offset, 0, depth)

    @classmethod
    def filling(cls, case: Case, depth: int = 0) -> Levels:
        """Shift the values so that they fill the depth; `depth` as in `exact`."""
        depth = depth or _container(case)
        return cls(case.offset, depth - case.bits, depth)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know: whether values were scaled down."""
        if self.shift >= 0:
            return ()
        return (f"values scaled down by 2^{-self.shift} to fit {self.depth} bits",)

    def encode(self, voxels: NDArray[Any]) -> NDArray[Any]:
        """Return the codes of voxels, uint8 where the depth is at most 8, else uint16."""
        codes = voxels.astype(np.int64) - self.offset
        if self.shift >= 0:
            codes <<= self.shift
        else:
            codes = np.minimum(_rounded(codes, -self.shift), (1 << self.depth) - 1)
        return codes.astype(np.uint8 if self.depth <= 8 else np.uint16)

    def decode(self, codes: NDArray[Any]) -> NDArray[np.int64]:
        """Return the voxels of codes: the inverse of `encode` where `shift` is not negative."""
        values = codes.astype(np.int64)
        values = values << -self.shift if self.shift < 0 else _rounded(values, self.shift)
        return values + self.offset

    def restore(self, coded: Coded) -> Coded:
        """Return what a codec made of codes, as voxels, with the notes on the scale."""
        notes = (*coded.notes, *self.notes)
        return replace(coded, voxels=self.decode(coded.voxels), notes=notes)


def difference(frame: NDArray[Any], previous: NDArray[Any], bits: int) -> NDArray[Any]:
    """Return a frame minus the previous one, modulo 2**bits, zero in the middle of the range.

    Zero in the middle keeps small differences of both signs neighbors, which predictors and
    wavelets need: with zero at the bottom, and with zigzag, every peer's stream is larger.

    Parameters
    ----------
    frame, previous : ndarray, same shape, uint8 or uint16
        Values below 2**bits.
    bits : int
        1 to 16.

    Returns
    -------
    ndarray, shape and dtype of `frame`
        Values below 2**bits.
    """
    middle, mask = 1 << (bits - 1), (1 << bits) - 1
    code: NDArray[Any] = (frame.astype(np.int32) - previous + middle) & mask
    return code.astype(frame.dtype)


def undo_difference(code: NDArray[Any], previous: NDArray[Any], bits: int) -> NDArray[Any]:
    """Return the frame of a difference: the inverse of `difference`, exact."""
    middle, mask = 1 << (bits - 1), (1 << bits) - 1
    frame: NDArray[Any] = (code.astype(np.int32) + previous - middle) & mask
    return frame.astype(code.dtype)


def _container(case: Case) -> int:
    return 8 if case.bits <= 8 else MAX_DEPTH


def _rounded(values: NDArray[np.int64], shift: int) -> NDArray[np.int64]:
    """Divide by 2**shift, halves up."""
    rounded: NDArray[np.int64] = (values + (1 << shift >> 1)) >> shift
    return rounded
