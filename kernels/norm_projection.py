"""LayerNorm and the linear layer behind it in one pass: `y = norm(x) W^T + b`.

With gamma multiplied into the weights ahead of time (`fold_norm`), the norm is linear in x but for
two numbers per row:

    y = (x W'^T - mean s) / sqrt(variance + eps) + b'
    W' = W * gamma,  s = sums of the rows of W',  b' = b + W beta

so the matrix product runs on x as it is in memory, and mean and variance are summed up from the
same tiles on their way through. Nothing is read twice, and no normalized x exists, not even
rounded to float16.

Precision. x W'^T holds the row's mean times s, which is then subtracted; what float32 has rounded
by then grows with the mean. As long as the mean is below a hundred times the deviation (that is,
sqrt(variance + eps)), it stays below float16's own rounding of the result, at width 512. The
variance is that of the differences to the row's first element: no element is farther than
sqrt(width) deviations from the mean, so that a large mean does not harm it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from edge_codec.errors import EngineError
from edge_codec.kernels.spec import KernelSpec
from edge_codec.kernels.tables import config
from edge_codec.kernels.tensors import check_dim, check_tensor, on_device, row_stride, tile_of

MIN_WIDTH, MAX_WIDTH = 16, 4096
MAX_ELEMENTS = (1 << 31) - 1
"""Of the weights: offsets into them are 32-bit integers."""

EPSILON = 1e-5


@dataclass(frozen=True, slots=True)
class FoldedNorm:
    """A linear layer with the LayerNorm before it multiplied into its weights.

    Attributes
    ----------
    weight : Tensor, shape (outputs, width), float16
    sums : Tensor, shape (outputs,), float32
        Of the rows of `weight` as rounded to float16.
    bias : Tensor, shape (outputs,), float32
    """

    weight: torch.Tensor
    sums: torch.Tensor
    bias: torch.Tensor


@triton.jit
def norm_projection_kernel(
    x,  # (n_rows, WIDTH) float16, X_STRIDE from row to row
    weight,  # (OUTPUTS, WIDTH) float16
    sums,  # (OUTPUTS,) float32
    bias,  # (OUTPUTS,) float32
    n_rows,
    out,  # (n_rows, OUTPUTS) float16
    WIDTH: tl.constexpr,
    OUTPUTS: tl.constexpr,
    X_STRIDE: tl.constexpr,
    EPS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """BLOCK_M rows by BLOCK_N outputs; grid (blocks of rows, blocks of outputs)."""
    first_row = tl.program_id(0) * BLOCK_M
    row = tl.minimum(tl.arange(0, BLOCK_M), n_rows - 1 - first_row)
    output = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    safe = tl.minimum(output, OUTPUTS - 1)
    x_rows = x + first_row.to(tl.int64) * X_STRIDE + row[:, None] * X_STRIDE
    weight_rows = weight + safe[:, None] * WIDTH
    origin = tl.load(x_rows).to(tl.float32)
    products = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    total = tl.zeros((BLOCK_M,), tl.float32)
    squares = tl.zeros((BLOCK_M,), tl.float32)
    for start in range(0, WIDTH, BLOCK_K):
        dim = start + tl.arange(0, BLOCK_K)[None, :]
        if WIDTH % BLOCK_K == 0:
            tile = tl.load(x_rows + dim)
            w = tl.load(weight_rows + dim)
            difference = tile.to(tl.float32) - origin
        else:
            tile = tl.load(x_rows + dim, mask=dim < WIDTH, other=0.0)
            w = tl.load(weight_rows + dim, mask=dim < WIDTH, other=0.0)
            difference = tl.where(dim < WIDTH, tile.to(tl.float32) - origin, 0.0)
        products = tl.dot(tile, tl.trans(w), products)
        total += tl.sum(difference, axis=1)
        squares += tl.sum(difference * difference, axis=1)
    offset = total / WIDTH
    variance = tl.maximum(squares / WIDTH - offset * offset, 0.0)
    mean = offset[:, None] + origin
    y = (products - mean * tl.load(sums + safe)[None, :]) * tl.rsqrt(variance + EPS)[:, None]
    y += tl.load(bias + safe)[None, :]
    keep = (first_row + tl.arange(0, BLOCK_M) < n_rows)[:, None] & (output < OUTPUTS)[None, :]
    out_rows = out + first_row.to(tl.int64) * OUTPUTS + row[:, None] * OUTPUTS
    tl.store(out_rows + output[None, :], y.to(tl.float16), mask=keep)


def fold_norm(
    weight: torch.Tensor, bias: torch.Tensor | None, gamma: torch.Tensor, beta: torch.Tensor
) -> FoldedNorm:
    """Multiply a LayerNorm into the linear layer behind it, once per model.

    Parameters
    ----------
    weight : Tensor, shape (outputs, width), float
    bias : Tensor, shape (outputs,), float, or None
    gamma, beta : Tensor, shape (width,), float
        Factor and offset of the norm.

    Raises
    ------
    EngineError
        If shapes do not fit, or a product is beyond float16.
    """
    if weight.ndim != 2 or gamma.shape != weight.shape[1:] or beta.shape != gamma.shape:
        raise EngineError(
            f"weight is {tuple(weight.shape)}, gamma {tuple(gamma.shape)}, beta "
            f"{tuple(beta.shape)}; expected (outputs, width), (width,), (width,)"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise EngineError(f"bias is {tuple(bias.shape)}; expected {tuple(weight.shape[:1])}")
    check_dim("width", weight.shape[1], MIN_WIDTH, MAX_WIDTH)
    check_dim("number of weights", weight.numel(), 1, MAX_ELEMENTS)
    exact = weight.double()
    folded = (exact * gamma.double()).half()
    if not bool(folded.isfinite().all()):
        raise EngineError("weight * gamma is not finite in float16; scale the layer down")
    offset = exact @ beta.double()
    if bias is not None:
        offset = offset + bias.double()
    return FoldedNorm(folded.contiguous(), folded.double().sum(dim=1).float(), offset.float())


def norm_projection(
    x: torch.Tensor, layer: FoldedNorm, *, eps: float = EPSILON, out: torch.Tensor | None = None
) -> torch.Tensor:
    """Apply LayerNorm over the last axis, then the linear layer.

    Parameters
    ----------
    x : Tensor, shape (..., width), float16
        Rows may lie apart.
    layer : FoldedNorm
    eps : float
        The norm's; positive.
    out : Tensor, shape (..., outputs), float16, optional
        Takes the result; then nothing is allocated.

    Raises
    ------
    EngineError
        If a tensor does not fit, or the device cannot run the kernel.
    """
    outputs, width = layer.weight.shape
    shape, device = (*x.shape[:-1], width), x.device
    stride = row_stride("x", x, shape, device)
    n_rows = x.numel() // width
    check_dim("number of rows", n_rows, 1, MAX_ELEMENTS // 2)
    check_tensor("weight", layer.weight, torch.float16, (outputs, width), device)
    check_tensor("sums", layer.sums, torch.float32, (outputs,), device)
    check_tensor("bias", layer.bias, torch.float32, (outputs,), device)
    if not 0 < eps < 1:
        raise EngineError(f"eps is {eps}; expected a number between 0 and 1")
    if out is None:
        out = torch.empty((*x.shape[:-1], outputs), dtype=torch.float16, device=device)
    check_tensor("out", out, torch.float16, (*x.shape[:-1], outputs), device)
    tile = tile_of("attention", "projection", device, norm_projection_kernel)
    blocks = (
        triton.cdiv(n_rows, tile.constants["BLOCK_M"]),
        triton.cdiv(outputs, tile.constants["BLOCK_N"]),
    )
    with on_device(device):
        norm_projection_kernel[blocks](
            x, layer.weight, layer.sums, layer.bias, n_rows, out,
            WIDTH=width, OUTPUTS=outputs, X_STRIDE=stride, EPS=eps, **tile.constants,
            num_warps=tile.num_warps, num_stages=tile.num_stages,
        )  # fmt: skip
    return out


def norm_projection_spec(capability: int, width: int, outputs: int) -> KernelSpec:
    """Describe the kernel for one layer, to be compiled ahead of time."""
    tile = config("attention", "projection", capability)
    pointers = {"x": "*fp16", "weight": "*fp16", "sums": "*fp32", "bias": "*fp32"}
    return KernelSpec(
        name=f"norm_projection_f16_{width}x{outputs}",
        function=norm_projection_kernel,
        signature={**pointers, "n_rows": "i32", "out": "*fp16"},
        constants={
            "WIDTH": width,
            "OUTPUTS": outputs,
            "X_STRIDE": width,
            "EPS": EPSILON,
            **tile.constants,
        },
        num_warps=tile.num_warps,
        num_stages=tile.num_stages,
    )
