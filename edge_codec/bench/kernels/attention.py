"""Attention against torch's, with and without LayerNorm and projection, and in windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.nn import functional

from edge_codec.bench.kernels.case import KernelCase
from edge_codec.kernels.attention import attention
from edge_codec.kernels.norm_projection import FoldedNorm, fold_norm, norm_projection
from edge_codec.kernels.reference import attention as reference
from edge_codec.kernels.window_attention import window_attention

SELF = ((1, 288, 8, 64), (8, 1024, 8, 64), (8, 1024, 4, 128), (8, 256, 4, 32))
"""Batch, positions, heads, dimension of a head."""

SMALL_SELF = ((1, 70, 2, 32), (2, 33, 1, 64))
MAPS = ((1, 64, 64, 4, 32, 8, 4),)
"""Batch, rows, columns, heads, dimension of a head, window, halo."""

SMALL_MAPS = ((1, 9, 11, 1, 32, 8, 2),)


def cases(device: torch.device, small: bool) -> Iterator[KernelCase]:
    """Yield a case per shape; see `KernelCase`."""
    for shape in SMALL_SELF if small else SELF:
        yield _self_case(device, *shape, masked=False)
    yield _self_case(device, *(SMALL_SELF if small else SELF)[0], masked=True)
    yield _norm_case(device, *((1, 70, 2, 32) if small else (1, 288, 8, 64)))
    for map_shape in SMALL_MAPS if small else MAPS:
        yield _window_case(device, *map_shape)


def _self_case(
    device: torch.device, batch: int, positions: int, heads: int, dim: int, masked: bool
) -> KernelCase:
    width = heads * dim
    packed = torch.randn((batch, positions, 3 * width), device=device).half()
    q, k, v = _thirds(packed)
    mask = torch.rand((batch, positions), device=device) < 0.8 if masked else None
    out = torch.empty((batch, positions, width), dtype=torch.float16, device=device)

    def run() -> torch.Tensor:
        return attention(q, k, v, heads, key_mask=mask, out=out)

    def expect() -> reference.Bounded:
        host = None if mask is None else mask.cpu().numpy()
        return reference.attention(_host(q), _host(k), _host(v), heads, host)

    queries, keys, values = (_heads_apart(part, heads).contiguous() for part in (q, k, v))
    attend = None if mask is None else mask[:, None, None, :]
    return KernelCase(
        kernel="attention",
        shape=f"{batch}x{positions}x{heads}x{dim}{' masked' if masked else ''}",
        dtype="f16",
        run=run,
        check=_checker(run, out, expect),
        bytes_moved=4 * out.numel() * 2 + (0 if mask is None else mask.numel()),
        operations=4 * batch * heads * positions * positions * dim,
        rate="f16",
        baselines={
            "scaled_dot_product_attention": lambda: functional.scaled_dot_product_attention(
                queries, keys, values, attn_mask=attend
            ),
            "eager": lambda: _eager(queries, keys, values, attend),
        },
    )


def _norm_case(
    device: torch.device, batch: int, positions: int, heads: int, dim: int
) -> KernelCase:
    width = heads * dim
    x = torch.randn((batch, positions, width), device=device).half()
    weight = (torch.randn((3 * width, width), device=device) / width**0.5).half()
    bias, beta = (0.1 * torch.randn(size, device=device).half() for size in (3 * width, width))
    gamma = (1 + 0.1 * torch.randn(width, device=device)).half()
    layer = fold_norm(weight, bias, gamma, beta)
    packed = torch.empty((batch, positions, 3 * width), dtype=torch.float16, device=device)
    out = torch.empty_like(x)

    def run() -> torch.Tensor:
        norm_projection(x, layer, out=packed)
        q, k, v = _thirds(packed)
        return attention(q, k, v, heads, out=out)

    def expect() -> reference.Bounded:
        reference.check_bound(_host(packed), _project(x, layer))
        q, k, v = _thirds(packed)
        return reference.attention(_host(q), _host(k), _host(v), heads)

    def baseline() -> torch.Tensor:
        normal = functional.layer_norm(x, (width,), gamma, beta)
        projected = _thirds(functional.linear(normal, weight, bias))
        q, k, v = (_heads_apart(part, heads) for part in projected)
        return functional.scaled_dot_product_attention(q, k, v)

    rows = batch * positions
    return KernelCase(
        kernel="attention",
        shape=f"{batch}x{positions}x{heads}x{dim} with norm and projection",
        dtype="f16",
        run=run,
        check=_checker(run, out, expect, packed),
        bytes_moved=2 * (2 * rows * width + weight.numel()) + 2 * 4 * 3 * width,
        operations=2 * rows * weight.numel() + 4 * rows * heads * positions * dim,
        rate="f16",
        baselines={"LayerNorm + Linear + scaled_dot_product_attention": baseline},
    )


def _window_case(
    device: torch.device,
    batch: int,
    rows: int,
    columns: int,
    heads: int,
    dim: int,
    window: int,
    halo: int,
) -> KernelCase:
    shape = (batch, rows, columns, heads * dim)
    q, k, v = (torch.randn(shape, device=device).half() for _ in range(3))
    out = torch.empty_like(q)

    def run() -> torch.Tensor:
        return window_attention(q, k, v, heads, window=window, halo=halo, out=out)

    def expect() -> reference.Bounded:
        return reference.window_attention(_host(q), _host(k), _host(v), heads, window, halo)

    pairs = _count_near(rows, window, halo) * _count_near(columns, window, halo)
    return KernelCase(
        kernel="attention",
        shape=f"{batch}x{rows}x{columns}x{heads}x{dim} window {window} halo {halo}",
        dtype="f16",
        run=run,
        check=_checker(run, out, expect),
        bytes_moved=4 * out.numel() * 2,
        operations=4 * batch * heads * pairs * dim,
        rate="f16",
        baselines={
            "unfold + scaled_dot_product_attention": lambda: _unfolded(q, k, v, heads, window, halo)
        },
    )


def _checker(
    run: Callable[[], Any],
    out: torch.Tensor,
    expect: Callable[[], reference.Bounded],
    *between: torch.Tensor,
) -> Callable[[], str]:
    def check() -> str:
        for tensor in (out, *between):
            tensor.fill_(float("nan"))
        run()
        share = reference.check_bound(_host(out), expect())
        return f"{100 * share:.0f} % of the error that rounding explains"

    return check


def _host(tensor: torch.Tensor) -> Any:
    return tensor.cpu().numpy()


def _project(x: torch.Tensor, layer: FoldedNorm) -> reference.Bounded:
    return reference.norm_projection(_host(x), _host(layer.weight), _host(layer.bias))


def _thirds(packed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return queries, keys and values of a packed projection, as they lie."""
    q, k, v = packed.chunk(3, dim=-1)
    return q, k, v


