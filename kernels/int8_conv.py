"""Convolution of integers on int8 tensor cores, with power-of-two requantization.

    y = clip(round_half_even((sum w * x + bias) / 2**shift), low, high)

Exactly: sums are int32, and `edge_codec.kernels.int8_layer.pack` proves that they stay below 2**25.
Activations are channels last, uint8 or int8, saturated to the output's type, which for uint8 is a
ReLU as well. A transposed convolution is one whose outputs are spread over blocks of pixels.

A frame of 256x256 leaves a layer 1,024 pixels at an eighth of the resolution. Tiles are small so
that there are as many programs as a large GPU has multiprocessors, and loads run several tiles
ahead, since what takes the time then is their latency.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor

from edge_codec.errors import EngineError
from edge_codec.kernels.int8_device import (
    INTERPRETED,
    int8_conv_kernel,
    int8_conv_table_kernel,
    int8_depthwise_kernel,
)
from edge_codec.kernels.int8_layer import ROW_MULTIPLE, ConvShape, PackedConv
from edge_codec.kernels.spec import KernelSpec
from edge_codec.kernels.tables import Config, config

MIN_BLOCK_N = 16
MIN_BLOCK_K = 32
FEW_OUTPUTS = 32


@dataclass(frozen=True, slots=True, eq=False)
class DeviceConv:
    """A packed layer on a device, for `int8_conv`; `to_device` makes it.

    Attributes
    ----------
    shape : ConvShape
    weights : Tensor, shape `shape.weight_shape`, int8
    bias, shift : Tensor, shape (outputs,), int32
    """

    shape: ConvShape
    weights: Tensor
    bias: Tensor
    shift: Tensor


def to_device(packed: PackedConv, device: torch.device | str) -> DeviceConv:
    """Copy a packed layer to a device."""
    arrays = (packed.weights, packed.bias, packed.shift)
    tensors = (torch.from_numpy(array.copy()).to(device) for array in arrays)
    return DeviceConv(packed.shape, *tensors)


def int8_conv(
    x: Tensor,
    layer: DeviceConv,
    *,
    table: Tensor | None = None,
    out: Tensor | None = None,
    tile: Config | None = None,
) -> Tensor:
    """Apply one layer.

    Parameters
    ----------
    x : Tensor, shape (n, height * unpack, width * unpack, inputs / unpack**2), uint8 or int8
        With a table its rows, (n, height, width) int32, which must be within it.
    layer : DeviceConv
    table : Tensor, shape (entries, inputs), uint8 or int8, optional
    out : Tensor, optional
        Where to store the result, instead of a new tensor.
    tile : Config, optional
        Block sizes, warps and stages, instead of those of the tuning table.

    Returns
    -------
    Tensor, shape (n, rows * spread, columns * spread, outputs / spread**2), uint8 or int8

    Raises
    ------
    EngineError
        If a shape, dtype or device does not fit, or there are 2**30 elements or more.
    """
    shape = layer.shape
    size = _size(x, shape, table)
    chosen = best_tile(shape, _capability(x), table is not None) if tile is None else tile
    blocks = chosen.constants
    grid = shape.grid(size, blocks["BLOCK_M"], blocks["BLOCK_N"])
    stored, dtype = shape.stored_output(*size), _dtype(shape.signed_output)
    if out is None:
        out = torch.empty(stored, dtype=dtype, device=x.device)
    _check("out", out, stored, dtype, x.device)
    _check("layer", layer.weights, shape.weight_shape, torch.int8, x.device)
    sources = (x,) if table is None else (x, table)
    _kernel(shape, table is not None)[grid](
        *sources,
        layer.weights,
        layer.bias,
        layer.shift,
        *size,
        out,
        **shape.constants(),
        **blocks,
        num_warps=chosen.num_warps,
        num_stages=chosen.num_stages,
    )
    return out


def _size(x: Tensor, shape: ConvShape, table: Tensor | None) -> tuple[int, int, int]:
    """Check the inputs and return images, height and width in pixels of the layer."""
    dtype = _dtype(shape.signed_input)
    if not (x.is_cuda or INTERPRETED.value):
        raise EngineError(f"the input is on {x.device}; move it to a CUDA device")
    if table is not None:
        if shape.depthwise or shape.unpack > 1:
            raise EngineError("only plain convolutions read a table; gather the rows yourself")
        _check("table", table, (len(table), shape.inputs), dtype, x.device)
        n, height, width = x.shape if x.ndim == 3 else (-1, -1, -1)
        _check("tokens", x, (n, height, width), torch.int32, x.device)
        return n, height, width
    n, height, width = x.shape[:3] if x.ndim == 4 else (-1, -1, -1)
    height, width = height // shape.unpack, width // shape.unpack
    _check("x", x, shape.stored_input(n, height, width), dtype, x.device)
    return n, height, width


def _check(
    name: str, tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> None:
    found = (tuple(tensor.shape), tensor.dtype, tensor.device)
    if found != (shape, dtype, device) or not tensor.is_contiguous():
        raise EngineError(
            f"{name} is {found[0]} {found[1]} on {found[2]}, contiguous: {tensor.is_contiguous()}; "
            f"expected {shape} {dtype} on {device}, contiguous"
        )


def _dtype(signed: bool) -> torch.dtype:
    return torch.int8 if signed else torch.uint8


def _capability(x: Tensor) -> int:
    """Compute capability times ten; 0, which no table names, in the interpreter."""
    major, minor = torch.cuda.get_device_capability(x.device) if x.is_cuda else (0, 0)
    return 10 * major + minor


def best_tile(shape: ConvShape, capability: int, table: bool = False) -> Config:
    """Choose block sizes, warps and stages for a layer.

    Parameters
    ----------
    shape : ConvShape
    capability : int
        Compute capability times ten.
    table : bool
        The input is rows of a table, given by tokens.
    """
    chosen = config("int8_conv", _variant(shape, table), capability)
    blocks = dict(chosen.constants)
    blocks["BLOCK_N"] = min(
        blocks["BLOCK_N"], max(MIN_BLOCK_N, triton.next_power_of_2(shape.outputs))
    )
    if not shape.depthwise:
        # A tile lies in one place of the window where that is possible, else within a packed row.
        whole = ROW_MULTIPLE if shape.inputs % MIN_BLOCK_K else shape.inputs
        while whole % blocks["BLOCK_K"]:
            blocks["BLOCK_K"] //= 2
    return Config(blocks, chosen.num_warps, chosen.num_stages, chosen.measured_on)


def _variant(shape: ConvShape, table: bool) -> str:
    if shape.depthwise:
        return "depthwise"
    if shape.inputs % MIN_BLOCK_K:
        return "flat"
    if table:
        return "table"  # of its stages, every other one only waits for the tokens
    return "narrow" if shape.outputs <= FEW_OUTPUTS else "wide"


def _kernel(shape: ConvShape, table: bool) -> Any:
    kernels = (int8_conv_kernel, int8_conv_table_kernel, int8_depthwise_kernel)
    (kernel,) = (k for k in kernels if shape.function(table).endswith(f":{k.__name__}"))
    return kernel


def layer_spec(shape: ConvShape, capability: int, table: bool = False) -> KernelSpec:
    """Specify the device code of a layer, to be compiled ahead of time.

    Parameters
    ----------
    shape : ConvShape
    capability : int
        Compute capability times ten.
    table : bool
        The input is rows of a table, given by tokens.
    """
    tile = best_tile(shape, capability, table)
    return KernelSpec(
        name=f"int8_conv_{shape.name}{'_table' if table else ''}",
        function=_kernel(shape, table),
        signature=shape.signature(table),
        constants={**shape.constants(), **tile.constants},
        num_warps=tile.num_warps,
        num_stages=tile.num_stages,
    )


def specs(capability: int) -> tuple[KernelSpec, ...]:
    """Layers of the zoo that stand for the others, and a depthwise one."""
    return (
        layer_spec(ConvShape(16, 64, 3, unpack=4), capability),
        layer_spec(ConvShape(64, 128, 3), capability, table=True),
        layer_spec(ConvShape(128, 128, 3), capability),
        layer_spec(ConvShape(64, 16, 3, spread=4), capability),
        layer_spec(ConvShape(64, 64, 3, depthwise=True), capability),
    )
