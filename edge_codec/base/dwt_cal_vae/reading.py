"""Symbols to payloads and back: the range coder with the table of distributions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_codec.base.dwt_cal_vae.attention import MOST_MOTION
from edge_codec.base.dwt_cal_vae.codec import Known
from edge_codec.base.dwt_cal_vae.native import native
from edge_codec.base.dwt_cal_vae.network import Expected
from edge_codec.errors import BitstreamError

Coded = tuple[NDArray[np.uint8], NDArray[np.int16]]
"""Distributions of symbols, and the symbols."""


def write_symbols(parts: Sequence[Coded], table: NDArray[np.uint32]) -> bytes:
    """Code parts of a frame behind each other.

    Parameters
    ----------
    parts : sequence of (uint8 array, int16 array)
        Rows of the table, and symbols of at most `LARGEST_SYMBOL`.
    table : ndarray, shape (64, 257), uint32
        Cumulative frequencies.
    """
    scales = np.concatenate([part[0].ravel() for part in parts])
    values = np.concatenate([part[1].ravel() for part in parts])
    return native.write(scales, values, table)


class SymbolReader:
    """Reads a frame's symbols from its payload.

    Parameters
    ----------
    payload : bytes
        Without the byte of its quality.
    table : ndarray, shape (64, 257), uint32
    """

    def __init__(self, payload: bytes, table: NDArray[np.uint32]) -> None:
        self._reader = native.open(payload, table)

    def _read(self, scales: NDArray[np.uint8]) -> NDArray[np.int16]:
        values = np.empty(scales.shape, np.int16)
        if not native.read(self._reader, np.ascontiguousarray(scales), values):
            raise BitstreamError(
                "a frame's latents are not what an encoder writes; the payload is damaged"
            )
        return values

    def side(self, expected: Expected, known: Known) -> NDArray[np.int16]:
        """See `codec.Symbols.side`."""
        del known
        return self._read(expected.scale)

    def motion(self, scales: NDArray[np.uint8]) -> NDArray[np.int16]:
        """See `codec.Symbols.motion`."""
        motion = self._read(scales)
        if np.abs(motion).max(initial=0) > MOST_MOTION:
            raise BitstreamError(
                f"a block moves by {np.abs(motion).max()} half pixels, at most {MOST_MOTION} are "
                "possible; the payload is damaged"
            )
        return motion

    def latents(
        self, expected: Expected, known: Known, places: NDArray[np.intp]
    ) -> NDArray[np.int16]:
        """See `codec.Symbols.latents`."""
        del known
        return self._read(expected.scale.ravel()[places])

    def close(self) -> None:
        """Ask for the end of the payload.

        Raises
        ------
        BitstreamError
            If bytes are left over.
        """
        if not native.close(self._reader):
            raise BitstreamError(
                "a frame's payload goes on after its last latent; it is damaged, or was made with "
                "other weights"
            )