def _heads_apart(rows: torch.Tensor, heads: int) -> torch.Tensor:
    """Return (batch, positions, heads * dim) as (batch, heads, positions, dim)."""
    batch, positions, width = rows.shape
    return rows.reshape(batch, positions, heads, width // heads).transpose(1, 2)


def _eager(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return torch.matmul(scores.softmax(dim=-1), v)


def _count_near(size: int, window: int, halo: int) -> int:
    """Pairs of a position and one that counts for it, along one axis."""
    starts = (position // window * window for position in range(size))
    return sum(min(size, start + window + halo) - max(0, start - halo) for start in starts)


def _unfolded(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int, window: int, halo: int
) -> torch.Tensor:
    """Windows cut out and attended to as a batch; the halo beyond the borders counts as zeros."""
    keys, values = (_cut(part, heads, window, halo) for part in (k, v))
    return functional.scaled_dot_product_attention(_cut(q, heads, window, 0), keys, values)


def _cut(maps: torch.Tensor, heads: int, window: int, halo: int) -> torch.Tensor:
    """Return a map's windows, (batch * windows, heads, positions, dim)."""
    _, rows, columns, width = maps.shape
    below, right = -rows % window + halo, -columns % window + halo
    padded = functional.pad(maps, (0, 0, halo, right, halo, below))
    span = window + 2 * halo
    # (batch, windows down, windows across, width, span, span)
    cut = padded.unfold(1, span, window).unfold(2, span, window)
    apart = cut.reshape(-1, heads, width // heads, span * span)
    return apart.transpose(2, 3)
