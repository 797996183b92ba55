"""Attention over short sequences: each query's softmax-weighted mean of values.

    out[i] = sum_j softmax_j(scale * (q_i + a) . k_j) v_j + b

for each sequence of a batch and each head; float16 in and out, float32 in between. Queries, keys
and values are rows of heads side by side, (batch, positions, heads * dim), as projections write
them: nothing is transposed, and slices of one packed projection can be given as they are. A mask
says which keys count; where none does, the result is 0.

What is fused, and what is not:

- Biases of the projection: `a` is added to the queries as they are loaded and `b` to the result,
  because the weights of a mean add up to 1. A bias of the keys changes all scores of a query by
  the same number, which no softmax sees, so there is none to give.
- LayerNorm goes into the projection (`edge_codec.kernels.norm_projection`), not here. A program of
  this kernel needs the keys and values of a whole sequence: projecting them inside would repeat
  288 x 512 x 128 multiplications in every program, or leave one program per head, 8 for a device
  of 132 multiprocessors. So self-attention with its norm is two launches, norm and projection,
  then attention; what the first writes, 0.9 MB at 288 x 1536, stays in the level-2 cache.
- No split of the keys between programs: at most 1,024 keys are 16 steps, 32 at dimension 128.

Each program holds 64 queries of one head: 16 rows for each of four warps, a row's maximum and sum
within the four threads that share it. A NaN makes its query's or its sequence's result NaN.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from edge_codec.errors import EngineError
from edge_codec.kernels.norm_projection import norm_projection_spec
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
from edge_codec.kernels.window_attention import window_spec

MAX_POSITIONS = 1024


@triton.jit
def attention_kernel(
    q,  # (batch, n_queries, HEADS * DIM) float16, Q_STRIDE from row to row
    k,  # (batch, n_keys, HEADS * DIM) float16, K_STRIDE from row to row
    v,  # (batch, n_keys, HEADS * DIM) float16, V_STRIDE from row to row
    key_mask,  # (batch, n_keys) uint8, 0 where a key does not count, or None
    q_bias,  # (HEADS * DIM,) float16, or None
    v_bias,  # (HEADS * DIM,) float16, or None
    n_queries,
    n_keys,
    out,  # (batch, n_queries, HEADS * DIM) float16
    HEADS: tl.constexpr,
    DIM: tl.constexpr,
    DIM_PADDED: tl.constexpr,
    Q_STRIDE: tl.constexpr,
    K_STRIDE: tl.constexpr,
    V_STRIDE: tl.constexpr,
    SCALE: tl.constexpr,  # times log2(e)
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """BLOCK_M queries of a head; grid (blocks of queries, heads, batch)."""
    head = tl.program_id(1) * DIM
    batch = tl.program_id(2).to(tl.int64)
    query = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    dims = tl.arange(0, DIM_PADDED)
    x = load_heads(
        q + batch * n_queries * Q_STRIDE + head, query, query < n_queries, Q_STRIDE, DIM, DIM_PADDED
    )
    if q_bias is not None:
        x += tl.load(q_bias + head + dims, mask=dims < DIM, other=0.0)[None, :]
    k += batch * n_keys * K_STRIDE + head
    v += batch * n_keys * V_STRIDE + head
    highest = tl.full((BLOCK_M,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK_M,), tl.float32)
    summed = tl.zeros((BLOCK_M, DIM_PADDED), tl.float32)
    for first in range(0, n_keys, BLOCK_N):
        key = first + tl.arange(0, BLOCK_N)
        exists = key < n_keys
        keep = exists
        if key_mask is not None:
            keep = tl.load(key_mask + batch * n_keys + key, mask=exists, other=0) != 0
        keys = load_heads(k, key, exists, K_STRIDE, DIM, DIM_PADDED)
        values = load_heads(v, key, exists, V_STRIDE, DIM, DIM_PADDED)
        highest, total, summed = attend(x, keys, values, keep, highest, total, summed, SCALE)
    mean = average(total, summed)
    if v_bias is not None:
        bias = tl.load(v_bias + head + dims, mask=dims < DIM, other=0.0).to(tl.float32)
        mean += tl.where(total == 0.0, 0.0, 1.0)[:, None] * bias[None, :]
    out += batch * n_queries * (HEADS * DIM) + head
    mask = (query < n_queries)[:, None] & (dims < DIM)[None, :]
    pointers = out + query[:, None] * (HEADS * DIM) + dims[None, :]
    tl.store(pointers, mean.to(tl.float16), mask=mask)


def attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    heads: int,
    *,
    key_mask: torch.Tensor | None = None,
    q_bias: torch.Tensor | None = None,
    v_bias: torch.Tensor | None = None,
    scale: float | None = None,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """Attend from each query to all keys of its sequence.

    Parameters
    ----------
    q : Tensor, shape (batch, n_queries, heads * dim), float16
        Rows may lie apart (slices of a packed projection); `dim` is 32 to 128.
    k, v : Tensor, shape (batch, n_keys, heads * dim), float16
        At most 1,024 keys, as queries.
    heads : int
    key_mask : Tensor, shape (batch, n_keys), bool or uint8, optional
        Which keys count. The values of the others must be finite all the same.
    q_bias, v_bias : Tensor, shape (heads * dim,), float16, optional
        Biases of the projection, where it did not add them.
    scale : float, optional
        Factor of the scores; 1 / sqrt(dim) if not given.
    out : Tensor, shape (batch, n_queries, heads * dim), float16, optional
        Takes the result; then nothing is allocated.

    Raises
    ------
    EngineError
        If a tensor does not fit, or the device cannot run the kernel.
    """
    shape, device = tuple(q.shape), q.device
    if len(shape) != 3 or k.ndim != 3:
        raise EngineError(f"q is {shape}; expected (batch, n_queries, heads * dim), as k and v")
    dim = head_dim(shape, heads)
    batch, n_queries, width = shape
    n_keys = k.shape[1]
    check_dim("number of queries", n_queries, 1, MAX_POSITIONS)
    check_dim("number of keys", n_keys, 1, MAX_POSITIONS)
    strides = {
        "Q_STRIDE": row_stride("q", q, shape, device),
        "K_STRIDE": row_stride("k", k, (batch, n_keys, width), device),
        "V_STRIDE": row_stride("v", v, (batch, n_keys, width), device),
    }
    mask = _check_mask(key_mask, batch, n_keys, device)
    for name, bias in (("q_bias", q_bias), ("v_bias", v_bias)):
        if bias is not None:
            check_tensor(name, bias, torch.float16, (width,), device)
    factor = score_factor(scale, dim)
    if out is None:
        out = torch.empty(shape, dtype=torch.float16, device=device)
    check_tensor("out", out, torch.float16, shape, device)
    padded = triton.next_power_of_2(dim)
    tile = tile_of("attention", f"f16_d{padded}", device, attention_kernel)
    with on_device(device):
        attention_kernel[(triton.cdiv(n_queries, tile.constants["BLOCK_M"]), heads, batch)](
            q, k, v, mask, q_bias, v_bias, n_queries, n_keys, out,
            HEADS=heads, DIM=dim, DIM_PADDED=padded, **strides, SCALE=factor, **tile.constants,
            num_warps=tile.num_warps, num_stages=tile.num_stages,
        )  # fmt: skip
    return out


def specs(capability: int) -> tuple[KernelSpec, ...]:
    """Kernels to compile ahead of time, tiled for an architecture."""
    return (
        _spec(capability, "f16_8x64", heads=8, dim=64, packed=3, optional=()),
        _spec(
            capability,
            "f16_4x32_masked",
            heads=4,
            dim=32,
            packed=1,
            optional=("key_mask", "q_bias", "v_bias"),
        ),
        norm_projection_spec(capability, width=512, outputs=1536),
        window_spec(capability, heads=4, dim=32, window=8, halo=4),
    )


def _spec(
    capability: int, name: str, heads: int, dim: int, packed: int, optional: tuple[str, ...]
) -> KernelSpec:
    """Describe attention on rows of `packed` times the heads' width; dim is 2**n."""
    tile = config("attention", f"f16_d{dim}", capability)
    kinds = {"key_mask": "*u8", "q_bias": "*fp16", "v_bias": "*fp16"}
    return KernelSpec(
        name=f"attention_{name}",
        function=attention_kernel,
        signature={
            **dict.fromkeys(("q", "k", "v"), "*fp16"),
            **{key: kinds[key] for key in optional},
            **dict.fromkeys(("n_queries", "n_keys"), "i32"),
            "out": "*fp16",
        },
        constants={
            **dict.fromkeys(key for key in kinds if key not in optional),
            "HEADS": heads,
            "DIM": dim,
            "DIM_PADDED": dim,
            **dict.fromkeys(("Q_STRIDE", "K_STRIDE", "V_STRIDE"), packed * heads * dim),
            "SCALE": score_factor(None, dim),
            **tile.constants,
        },
        num_warps=tile.num_warps,
        num_stages=tile.num_stages,
    )


def _check_mask(
    mask: torch.Tensor | None, batch: int, n_keys: int, device: torch.device
) -> torch.Tensor | None:
    """Return the mask's bytes."""
    if mask is None:
        return None
    dtype = torch.uint8 if mask.dtype == torch.uint8 else torch.bool
    check_tensor("key_mask", mask, dtype, (batch, n_keys), device)
    return mask.view(torch.uint8)
