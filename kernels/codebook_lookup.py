"""Codebook lookup: the nearest code of each latent, and the code itself when it is asked for.

`token[n] = argmin_k |x_n - c_k|^2 = argmax_k (x_n . c_k - |c_k|^2 / 2)`; the lowest index wins a
tie, within a tile of codes, between tiles, and between the programs that share a search. A score
that is NaN never wins; a latent all of whose scores are NaN or -inf gets token 0, so that a token
is always below the number of codes. No matrix of scores exists in memory: a program holds a block
of latents and walks over the codes, one tile at a time.

Scores of int8 are exact integers. Scores of float16 are sums in float32, so that two codes whose
distances differ by less than the rounding of such a sum may change places; see
`edge_codec.kernels.reference.codebook_lookup.count_ties`.

Codes of equal length need no norms, and the token is that of the largest cosine. Latents need not
be normalized for it: dividing a latent by its length divides all its scores by the same positive
number, which no argmax sees.

Where few latents would leave multiprocessors idle (32 latents are one program, and 4,096 codes are
64 steps one after the other), programs share the search: each takes a part of the codes, and a
second kernel, `nearest_of_parts_kernel`, chooses between their winners.
"""

from __future__ import annotations

from typing import Any

import torch
import triton

from edge_codec.errors import EngineError
from edge_codec.kernels.codebook_search import (
    nearest_f16_kernel,
    nearest_i8_kernel,
    nearest_of_parts_kernel,
)
from edge_codec.kernels.spec import KernelSpec
from edge_codec.kernels.tables import Config, config
from edge_codec.kernels.tensors import check_dim, check_tensor, multiprocessors, on_device, tile_of

MAX_DIM = 128

MAX_ELEMENTS = (1 << 31) - 1
"""Of the codes: offsets into them are 32-bit integers."""

MAX_LATENTS = 1 << 30
"""Their indices are 32-bit integers, with room for a block beyond the last."""

FEW_LATENTS = 2048
"""Below it tiles are small, so that there are programs for all multiprocessors."""

UNDIVIDED_TILES = 8
"""So few are faster than a second launch. Chosen, not measured."""


def code_norms(codes: torch.Tensor) -> torch.Tensor:
    """Compute once per codebook what a lookup needs of its codes' lengths.

    Parameters
    ----------
    codes : Tensor, shape (n_codes, dim), float16 or int8

    Returns
    -------
    Tensor, shape (n_codes,)
        Half the squared lengths, float32, of float16 codes; the squared lengths, int32, of int8.

    Raises
    ------
    EngineError
        If the codes are of another type, or not finite.
    """
    _check_codes(codes)
    squares = codes.double().square().sum(dim=1)
    if not bool(squares.isfinite().all()):
        raise EngineError("codes hold NaN or infinity; no latent has a nearest one")
    return squares.int() if codes.dtype == torch.int8 else (0.5 * squares).float()


