"""Float convolutions to integer ones: weights, biases and shifts whose sums provably fit 32 bits.

Each output channel gets the largest power-of-two scale at which the sum of its weights' magnitudes,
times the largest 16-bit input, and its bias stay below 2^31. Weights so have some 10 bits, and no
training has to know of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.base.dwt_cal_vae.layers import LARGEST_INPUT, SUM_LIMIT
from edge_codec.errors import CalibrationError

MOST_SHIFT = 24
LARGEST_WEIGHT = 32767

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class FloatLayer:
    """A convolution as it was trained.

    Attributes
    ----------
    weight : ndarray, shape (outputs, inputs, kernel, kernel)
    bias : ndarray, shape (1 or 64, outputs)
        By quality.
    stride : int
    depthwise, rectified : bool
    """

    weight: Array
    bias: Array
    stride: int = 1
    depthwise: bool = False
    rectified: bool = False

    def scaled(self, factor: Array, offset: Array) -> FloatLayer:
        """Multiply outputs by factors (outputs,) and add offsets (1 or 64, outputs)."""
        weight = self.weight * factor[:, None, None, None]
        bias = self.bias * factor + offset
        return FloatLayer(weight, bias, self.stride, self.depthwise, self.rectified)

    def rows(self, rows: slice) -> FloatLayer:
        """Keep some outputs."""
        bias = self.bias[:, rows]
        return FloatLayer(self.weight[rows], bias, self.stride, self.depthwise, self.rectified)


@dataclass(slots=True)
class LayerFile:
    """Arrays of a file of the zoo, and the largest sum of each layer."""

    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    sums: dict[str, int] = field(default_factory=dict)

    def add(
        self, name: str, layer: FloatLayer, inputs: NDArray[np.int64], outputs: NDArray[np.int64]
    ) -> None:
        """Add a layer.

        Parameters
        ----------
        name : str
        layer : FloatLayer
        inputs, outputs : ndarray, int64
            Fraction bits of each input and output channel.

        Raises
        ------
        CalibrationError
            If a sum could leave 32 bits at any scale.
        """
        weight = layer.weight.transpose(0, 2, 3, 1).astype(np.float64)
        weight = weight * np.exp2(-inputs if not layer.depthwise else -inputs[:, None, None, None])
        if weight.shape[3] % 2 and not layer.depthwise:
            weight = np.pad(weight, ((0, 0), (0, 0), (0, 0), (0, 1)))
        shift = np.array(
            [
                _largest_shift(name, weight[o], layer.bias[:, o], int(outputs[o]))
                for o in range(len(weight))
            ],
            np.int32,
        )
        scale = np.exp2(outputs + shift)
        whole = np.rint(weight * scale[:, None, None, None])
        half = np.exp2(shift - 1)
        bias = np.rint(layer.bias * scale) + half
        self.sums[name] = int(_sums(whole, bias).max())
        self.arrays[f"{name}.weight"] = whole.astype(np.int16)
        self.arrays[f"{name}.bias"] = bias.astype(np.int32)
        self.arrays[f"{name}.shift"] = shift
        kind = [layer.stride, layer.depthwise, layer.rectified]
        self.arrays[f"{name}.kind"] = np.array(kind, np.int32)


def _sums(weight: Array, bias: Array) -> Array:
    """Bounds of the sums of each output."""
    bounds: Array = np.abs(weight).sum(axis=(1, 2, 3)) * LARGEST_INPUT + np.abs(bias).max(axis=0)
    return bounds


def _largest_shift(name: str, weight: Array, bias: Array, bits: int) -> int:
    for shift in range(MOST_SHIFT, 0, -1):
        whole = np.rint(weight * 2.0 ** (bits + shift))
        exact = np.rint(bias * 2.0 ** (bits + shift)) + 2.0 ** (shift - 1)
        bound = float(_sums(whole[None], exact[:, None])[0])
        if bound < SUM_LIMIT and np.abs(whole).max() <= LARGEST_WEIGHT:
            return shift
    raise CalibrationError(
        f"layer '{name}' has weights up to {np.abs(weight).max():.3g} in units of its inputs: no "
        "scale keeps its sums in 32 bits; train with weight decay"
    )
