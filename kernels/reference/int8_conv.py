"""Convolution of integers with power-of-two requantization, exactly, in 64-bit integers.

    y = clip(round_half_even((sum w * x + bias) / 2**shift), low, high)

Activations are in channels-last order, uint8 or int8; `edge_codec.kernels.int8_layer` has the
modes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.errors import EngineError
from edge_codec.kernels.int8_layer import ConvShape


def int8_conv(
    x: NDArray[Any],
    weight: NDArray[np.int8],
    bias: NDArray[Any],
    shift: NDArray[Any],
    shape: ConvShape,
) -> NDArray[Any]:
    """Apply one layer.

    Parameters
    ----------
    x : ndarray, shape (n, height * unpack, width * unpack, inputs / unpack**2), uint8 or int8
    weight : ndarray, shape (outputs, inputs, kernel, kernel), int8
        Depthwise: (outputs, 1, kernel, kernel).
    bias : ndarray, shape (outputs,), integer
    shift : ndarray, shape (outputs,), integer
        Negative shifts multiply.
    shape : ConvShape

    Returns
    -------
    ndarray, shape (n, rows * spread, columns * spread, outputs / spread**2), uint8 or int8
        Rows are `ceil(height / stride)`.

    Raises
    ------
    EngineError
        If the input is of another dtype or does not form blocks.
    """
    expected = np.dtype(np.int8 if shape.signed_input else np.uint8)
    if x.dtype != expected or x.ndim != 4:
        raise EngineError(f"the input is {x.shape} {x.dtype}, not 4-dimensional {expected}")
    pixels = space_to_depth(x, shape.unpack)
    if pixels.shape[3] != shape.inputs:
        raise EngineError(f"the input has {pixels.shape[3]} channels, not {shape.inputs}")
    n, height, width, _ = pixels.shape
    pad = shape.kernel // 2
    padded = np.pad(pixels.astype(np.int64), ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    rows, columns = shape.output_side(height), shape.output_side(width)
    sums = np.zeros((n, rows, columns, shape.outputs), np.int64)
    for i in range(shape.kernel):
        for j in range(shape.kernel):
            below = slice(i, i + shape.stride * (rows - 1) + 1, shape.stride)
            right = slice(j, j + shape.stride * (columns - 1) + 1, shape.stride)
            sums += _products(padded[:, below, right], weight[:, :, i, j], shape.depthwise)
    dtype = np.dtype(np.int8 if shape.signed_output else np.uint8)
    return depth_to_space(requantize(sums + bias.astype(np.int64), shift, dtype), shape.spread)


def _products(x: NDArray[np.int64], weight: NDArray[np.int8], depthwise: bool) -> NDArray[np.int64]:
    if depthwise:
        products: NDArray[np.int64] = x * weight[:, 0].astype(np.int64)
        return products
    # BLAS in doubles is exact for integers below 2**53, and much faster than NumPy's own integers.
    return (x.astype(np.float64) @ weight.T.astype(np.float64)).astype(np.int64)


def requantize(
    sums: NDArray[np.int64], shift: NDArray[Any] | int, dtype: np.dtype[Any]
) -> NDArray[Any]:
    """Divide by 2**shift, round half to even, and saturate.

    Examples
    --------
    >>> requantize(np.array([5, 6, 7, -6]), 2, np.dtype(np.int8)).tolist()
    [1, 2, 2, -2]
    """
    limits = np.iinfo(dtype)
    # Sums are below 2**25: beyond these places nothing changes, and nothing overflows.
    places = np.clip(np.asarray(shift, np.int64), -30, 62)
    divisor = np.int64(1) << np.maximum(places, 0)
    scaled = sums << np.maximum(-places, 0)
    whole, rest = np.divmod(scaled, divisor)
    twice = 2 * rest
    up = (twice > divisor) | ((twice == divisor) & (whole % 2 == 1))
    rounded: NDArray[Any] = np.clip(whole + up, limits.min, limits.max).astype(dtype)
    return rounded


def space_to_depth(x: NDArray[Any], block: int) -> NDArray[Any]:
    """Turn blocks into channels: (n, bh, bw, c) to (n, h, w, b*b*c), channel (row, column, c).

    Raises
    ------
    EngineError
        If the sides are not multiples of the block's.
    """
    n, height, width, c = x.shape
    if height % block or width % block:
        raise EngineError(f"{height}x{width} pixels do not form {block}x{block} blocks")
    h, w = height // block, width // block
    blocks = x.reshape(n, h, block, w, block * c).swapaxes(2, 3)
    return blocks.reshape(n, h, w, block * block * c)


def depth_to_space(x: NDArray[Any], block: int) -> NDArray[Any]:
    """Invert `space_to_depth`: (n, h, w, b*b*c) to (n, bh, bw, c)."""
    n, h, w, channels = x.shape
    c = channels // (block * block)
    blocks = x.reshape(n, h, w, block, block * c).swapaxes(2, 3)
    return blocks.reshape(n, h * block, w * block, c)