def make_workspace(latents: torch.Tensor, codes: torch.Tensor) -> torch.Tensor | None:
    """Allocate what programs need to share a search, where sharing it is faster.

    Parameters
    ----------
    latents : Tensor, shape (..., dim), float16 or int8
    codes : Tensor, shape (n_codes, dim)

    Returns
    -------
    Tensor, shape (2, parts, n_latents), int32, or None
        For `codebook_lookup`; None where every program searches all codes.
    """
    n_rows = _check_latents(latents, codes)
    tile = _tile(latents, n_rows)
    tiles = triton.cdiv(len(codes), tile.constants["BLOCK_N"])
    blocks = triton.cdiv(n_rows, tile.constants["BLOCK_M"])
    parts = 1
    if tiles > UNDIVIDED_TILES:
        # Two programs side by side hide each other's waits.
        parts = min(tiles, max(1, 2 * multiprocessors(latents.device) // blocks))
    parts = max(parts, triton.cdiv(tiles, _most_tiles(latents)))
    if parts == 1:
        return None
    parts = triton.cdiv(tiles, triton.cdiv(tiles, parts))
    return torch.empty((2, parts, n_rows), dtype=torch.int32, device=latents.device)


def codebook_lookup(
    latents: torch.Tensor,
    codes: torch.Tensor,
    norms: torch.Tensor | None,
    *,
    out: torch.Tensor | None = None,
    gathered: torch.Tensor | None = None,
    workspace: torch.Tensor | None = None,
) -> torch.Tensor:
    """Find the nearest code of each latent.

    Parameters
    ----------
    latents : Tensor, shape (..., dim), float16 or int8
        `dim` at most 128.
    codes : Tensor, shape (n_codes, dim), dtype of the latents
    norms : Tensor, shape (n_codes,), or None
        From `code_norms`. None takes the code of the largest product, which for codes of equal
        length is that of the largest cosine.
    out : Tensor, shape (...), int32, optional
        Takes the tokens; then nothing is allocated.
    gathered : Tensor, shape (..., dim), dtype of the codes, optional
        Takes the nearest codes.
    workspace : Tensor, optional
        From `make_workspace`. Without it one is allocated where it helps, unless `out` is given.

    Returns
    -------
    Tensor, shape (...), int32
        The tokens.

    Raises
    ------
    EngineError
        If a tensor does not fit, or the device cannot run the kernel.
    """
    n_rows = _check_latents(latents, codes)
    device, dtype = latents.device, latents.dtype
    if norms is not None:
        norm_dtype = torch.int32 if dtype == torch.int8 else torch.float32
        check_tensor("norms", norms, norm_dtype, codes.shape[:1], device)
    if gathered is not None:
        check_tensor("gathered", gathered, dtype, latents.shape, device)
    if out is not None:
        check_tensor("out", out, torch.int32, latents.shape[:-1], device)
    else:
        out = torch.empty(latents.shape[:-1], dtype=torch.int32, device=device)
        workspace = make_workspace(latents, codes) if workspace is None else workspace
    if workspace is not None:
        parts = workspace.shape[1] if workspace.ndim == 3 else 1
        check_tensor("workspace", workspace, torch.int32, (2, parts, n_rows), device)
    with on_device(device):
        _launch(latents, codes, norms, out, gathered, workspace)
    return out


def _launch(
    latents: torch.Tensor,
    codes: torch.Tensor,
    norms: torch.Tensor | None,
    tokens: torch.Tensor,
    gathered: torch.Tensor | None,
    workspace: torch.Tensor | None,
) -> None:
    n_rows, n_codes, dims = tokens.numel(), len(codes), _dims(latents)
    tile = _tile(latents, n_rows)
    block_m, block_n = tile.constants["BLOCK_M"], tile.constants["BLOCK_N"]
    tiles = triton.cdiv(n_codes, block_n)
    parts = 1 if workspace is None else workspace.shape[1]
    tiles_per_part = triton.cdiv(tiles, parts)
    if tiles_per_part > _most_tiles(latents):
        raise EngineError(
            f"{n_codes} codes are too many for {parts} programs; use make_workspace(latents, codes)"
        )
    is_int8 = latents.dtype == torch.int8
    kernel = nearest_i8_kernel if is_int8 else nearest_f16_kernel
    scores, winners, kept = None, tokens, gathered
    if workspace is not None:
        scores, winners, kept = workspace[0], workspace[1], None
        scores = scores if is_int8 else scores.view(torch.float32)
    parts = triton.cdiv(tiles, tiles_per_part)
    kernel[(triton.cdiv(n_rows, block_m), parts)](
        latents, codes, norms, n_rows, n_codes, tiles_per_part * block_n, scores, winners, kept,
        **dims, **tile.constants, SHORT=n_codes < block_n,
        num_warps=tile.num_warps, num_stages=tile.num_stages,
    )  # fmt: skip
    if workspace is None:
        return
    tile = tile_of("codebook_lookup", "parts", latents.device, nearest_of_parts_kernel)
    nearest_of_parts_kernel[(triton.cdiv(n_rows, tile.constants["BLOCK_M"]),)](
        scores, winners, codes, n_rows, parts, tokens, gathered,
        **dims, **tile.constants, num_warps=tile.num_warps, num_stages=tile.num_stages,
    )  # fmt: skip


def specs(capability: int) -> tuple[KernelSpec, ...]:
    """Kernels to compile ahead of time, tiled for an architecture."""
    return (
        _spec("f16_d64", "f16_d64_many", 64, capability, ["norms", "tokens"]),
        _spec("f16_d64_gathered", "f16_d64_many", 64, capability, ["norms", "tokens", "gathered"]),
        _spec("f16_d12_shared", "f16_d16_few", 12, capability, ["norms", "scores", "tokens"]),
        _spec("i8_d32", "i8_d32_few", 32, capability, ["norms", "tokens"]),
        _parts_spec(capability),
    )


def _spec(name: str, variant: str, dim: int, capability: int, given: list[str]) -> KernelSpec:
    """Describe a lookup with those of the optional tensors that are given."""
    tile = config("codebook_lookup", variant, capability)
    is_int8 = variant.startswith("i8")
    matrix, norm = ("*i8", "*i32") if is_int8 else ("*fp16", "*fp32")
    kinds = {"latents": matrix, "codes": matrix, "norms": norm}
    kinds.update(dict.fromkeys(("n_rows", "n_codes", "codes_per_part"), "i32"))
    kinds.update({"scores": norm, "tokens": "*i32", "gathered": matrix})
    absent = [key for key in ("norms", "scores", "gathered") if key not in given]
    padded = int(variant.split("_")[1][1:])
    constants = {"DIM": dim, "DIM_PADDED": padded, "SHORT": False, **tile.constants}
    return KernelSpec(
        name=f"codebook_lookup_{name}",
        function=nearest_i8_kernel if is_int8 else nearest_f16_kernel,
        signature={key: kind for key, kind in kinds.items() if key not in absent},
        constants={**dict.fromkeys(absent), **constants},
        num_warps=tile.num_warps,
        num_stages=tile.num_stages,
    )


def _parts_spec(capability: int) -> KernelSpec:
    tile = config("codebook_lookup", "parts", capability)
    kinds = {"scores": "*fp32", "parts": "*i32", "n_rows": "i32", "n_parts": "i32"}
    absent = dict.fromkeys(("codes", "gathered"))
    return KernelSpec(
        name="codebook_lookup_parts_f16",
        function=nearest_of_parts_kernel,
        signature={**kinds, "tokens": "*i32"},
        constants={**absent, "DIM": 12, "DIM_PADDED": 16, **tile.constants},
        num_warps=tile.num_warps,
        num_stages=tile.num_stages,
    )


def _check_codes(codes: torch.Tensor) -> None:
    if codes.ndim != 2 or codes.dtype not in (torch.float16, torch.int8) or not len(codes):
        raise EngineError(
            f"codes are {tuple(codes.shape)} {codes.dtype}; expected (n_codes, dim) float16 or int8"
        )
    check_dim("dim of the codes", codes.shape[1], 1, MAX_DIM)
    check_dim("number of codes times dim", codes.numel(), 1, MAX_ELEMENTS)
    check_tensor("codes", codes, codes.dtype, codes.shape, codes.device)


def _check_latents(latents: torch.Tensor, codes: torch.Tensor) -> int:
    """Return the number of latents."""
    _check_codes(codes)
    shape = (*latents.shape[:-1], codes.shape[1])
    check_tensor("latents", latents, codes.dtype, shape, codes.device)
    n_rows = latents.numel() // codes.shape[1]
    check_dim("number of latents", n_rows, 1, MAX_LATENTS)
    return n_rows


def _dims(latents: torch.Tensor) -> dict[str, int]:
    # 16 columns are the least that a matrix instruction multiplies in float16, 32 in int8.
    least = 32 if latents.dtype == torch.int8 else 16
    dim = latents.shape[-1]
    return {"DIM": dim, "DIM_PADDED": max(least, triton.next_power_of_2(dim))}


def _most_tiles(latents: torch.Tensor) -> int:
    """Tiles that a program can tell apart; see `nearest_i8_kernel`."""
    is_int8 = latents.dtype == torch.int8
    return 65536 // _dims(latents)["DIM_PADDED"] // 4 if is_int8 else MAX_ELEMENTS


def _tile(latents: torch.Tensor, n_rows: int) -> Config:
    short = "i8" if latents.dtype == torch.int8 else "f16"
    amount = "few" if n_rows < FEW_LATENTS else "many"
    variant = f"{short}_d{_dims(latents)['DIM_PADDED']}_{amount}"
    function: Any = nearest_i8_kernel if short == "i8" else nearest_f16_kernel
    return tile_of("codebook_lookup", variant, latents.device, function)
