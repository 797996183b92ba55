"""What launchers ask of the tensors that they hand to kernels."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import Any

import torch
from triton.runtime.jit import JITFunction

from edge_codec.errors import EngineError
from edge_codec.kernels.tables import Config, config

HEAD_DIMS = 32, 128
"""Least and largest dimension of a head."""

MAX_GRID = 65_535
"""Of a grid's second and third axis."""


def check_tensor(
    name: str, tensor: torch.Tensor, dtype: torch.dtype, shape: Sequence[int], device: torch.device
) -> None:
    """Refuse a tensor that a kernel would misread.

    Raises
    ------
    EngineError
        If its dtype, shape or device is another one, or it is not contiguous.
    """
    if tensor.dtype != dtype or tensor.shape != tuple(shape) or tensor.device != device:
        raise EngineError(_differs(name, tensor, dtype, shape, device))
    if not tensor.is_contiguous():
        raise EngineError(f"{name} is not contiguous; call .contiguous() first")


def check_dim(name: str, dim: int, least: int, most: int) -> None:
    """Refuse a number outside what a kernel takes.

    Raises
    ------
    EngineError
        If it is less than `least` or more than `most`.
    """
    if not least <= dim <= most:
        raise EngineError(f"{name} is {dim}; the kernel takes {least} to {most}")


def row_stride(name: str, tensor: torch.Tensor, shape: Sequence[int], device: torch.device) -> int:
    """Refuse a float16 tensor whose rows (of its last axis) do not lie evenly apart.

    Returns
    -------
    int
        Elements from one row to the next: more than a row has in a slice of a wider tensor.

    Raises
    ------
    EngineError
        If its dtype, shape or device is another one, or its rows do not lie so.
    """
    if tensor.dtype != torch.float16 or tensor.shape != tuple(shape) or tensor.device != device:
        raise EngineError(_differs(name, tensor, torch.float16, shape, device))
    stride, rows = shape[-1], 1
    # From the last axis but one to the first; those of one element have a stride of no meaning.
    for size, step in reversed(list(zip(shape[:-1], tensor.stride()[:-1], strict=True))):
        if size == 1:
            continue
        stride = step if rows == 1 else stride
        if step != stride * rows:
            raise EngineError(f"rows of {name} do not lie evenly apart; call .contiguous() first")
        rows *= size
    if tensor.stride(-1) != 1 and shape[-1] > 1:
        raise EngineError(f"{name} is not contiguous along its last axis; call .contiguous() first")
    return int(stride)


def head_dim(shape: Sequence[int], heads: int) -> int:
    """Return the dimension of a head, of tensors of shape (..., heads * dim).

    Raises
    ------
    EngineError
        If the heads do not divide the last axis, or a kernel has no form for their dimension.
    """
    check_dim("heads", heads, 1, MAX_GRID)
    check_dim("batch", shape[0], 1, MAX_GRID)
    dim, rest = divmod(shape[-1], heads)
    if rest:
        raise EngineError(f"{shape[-1]} columns are not {heads} heads of one dimension")
    check_dim("dimension of a head", dim, *HEAD_DIMS)
    return dim


def score_factor(scale: float | None, dim: int) -> float:
    """Return the factor of scores before a power of two: 1 / sqrt(dim) unless given, times log2(e).

    Raises
    ------
    EngineError
        If the scale is not positive and finite.
    """
    scale = 1 / math.sqrt(dim) if scale is None else float(scale)
    if not 0 < scale < math.inf:
        raise EngineError(f"scale is {scale}; expected a positive number")
    return scale * math.log2(math.e)


def capability_of(device: torch.device, function: Any) -> int:
    """Compute capability of a device times ten; 0 where kernels are interpreted on the CPU.

    Raises
    ------
    EngineError
        If the device is not a GPU and the kernel is not interpreted.
    """
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        return 10 * major + minor
    if device.type != "cpu" or isinstance(function, JITFunction):
        raise EngineError(
            f"tensors on {device}; put them on a GPU, or set TRITON_INTERPRET=1 before the start "
            "to interpret kernels on the CPU"
        )
    return 0


def multiprocessors(device: torch.device) -> int:
    """Return how many programs run side by side at least; 1 where kernels are interpreted."""
    if device.type != "cuda":
        return 1
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


def tile_of(kernel: str, variant: str, device: torch.device, function: Any) -> Config:
    """Look up how to launch a variant of a kernel on a device.

    Raises
    ------
    EngineError
        If the device cannot run it, or there is no such variant.
    """
    return config(kernel, variant, capability_of(device, function))


def on_device(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Make a GPU the current one, which is where Triton launches."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


def _differs(
    name: str, tensor: torch.Tensor, dtype: torch.dtype, shape: Sequence[int], device: torch.device
) -> str:
    found = f"{tuple(tensor.shape)} {tensor.dtype} on {tensor.device}"
    return f"{name} is {found}; expected {tuple(shape)} {dtype} on {device}"
