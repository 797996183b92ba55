"""Windowed cross-attention between two feature maps, such as those of a frame and the one before.

    out[p] = sum_j softmax_j(scale * q_p . k_j) v_j

for each head and position p of a map: j runs over p's window in the other map, enlarged by a halo
on all sides and cut off at the map's borders. Windows tile the map from its upper left corner; at
the lower and right borders they are cut off too. Maps are channels-last, (batch, rows, columns,
heads * dim), and a program finds its window in them by itself: nothing is cut into windows,
rolled, padded or copied back. A window of 8 x 8 with a halo of 4 attends to 256 positions.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from edge_codec.errors import EngineError
from edge_codec.kernels.softmax_step import attend, average, load_heads
from edge_codec.kernels.spec import KernelSpec
from edge_codec.kernels.tables import config
from edge_codec.kernels.tensors import (
    check_dim,
    check_tensor,
    head_dim,
    on_device,
    row_stride,
    score_factor,
    tile_of,
)

WINDOWS = (4, 8, 16)
MAX_HALO = 16
MAX_ELEMENTS = (1 << 31) - 1
"""Of a map: offsets within it are 32-bit integers."""


@triton.jit
def window_attention_kernel(
    q,  # (batch, rows, columns, HEADS * DIM) float16, Q_STRIDE from position to position
    k,  # likewise, K_STRIDE
    v,  # likewise, V_STRIDE
    rows,
    columns,
    out,  # (batch, rows, columns, HEADS * DIM) float16
    HEADS: tl.constexpr,
    DIM: tl.constexpr,
    DIM_PADDED: tl.constexpr,
    Q_STRIDE: tl.constexpr,
    K_STRIDE: tl.constexpr,
    V_STRIDE: tl.constexpr,
    SCALE: tl.constexpr,  # times log2(e)
    WINDOW: tl.constexpr,
    HALO: tl.constexpr,
    BLOCK_M: tl.constexpr,  # divides WINDOW * WINDOW
    BLOCK_N: tl.constexpr,
):
    """BLOCK_M queries of a window and head; grid (blocks of all windows, heads, batch)."""
    BLOCKS: tl.constexpr = WINDOW * WINDOW // BLOCK_M
    SPAN: tl.constexpr = WINDOW + 2 * HALO
    across = tl.cdiv(columns, WINDOW)
    window = tl.program_id(0) // BLOCKS
    top, left = window // across * WINDOW, window % across * WINDOW
    place = tl.program_id(0) % BLOCKS * BLOCK_M + tl.arange(0, BLOCK_M)
    row, column = top + place // WINDOW, left + place % WINDOW
    inside = (row < rows) & (column < columns)
    query = row * columns + column
    head = tl.program_id(1) * DIM
    origin = tl.program_id(2).to(tl.int64) * rows * columns
    x = load_heads(q + origin * Q_STRIDE + head, query, inside, Q_STRIDE, DIM, DIM_PADDED)
    k += origin * K_STRIDE + head
    v += origin * V_STRIDE + head
    highest = tl.full((BLOCK_M,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK_M,), tl.float32)
    summed = tl.zeros((BLOCK_M, DIM_PADDED), tl.float32)
    for first in range(0, SPAN * SPAN, BLOCK_N):
        place = first + tl.arange(0, BLOCK_N)
        row, column = top - HALO + place // SPAN, left - HALO + place % SPAN
        keep = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
        keep &= place < SPAN * SPAN
        key = row * columns + column
        keys = load_heads(k, key, keep, K_STRIDE, DIM, DIM_PADDED)
        values = load_heads(v, key, keep, V_STRIDE, DIM, DIM_PADDED)
        highest, total, summed = attend(x, keys, values, keep, highest, total, summed, SCALE)
    dims = tl.arange(0, DIM_PADDED)
    out += origin * (HEADS * DIM) + head
    pointers = out + query[:, None] * (HEADS * DIM) + dims[None, :]
    mask = inside[:, None] & (dims < DIM)[None, :]
    tl.store(pointers, average(total, summed).to(tl.float16), mask=mask)


def window_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    heads: int,
    *,
    window: int = 8,
    halo: int = 4,
    scale: float | None = None,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """Attend from each position of a map to its window, and a halo around it, of another map.

    Parameters
    ----------
    q : Tensor, shape (batch, rows, columns, heads * dim), float16
        Positions may lie apart (slices of a packed projection); `dim` is 32 to 128.
    k, v : Tensor, shape of `q`, float16
    heads : int
    window : {4, 8, 16}
        Side of a window.
    halo : int
        Positions beyond the window that count, 0 to 16.
    scale : float, optional
        Factor of the scores; 1 / sqrt(dim) if not given.
    out : Tensor, shape of `q`, float16, optional
        Takes the result; then nothing is allocated.

    Raises
    ------
    EngineError
        If a tensor does not fit, or the device cannot run the kernel.
    """
    shape, device = tuple(q.shape), q.device
    if q.ndim != 4:
        raise EngineError(f"q is {shape}; expected (batch, rows, columns, heads * dim)")
    dim = head_dim(shape, heads)
    if window not in WINDOWS:
        raise EngineError(f"window is {window}; the kernel takes {WINDOWS}")
    check_dim("halo", halo, 0, MAX_HALO)
    strides = {
        f"{name.upper()}_STRIDE": row_stride(name, tensor, shape, device)
        for name, tensor in (("q", q), ("k", k), ("v", v))
    }
    check_dim("elements of a map", shape[1] * shape[2] * max(strides.values()), 1, MAX_ELEMENTS)
    factor = score_factor(scale, dim)
    if out is None:
        out = torch.empty(shape, dtype=torch.float16, device=device)
    check_tensor("out", out, torch.float16, shape, device)
    padded = triton.next_power_of_2(dim)
    tile = tile_of("attention", f"window{window}_d{padded}", device, window_attention_kernel)
    blocks = window * window // tile.constants["BLOCK_M"]
    windows = triton.cdiv(shape[1], window) * triton.cdiv(shape[2], window)
    with on_device(device):
        window_attention_kernel[(windows * blocks, heads, shape[0])](
            q, k, v, shape[1], shape[2], out,
            HEADS=heads, DIM=dim, DIM_PADDED=padded, **strides, SCALE=factor,
            WINDOW=window, HALO=halo, **tile.constants,
            num_warps=tile.num_warps, num_stages=tile.num_stages,
        )  # fmt: skip
    return out


def window_spec(capability: int, heads: int, dim: int, window: int, halo: int) -> KernelSpec:
    """Describe the kernel for maps of their own, to be compiled ahead of time; dim is 2**n."""
    tile = config("attention", f"window{window}_d{dim}", capability)
    width = heads * dim
    return KernelSpec(
        name=f"window_attention_f16_w{window}_h{halo}_{heads}x{dim}",
        function=window_attention_kernel,
        signature={
            **dict.fromkeys(("q", "k", "v"), "*fp16"),
            **dict.fromkeys(("rows", "columns"), "i32"),
            "out": "*fp16",
        },
        constants={
            "HEADS": heads,
            "DIM": dim,
            "DIM_PADDED": dim,
            **dict.fromkeys(("Q_STRIDE", "K_STRIDE", "V_STRIDE"), width),
            "SCALE": score_factor(None, dim),
            "WINDOW": window,
            "HALO": halo,
            **tile.constants,
        },
        num_warps=tile.num_warps,
        num_stages=tile.num_stages,
    )
