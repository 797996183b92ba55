"""What an int8 convolution is besides its device code: sizes, packed numbers, proof of its sums.

Needs NumPy only, so that the deployed runtime reads layers without Triton.

A layer computes, for activations `x` in channels-last order and an output of `low..high`,

    y = clip(round_half_even((sum w * x + bias) / 2**shift), low, high)

with one shift per output channel. Padding is `kernel // 2` zeros on each side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.errors import EngineError

SUM_LIMIT = 1 << 25
"""No sum of products and bias may reach it: rounding then fits into 32 bits."""

MAX_SHIFT = 26
"""A sum below 2**25 divided by 2**26 or more is below one half: 0, whatever the shift."""

MIN_SHIFT = -9
"""Any sum but 0 times 2**9 or more saturates, whatever the shift."""

ROW_MULTIPLE = 64
"""Packed rows of weights have a multiple of this length: loads of 16 bytes, whole tiles."""

OFFSET = 128
"""Unsigned activations enter the matrix product as int8, lessened by it."""

MAX_ELEMENTS = 1 << 30
"""Offsets into a tensor are 32-bit integers, with room for what the last tile has in excess."""

LIMITS = {"inputs": 4096, "outputs": 4096, "kernel": 7, "stride": 4, "unpack": 16, "spread": 16}

KERNELS = "edge_codec.kernels.int8_device"
"""Module of the device code."""


@dataclass(frozen=True, slots=True)
class ConvShape:
    """Sizes and modes of a layer.

    Attributes
    ----------
    inputs, outputs : int
        Channels.
    kernel : int
        Side of the window, odd.
    stride : int
        The output has `ceil(side / stride)` rows and columns.
    unpack : int
        Side of the blocks of the stored input that are one pixel of the layer, channels in the
        order (row, column, channel): 4 reads a plain frame as 16 channels at a quarter of its size.
    spread : int
        Side of the blocks that a pixel of the output is stored as, in the same order.
    signed_input, signed_output : bool
        int8 instead of uint8.
    depthwise : bool
        Each output sees only the input of its own channel.

    Raises
    ------
    EngineError
        If there is no such convolution.
    """

    inputs: int
    outputs: int
    kernel: int
    stride: int = 1
    unpack: int = 1
    spread: int = 1
    signed_input: bool = False
    signed_output: bool = False
    depthwise: bool = False

    def __post_init__(self) -> None:
        for name, limit in LIMITS.items():
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= limit:
                raise EngineError(f"a convolution with {name} of {value!r}; use 1..{limit}")
        if self.kernel % 2 == 0:
            raise EngineError(f"a window of {self.kernel}x{self.kernel} has no middle; use an odd")
        if self.inputs % self.unpack**2 or self.outputs % self.spread**2:
            raise EngineError(
                f"{self.inputs} to {self.outputs} channels do not form blocks of {self.unpack} and "
                f"{self.spread}"
            )
        if self.depthwise and (self.inputs != self.outputs or self.unpack * self.spread != 1):
            raise EngineError("a depthwise convolution has as many outputs as inputs, no blocks")

    @property
    def row_length(self) -> int:
        """Length of a packed row of weights, padded with zeros."""
        products = self.kernel * self.kernel * self.inputs
        return -(-products // ROW_MULTIPLE) * ROW_MULTIPLE

    @property
    def weight_shape(self) -> tuple[int, int]:
        """Shape of the packed weights; see `pack`."""
        if self.depthwise:
            return self.kernel * self.kernel, self.inputs
        return self.outputs, self.row_length

    def output_side(self, side: int) -> int:
        """Rows or columns of the layer's output before they are spread."""
        return -(-side // self.stride)

    def stored_input(self, n: int, height: int, width: int) -> tuple[int, int, int, int]:
        """Shape of the stored input of `n` images of `height` x `width` pixels of the layer."""
        return n, height * self.unpack, width * self.unpack, self.inputs // self.unpack**2

    def stored_output(self, n: int, height: int, width: int) -> tuple[int, int, int, int]:
        """Shape of the stored output for an input of `height` x `width` pixels of the layer."""
        rows, columns = (self.output_side(side) * self.spread for side in (height, width))
        return n, rows, columns, self.outputs // self.spread**2

    def grid(self, size: tuple[int, int, int], block_m: int, block_n: int) -> tuple[int, int, int]:
        """Programs for `size`, images of height x width pixels, in tiles of pixels x outputs.

        Raises
        ------
        EngineError
            If there is nothing to do, or too much for 32-bit offsets.
        """
        n, height, width = size
        largest = max(math.prod(self.stored_input(*size)), math.prod(self.stored_output(*size)))
        if min(size) < 1 or largest > MAX_ELEMENTS:
            raise EngineError(
                f"{n} images of {height}x{width} pixels and {self.inputs} to {self.outputs} "
                f"channels; use at least 1, and at most {MAX_ELEMENTS} elements"
            )
        pixels = n * self.output_side(height) * self.output_side(width)
        return -(-pixels // block_m), -(-self.outputs // block_n), 1

    def constants(self) -> dict[str, int]:
        """Constants of the device code, besides its block sizes."""
        if self.depthwise:
            return {"CHANNELS": self.inputs, "KERNEL": self.kernel, "STRIDE": self.stride}
        return {
            "INPUTS": self.inputs,
            "OUTPUTS": self.outputs,
            "KERNEL": self.kernel,
            "STRIDE": self.stride,
            "UNPACK": self.unpack,
            "SPREAD": self.spread,
            "ROW_LENGTH": self.row_length,
        }

    def function(self, table: bool) -> str:
        """Where the device code is; `table`: the input is rows of a table, given by tokens."""
        if self.depthwise:
            return f"{KERNELS}:int8_depthwise_kernel"
        return f"{KERNELS}:int8_conv_{'table_' if table else ''}kernel"

    def signature(self, table: bool) -> dict[str, str]:
        """Triton's types of the device code's arguments, by name and in order."""
        x, y = ("*i8" if signed else "*u8" for signed in (self.signed_input, self.signed_output))
        return {
            **({"tokens": "*i32", "table": x} if table else {"x": x}),
            "weights": "*i8",
            **dict.fromkeys(("bias", "shift"), "*i32"),
            **dict.fromkeys(("n_images", "height", "width"), "i32"),
            "y": y,
        }

    @property
    def name(self) -> str:
        """Short and unique: `3x3_128_128`."""
        form = f"{self.kernel}x{self.kernel}_{self.inputs}_{self.outputs}"
        modes = {
            "depthwise": self.depthwise,
            f"s{self.stride}": self.stride > 1,
            f"unpack{self.unpack}": self.unpack > 1,
            f"spread{self.spread}": self.spread > 1,
            "from_i8": self.signed_input,
            "to_i8": self.signed_output,
        }
        return "_".join([form, *(mode for mode, present in modes.items() if present)])


@dataclass(frozen=True, slots=True, eq=False)
class PackedConv:
    """A layer as the device code wants it; `pack` makes it.

    Attributes
    ----------
    shape : ConvShape
    weights : ndarray, shape `shape.weight_shape`, int8
    bias : ndarray, shape (outputs,), int32
    shift : ndarray, shape (outputs,), int32
        `MIN_SHIFT` to `MAX_SHIFT`.
    """

    shape: ConvShape
    weights: NDArray[np.int8]
    bias: NDArray[np.int32]
    shift: NDArray[np.int32]


def pack(
    weight: NDArray[np.int8], bias: NDArray[Any], shift: NDArray[Any], shape: ConvShape
) -> PackedConv:
    """Prove a layer's sums and arrange its numbers for the device.

    A row of packed weights is one output's, in the order (row, column, input) of the window, which
    is the order of memory in each channels-last row of the window. Depthwise weights are one row
    per place of the window. Where the matrix product sees `x - 128`, the bias makes up for it.

    Parameters
    ----------
    weight : ndarray, shape (outputs, inputs, kernel, kernel), int8
        Depthwise: (outputs, 1, kernel, kernel).
    bias : ndarray, shape (outputs,), integer
        In units of the sum.
    shift : ndarray, shape (outputs,), integer
        The sum is divided by 2**shift; negative shifts multiply.
    shape : ConvShape

    Raises
    ------
    EngineError
        If the arrays do not have this shape, or a sum can reach 2**25 for some input.
    """
    window = (1 if shape.depthwise else shape.inputs, shape.kernel, shape.kernel)
    if weight.shape != (shape.outputs, *window) or weight.dtype != np.int8:
        raise EngineError(
            f"weights are {weight.shape} {weight.dtype}, not {(shape.outputs, *window)} int8"
        )
    for name, array in (("bias", bias), ("shift", shift)):
        if array.shape != (shape.outputs,) or array.dtype.kind != "i":
            raise EngineError(
                f"the {name} is {array.shape} {array.dtype}, not ({shape.outputs},) of signed "
                "integers"
            )
    integers, offset = weight.astype(np.int64), bias.astype(np.int64)
    if (np.minimum(offset, -offset) <= -SUM_LIMIT).any():
        raise EngineError(f"a bias of {shape.name} reaches {SUM_LIMIT}; rescale the layer")
    largest = 128 if shape.signed_input else 255
    bound = int((np.abs(integers).sum(axis=(1, 2, 3)) * largest + np.abs(offset)).max())
    if bound >= SUM_LIMIT:
        raise EngineError(
            f"a sum of {shape.name} can reach {bound}, the kernel is exact below {SUM_LIMIT}; use "
            "smaller weights or fewer inputs"
        )
    if not (shape.depthwise or shape.signed_input):
        offset = offset + OFFSET * integers.sum(axis=(1, 2, 3))
    return PackedConv(
        shape,
        _pack_weights(weight, shape),
        offset.astype(np.int32),
        np.clip(shift, MIN_SHIFT, MAX_SHIFT).astype(np.int32),
    )


def _pack_weights(weight: NDArray[np.int8], shape: ConvShape) -> NDArray[np.int8]:
    if shape.depthwise:
        taps = weight.reshape(shape.outputs, -1).T
        return np.ascontiguousarray(taps)
    packed = np.zeros(shape.weight_shape, np.int8)
    rows = weight.transpose(0, 2, 3, 1).reshape(shape.outputs, -1)
    packed[:, : rows.shape[1]] = rows
    return packed


def unpack(
    packed: PackedConv,
) -> tuple[NDArray[np.int8], NDArray[np.int64], NDArray[np.int32]]:
    """Invert `pack`: return weight, bias and (clamped) shift."""
    shape = packed.shape
    bias = packed.bias.astype(np.int64)
    window = (shape.kernel, shape.kernel)
    if shape.depthwise:
        return packed.weights.T.reshape(shape.outputs, 1, *window), bias, packed.shift
    rows = packed.weights[:, : shape.kernel**2 * shape.inputs]
    weight = rows.reshape(shape.outputs, *window, shape.inputs).transpose(0, 3, 1, 2)
    if not shape.signed_input:
        bias = bias - OFFSET * weight.astype(np.int64).sum(axis=(1, 2, 3))
    return weight, bias, packed.shift
