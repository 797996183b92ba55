"""How many bits a frame takes at a quantizer: two curves, and where an exam lies on them.

Logarithm of bits a voxel against the quantizer, a straight line at fine ones, where six indices are
one bit more of every coefficient, and ever steeper at coarse ones, where most blocks are skipped.
The curves are the means of training exams, one for key frames and one for all others. Another exam
is taken for the same curve at other quantizers: noise and contrast act as a scale of the step. So
each layer of the structure learns one number, its shift.
"""

from __future__ import annotations

import math

from edge_codec.base.hybrid.structure import LAYERS

_FIRST, _SPACING = 16, 8  # quantizer of the first entry, and from one to the next
_KEY_CURVE = (3.2, 2.8, 2.4, 1.95, 1.35, 0.55, -0.6, -1.95, -3.4, -5.0, -6.5, -8.0)
_CURVE = (3.2, 2.75, 2.3, 1.75, 0.85, -0.35, -1.75, -3.7, -6.4, -9.0, -11.0, -12.5)
_LEARNING = 0.5
_SILENT = 24  # bits: frames below tell nothing but that there is nothing to tell


class RateModel:
    """Bits of a frame by layer and quantizer; learns with every frame.

    Parameters
    ----------
    voxels : int
        Size of a frame.
    """

    def __init__(self, voxels: int) -> None:
        self._voxels = voxels
        self._shifts: list[float | None] = [None] * LAYERS

    def bits(self, layer: int, quantizer: float) -> float:
        """Return the bits that a frame of a layer is expected to take."""
        share = _at(_curve(layer), quantizer - self._shift(layer))
        return max(8.0, float(self._voxels * 2**share))

    def believe(self, layer: int, quantizer: int, bits: int) -> None:
        """Take a frame for all that is known of its layer."""
        self._shifts[layer] = self._shift_of(layer, quantizer, bits)

    def learn(self, layer: int, quantizer: int, bits: int) -> None:
        """Correct the layer by what a frame took."""
        if bits < _SILENT and self.bits(layer, quantizer) < _SILENT:
            return
        known, found = self._shifts[layer], self._shift_of(layer, quantizer, bits)
        self._shifts[layer] = found if known is None else known + _LEARNING * (found - known)

    def _shift(self, layer: int) -> float:
        """Return the shift of a layer; that of the nearest one known where it is not."""
        known = [(abs(other - layer), s) for other, s in enumerate(self._shifts) if s is not None]
        return min(known)[1] if known else 0.0

    def _shift_of(self, layer: int, quantizer: int, bits: int) -> float:
        return quantizer - _inverse(_curve(layer), math.log2(max(bits, _SILENT) / self._voxels))


def _curve(layer: int) -> tuple[float, ...]:
    return _CURVE if layer else _KEY_CURVE


def _at(curve: tuple[float, ...], quantizer: float) -> float:
    """Return the curve at a quantizer; beyond its ends it goes on straight."""
    place = (quantizer - _FIRST) / _SPACING
    entry = min(max(math.floor(place), 0), len(curve) - 2)
    return curve[entry] + (place - entry) * (curve[entry + 1] - curve[entry])


def _inverse(curve: tuple[float, ...], value: float) -> float:
    """Return the quantizer at which the curve has a value."""
    entry = 0
    while entry < len(curve) - 2 and curve[entry + 1] > value:
        entry += 1
    place = entry + (value - curve[entry]) / (curve[entry + 1] - curve[entry])
    return _FIRST + _SPACING * place
