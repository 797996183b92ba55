"""Normalize: frames of stored samples to the 8-bit codes of the networks, padded, and back.

    codes[r, c]   = to_code[frame[min(r, rows - 1), min(c, columns - 1)]]
    frame[r, c]   = to_sample[codes[r, c]]

`to_code` and `to_sample` are the window of `edge_codec.window`, evaluated once per stream for every
16-bit sample and every code, so that no kernel divides and both directions are exact by
construction. Rows and columns beyond the frame repeat its edge, up to multiples of the networks'
stride. The table of codes is 64 KiB and stays in the cache; a program moves `BLOCK` pixels, one
pass over each array.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from edge_codec.errors import EngineError
from edge_codec.kernels.reference.normalize import N_CODES, N_SAMPLES
from edge_codec.kernels.spec import KernelSpec
from edge_codec.kernels.tables import config
from edge_codec.kernels.tensors import check_tensor, on_device, tile_of

MAX_PIXELS = 1 << 30


@triton.jit
def normalize_kernel(
    frame,  # (n_frames, rows, columns) uint16
    to_code,  # (65536,) uint8
    rows,
    columns,
    height,  # rows or more
    width,  # columns or more
    n_pixels,  # n_frames * height * width
    codes,  # (n_frames, height, width) uint8
    BLOCK: tl.constexpr,
):
    """Make codes of samples; grid (blocks of pixels of `codes`,)."""
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = pixel < n_pixels
    image = pixel // (height * width)
    row = tl.minimum(pixel // width % height, rows - 1)
    column = tl.minimum(pixel % width, columns - 1)
    sample = tl.load(frame + (image * rows + row) * columns + column, mask=inside, other=0)
    code = tl.load(to_code + sample.to(tl.int32), mask=inside, other=0)
    tl.store(codes + pixel, code, mask=inside)


@triton.jit
def denormalize_kernel(
    codes,  # (n_frames, height, width) uint8
    to_sample,  # (256,) uint16
    rows,
    columns,
    height,
    width,
    n_pixels,  # n_frames * rows * columns
    frame,  # (n_frames, rows, columns) uint16
    BLOCK: tl.constexpr,
):
    """Make samples of codes, without the padding; grid (blocks of pixels of `frame`,)."""
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = pixel < n_pixels
    line = pixel // (rows * columns) * height + pixel // columns % rows
    code = tl.load(codes + line * width + pixel % columns, mask=inside, other=0)
    sample = tl.load(to_sample + code.to(tl.int32), mask=inside, other=0)
    tl.store(frame + pixel, sample, mask=inside)


def normalize(
    frames: Tensor, to_code: Tensor, stride: int = 8, *, out: Tensor | None = None
) -> Tensor:
    """Make window codes of frames.

    Parameters
    ----------
    frames : torch.Tensor, shape (n, rows, columns), uint16
        Stored values minus the stream's lower bound.
    to_code : torch.Tensor, shape (65536,), uint8
        From `edge_codec.kernels.reference.normalize.code_table`.
    stride : int
        What the sides of the result are multiples of.
    out : torch.Tensor, shape (n, height, width), uint8, optional

    Returns
    -------
    torch.Tensor, shape (n, height, width), uint8

    Raises
    ------
    EngineError
        If a tensor has a wrong dtype, shape or device, or there are more than 2**30 pixels.
    """
    device = frames.device
    tile = tile_of("normalize", "u16", device, normalize_kernel)
    n, rows, columns = _shape("frames", frames, torch.uint16)
    check_tensor("to_code", to_code, torch.uint8, (N_SAMPLES,), device)
    height, width = rows + -rows % stride, columns + -columns % stride
    n_pixels = _count(n * height * width)
    if out is None:
        out = torch.empty((n, height, width), dtype=torch.uint8, device=device)
    check_tensor("out", out, torch.uint8, (n, height, width), device)
    with on_device(device):
        normalize_kernel[(triton.cdiv(n_pixels, tile.constants["BLOCK"]),)](
            frames, to_code, rows, columns, height, width, n_pixels, out,
            **tile.constants, num_warps=tile.num_warps, num_stages=tile.num_stages,
        )  # fmt: skip
    return out


def denormalize(
    codes: Tensor, to_sample: Tensor, rows: int, columns: int, *, out: Tensor | None = None
) -> Tensor:
    """Make frames of window codes.

    Parameters
    ----------
    codes : torch.Tensor, shape (n, height, width), uint8
    to_sample : torch.Tensor, shape (256,), uint16
        From `edge_codec.kernels.reference.normalize.sample_table`.
    rows, columns : int
        Sides of the frame, at most `height` and `width`.
    out : torch.Tensor, shape (n, rows, columns), uint16, optional

    Returns
    -------
    torch.Tensor, shape (n, rows, columns), uint16

    Raises
    ------
    EngineError
        If a tensor has a wrong dtype, shape or device, or the frame is larger than the codes.
    """
    device = codes.device
    tile = tile_of("normalize", "u16", device, denormalize_kernel)
    n, height, width = _shape("codes", codes, torch.uint8)
    check_tensor("to_sample", to_sample, torch.uint16, (N_CODES,), device)
    if not (1 <= rows <= height and 1 <= columns <= width):
        raise EngineError(f"a frame of {rows}x{columns} is not within codes of {height}x{width}")
    n_pixels = _count(n * height * width)
    if out is None:
        out = torch.empty((n, rows, columns), dtype=torch.uint16, device=device)
    check_tensor("out", out, torch.uint16, (n, rows, columns), device)
    n_pixels = n * rows * columns
    with on_device(device):
        denormalize_kernel[(triton.cdiv(n_pixels, tile.constants["BLOCK"]),)](
            codes, to_sample, rows, columns, height, width, n_pixels, out,
            **tile.constants, num_warps=tile.num_warps, num_stages=tile.num_stages,
        )  # fmt: skip
    return out


def specs(capability: int) -> tuple[KernelSpec, ...]:
    """Return what is compiled ahead of time: both directions."""
    tile = config("normalize", "u16", capability)
    scalars = dict.fromkeys(("rows", "columns", "height", "width", "n_pixels"), "i32")
    forward = {"frame": "*u16", "to_code": "*u8", **scalars, "codes": "*u8"}
    back = {"codes": "*u8", "to_sample": "*u16", **scalars, "frame": "*u16"}
    return tuple(
        KernelSpec(name, function, types, tile.constants, tile.num_warps, tile.num_stages)
        for name, function, types in (
            ("normalize", normalize_kernel, forward),
            ("denormalize", denormalize_kernel, back),
        )
    )


def _shape(name: str, tensor: Tensor, dtype: torch.dtype) -> tuple[int, int, int]:
    """Sizes of a stack of frames that holds something."""
    if tensor.ndim != 3 or not tensor.numel():
        raise EngineError(f"{name} is {tuple(tensor.shape)}; expected (n, rows, columns)")
    check_tensor(name, tensor, dtype, tensor.shape, tensor.device)
    n, rows, columns = tensor.shape
    return n, rows, columns


def _count(n_pixels: int) -> int:
    if n_pixels > MAX_PIXELS:
        raise EngineError(f"{n_pixels} pixels at once, at most {MAX_PIXELS}; use fewer frames")
    return n_pixels
