"""The region of interest of a stream: squares of its frames that shall come back better.

Which squares of 16 x 16 voxels are inside is fixed for each slice, for all of its phases. Inside, a
base layer of `dwt-cal` is quantized more finely, a residual layer has a lower bound, or both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_codec.errors import SpecError

SQUARE = 16
MAX_SQUARES = 1 << 24  # of all slices of a stream
MAX_GAIN = 63


def squares_shape(n_slices: int, rows: int, columns: int) -> tuple[int, int, int]:
    """Return slices, rows and columns of squares; those at the edges may be cut off."""
    return n_slices, -(-rows // SQUARE), -(-columns // SQUARE)


@dataclass(frozen=True, slots=True)
class Region:
    """Which squares are inside, and what holds there.

    Attributes
    ----------
    squares : bytes
        A byte for each square, 1 inside and 0 outside: slice after slice, row after row.
    quality_gain : int
        Quality steps by which the base layer is finer inside, 0 to 63; six halve its steps.
    max_error : int, optional
        Bound of the residual layer inside, below that of the stream; None: that of the stream.
    """

    squares: bytes
    quality_gain: int = 0
    max_error: int | None = None

    def __post_init__(self) -> None:
        """Refuse a region that is none.

        Raises
        ------
        SpecError
            If no square is inside, nothing holds there, or a value is out of range.
        """
        gain, bound = self.quality_gain, self.max_error
        if self.squares.count(1) + self.squares.count(0) != len(self.squares):
            raise SpecError("a square of the region is neither inside (1) nor outside (0)")
        if not self.squares.count(1):
            raise SpecError("the region of interest has no square; leave it out")
        if type(gain) is not int or not 0 <= gain <= MAX_GAIN:
            raise SpecError(f"quality_gain of the region is {gain!r}; use 0 to {MAX_GAIN}")
        if bound is not None and (type(bound) is not int or not 0 <= bound < 1 << 31):
            raise SpecError(
                f"max_error of the region is {bound!r}; it must be 0 or a positive integer"
            )
        if not gain and bound is None:
            raise SpecError(
                "nothing holds in the region of interest; give it a quality_gain or a max_error"
            )

    @classmethod
    def of_mask(
        cls, mask: NDArray[np.bool_], quality_gain: int = 0, max_error: int | None = None
    ) -> Region:
        """Return the region of all squares that have a voxel inside.

        Parameters
        ----------
        mask : ndarray, shape (slices, rows, columns), bool
            True inside.
        quality_gain, max_error
            As the attributes.

        Raises
        ------
        SpecError
            As the class does.
        """
        _, down, across = squares_shape(*mask.shape)
        rows, columns = mask.shape[1:]
        whole = np.pad(mask, [(0, 0), (0, SQUARE * down - rows), (0, SQUARE * across - columns)])
        squares = whole.reshape(-1, down, SQUARE, across, SQUARE).any((2, 4))
        return cls(squares.astype(np.uint8).tobytes(), quality_gain, max_error)

    def check(self, n_slices: int, rows: int, columns: int) -> None:
        """Refuse another size than that of a stream's frames.

        Raises
        ------
        SpecError
            If the number of squares is not that of the frames, or larger than a stream may have.
        """
        expected = math.prod(squares_shape(n_slices, rows, columns))
        if len(self.squares) != expected:
            raise SpecError(
                f"a region of {len(self.squares)} squares; {n_slices} slices of {rows}x{columns} "
                f"voxels have {expected}"
            )
        if expected > MAX_SQUARES:
            raise SpecError(f"a region of {expected} squares; a stream has up to {MAX_SQUARES}")

    def of_slice(self, index: int, n_slices: int) -> Region | None:
        """Return the region of one slice alone; None where nothing of it is inside."""
        size = len(self.squares) // n_slices
        squares = self.squares[index * size : (index + 1) * size]
        return Region(squares, self.quality_gain, self.max_error) if squares.count(1) else None

    def mask(self, n_slices: int, rows: int, columns: int) -> NDArray[np.bool_]:
        """Return which voxels are inside, shape (slices, rows, columns), bool."""
        squares = np.frombuffer(self.squares, np.bool_)
        squares = squares.reshape(squares_shape(n_slices, rows, columns))
        return squares.repeat(SQUARE, 1).repeat(SQUARE, 2)[:, :rows, :columns]
