"""Codebook lookup against a matrix of distances and its argmin."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from edge_codec.bench.kernels.case import KernelCase
from edge_codec.errors import EngineError
from edge_codec.kernels.codebook_lookup import code_norms, codebook_lookup, make_workspace
from edge_codec.kernels.reference import codebook_lookup as reference

Shape = tuple[int, int, int]

SHAPES: dict[torch.dtype, tuple[Shape, ...]] = {
    torch.float16: ((32, 4096, 12), (1024, 2048, 32), (4096, 8192, 64), (65536, 8192, 64)),
    torch.int8: ((1024, 2048, 32), (4096, 8192, 64), (65536, 8192, 64)),
}
"""Latents, codes, dimension; 1024 x 2048 x 32 is a frame of the zoo's codec."""

SMALL: dict[torch.dtype, tuple[Shape, ...]] = {
    torch.float16: ((32, 130, 12), (33, 65, 33)),
    torch.int8: ((40, 130, 32),),
}


def cases(device: torch.device, small: bool) -> Iterator[KernelCase]:
    """Yield a case per type and shape; see `KernelCase`."""
    for dtype, shapes in (SMALL if small else SHAPES).items():
        for shape in shapes:
            yield _case(device, dtype, shape)


def _case(device: torch.device, dtype: torch.dtype, shape: Shape) -> KernelCase:
    n_latents, n_codes, dim = shape
    latents, codes = _random(device, dtype, n_latents, dim), _random(device, dtype, n_codes, dim)
    norms = code_norms(codes)
    workspace = make_workspace(latents, codes)
    tokens = torch.empty(n_latents, dtype=torch.int32, device=device)
    gathered = torch.empty_like(latents)

    def run() -> torch.Tensor:
        return codebook_lookup(latents, codes, norms, out=tokens, workspace=workspace)

    def check() -> str:
        tokens.fill_(-1)
        run()
        first = tokens.clone()
        tokens.fill_(-1)
        gathered.fill_(-1)
        codebook_lookup(latents, codes, norms, out=tokens, gathered=gathered, workspace=workspace)
        if not torch.equal(tokens, first) or not torch.equal(gathered, codes[tokens.long()]):
            raise EngineError(f"{shape}: a second run, or the gathered codes, differ")
        host = tokens.cpu().numpy(), latents.cpu().numpy(), codes.cpu().numpy()
        ties = reference.count_ties(*host)
        return f"{ties} ties of {n_latents}" if ties else "exact"

    size = latents.element_size()
    return KernelCase(
        kernel="codebook_lookup",
        shape="x".join(map(str, shape)),
        dtype="i8" if dtype == torch.int8 else "f16",
        run=run,
        check=check,
        bytes_moved=(n_latents + n_codes) * dim * size + 4 * (n_codes + n_latents),
        operations=2 * n_latents * n_codes * dim,
        rate="i8" if dtype == torch.int8 else "f16",
        baselines=_baselines(latents, codes),
    )


def _random(device: torch.device, dtype: torch.dtype, rows: int, dim: int) -> torch.Tensor:
    if dtype == torch.int8:
        return torch.randint(-128, 128, (rows, dim), dtype=dtype, device=device)
    return torch.randn((rows, dim), device=device).to(dtype)


def _baselines(latents: torch.Tensor, codes: torch.Tensor) -> Mapping[str, Callable[[], Any]]:
    """Return what one writes in torch: distances in float32, or products in float16."""
    wide = latents.float(), codes.float()
    baselines: dict[str, Callable[[], Any]] = {
        "cdist + argmin": lambda: torch.cdist(*wide).argmin(dim=1)
    }
    if latents.dtype == torch.float16:
        half_norms = (0.5 * wide[1].square().sum(dim=1)).to(codes.dtype)
        baselines["float16 addmm + argmax"] = lambda: torch.addmm(
            half_norms, latents, codes.T, beta=-1
        ).argmax(dim=1)
    return baselines
