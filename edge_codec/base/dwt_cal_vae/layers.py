"""Integer layers and the stacks that are made of them, read from a file of the zoo."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.base.dwt_cal_vae.native import native
from edge_codec.errors import EngineError

Weights = Mapping[str, NDArray[Any]]
Tensor = NDArray[np.int16]

SUM_LIMIT = 1 << 31
LARGEST_INPUT = 1 << 15


def read_weights(data: bytes) -> dict[str, NDArray[Any]]:
    """Return the arrays of a file that `edge_codec.export.dwt_cal` wrote.

    Raises
    ------
    EngineError
        If it is none.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as content:
            return {name: content[name] for name in content.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise EngineError(f"the weights cannot be read ({error}); reinstall edge-codec") from error


class Layer:
    """A convolution of images (rows, columns, channels) with zeros around, exact in 32 bits.

    Parameters
    ----------
    weights : mapping
        Arrays `<name>.weight` int16 (outputs, kernel, kernel, inputs), or with one input where
        channels stay by themselves, `<name>.bias` int32 (1 or 64, outputs), by quality, half of
        the last place included, `<name>.shift` int32 (outputs,), `<name>.kind` int32 (stride,
        depthwise, rectified).
    name : str

    Raises
    ------
    EngineError
        If an array is missing, or a sum could leave 32 bits.
    """

    def __init__(self, weights: Weights, name: str) -> None:
        try:
            weight, bias, shift, kind = (
                np.ascontiguousarray(weights[f"{name}.{part}"])
                for part in ("weight", "bias", "shift", "kind")
            )
            self._stride, self._depthwise, rectified = (int(x) for x in kind)
            outputs, kernel, _, inputs = weight.shape
            sums = np.abs(weight.astype(np.int64)).sum(axis=(1, 2, 3)) * LARGEST_INPUT
            largest = int((sums + np.abs(bias.astype(np.int64)).max(axis=0)).max())
            if largest >= SUM_LIMIT or weight.dtype != np.int16 or bias.dtype != np.int32:
                raise ValueError(f"sums up to {largest}")
            self.inputs = outputs if self._depthwise else inputs
            self.outputs = outputs
            shape = (
                *(self.inputs, outputs, kernel, self._stride),
                *(bool(self._depthwise), bool(rectified)),
            )
            self._layer = native.load(shape, weight, shift)
        except (KeyError, ValueError, TypeError) as error:
            raise EngineError(
                f"layer '{name}' is missing or is none ({error}); reinstall edge-codec"
            ) from error
        self._bias = bias

    def run(self, image: Tensor, quality: int = 0, addend: Tensor | None = None) -> Tensor:
        """Apply to (rows, columns, inputs), with the biases of a quality.

        Parameters
        ----------
        image : ndarray, int16
        quality : int
            Without effect where biases depend on none.
        addend : ndarray, int16, optional
            Added before results are rectified and saturate.
        """
        rows, columns = image.shape[:2]
        step = self._stride
        result = np.empty((-(-rows // step), -(-columns // step), self.outputs), np.int16)
        bias = self._bias[quality if len(self._bias) > 1 else 0]
        source = np.ascontiguousarray(image)
        native.run(self._layer, source, rows, columns, bias, addend, result)
        return result


class Units:
    """A stack of residual units: positions are mixed, then channels; see `nn.depth_unit`."""

    PARTS = ("expand", "depth", "project", "widen", "narrow")

    def __init__(self, weights: Weights, name: str) -> None:
        self._units: list[dict[str, Layer]] = []
        while f"{name}.{len(self._units)}.expand.weight" in weights:
            prefix = f"{name}.{len(self._units)}"
            self._units.append({part: Layer(weights, f"{prefix}.{part}") for part in self.PARTS})

    def run(self, x: Tensor) -> Tensor:
        """Apply to (rows, columns, channels)."""
        for unit in self._units:
            x = unit["project"].run(unit["depth"].run(unit["expand"].run(x)), addend=x)
            x = unit["narrow"].run(unit["widen"].run(x), addend=x)
        return x


def join(*parts: Tensor) -> Tensor:
    """Channels of several images behind each other, and one of zeros where they are odd."""
    joined = np.concatenate(parts, axis=2)
    if joined.shape[2] % 2:
        return np.pad(joined, ((0, 0), (0, 0), (0, 1)))
    return joined
