"""Probabilities of tokens on the GPU, with the shipped token model and random tokens."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from edge_codec.base.token_model import TokenModel, load_token_model
from edge_codec.bench.kernels.case import KernelCase
from edge_codec.errors import EngineError
from edge_codec.kernels.reference import token_rates as reference
from edge_codec.kernels.token_rates import rate_tables, token_pairs
from edge_codec.manifest import load_manifest
from edge_codec.spec import ModelId

DISTINCT = 2
"""Frames that the reference computes; copies of them make the rest."""


def cases(device: torch.device, small: bool) -> Iterator[KernelCase]:
    """Yield the cases on a device; see `KernelCase`."""
    model = load_token_model(load_manifest(ModelId.VQVAE).read("token_model.npz"))
    if small:
        yield _case(device, model, (1, 4, 5), predicted=True)
        yield _case(device, model, (3, 3, 3), predicted=False)
    else:
        yield _case(device, model, (1, 32, 32), predicted=True)
        yield _case(device, model, (1, 32, 32), predicted=False)
        yield _case(device, model, (64, 32, 32), predicted=True)


def _case(
    device: torch.device, model: TokenModel, shape: tuple[int, int, int], *, predicted: bool
) -> KernelCase:
    n_frames, h, w = shape
    tokens, before = np.random.default_rng().integers(
        0, model.n_codes, (2, min(n_frames, DISTINCT), h, w), dtype=np.uint16
    )
    repeats = [i % len(tokens) for i in range(n_frames)]
    expected = torch.from_numpy(
        np.stack(
            [
                reference.token_pairs(frame, earlier if predicted else None, model)
                for frame, earlier in zip(tokens, before, strict=True)
            ]
        )[repeats]
    ).to(device)
    tables = rate_tables(model, device)
    current = torch.from_numpy(tokens[repeats].astype(np.int32)).to(device)
    previous = torch.from_numpy(before[repeats].astype(np.int32)).to(device) if predicted else None
    out = torch.empty_like(expected)

    def run() -> None:
        token_pairs(current, previous, tables, out=out)

    def check() -> str:
        torch.bitwise_not(expected, out=out)
        run()
        if not torch.equal(out, expected):
            wrong = int((out != expected).sum())
            raise EngineError(f"token_rates: {wrong} of {out.numel()} pairs differ")
        return "exact"

    moved = 4 * current.numel() * (2 if predicted else 1) + 4 * out.numel()
    moved += 2 * tables.rows.numel() + 4 * tables.exp2.numel()
    kind = "predicted" if predicted else "key"
    return KernelCase(
        "token_rates", f"{kind} {n_frames}x{h}x{w}", "i32", run, check, moved, 0, "none"
    )
