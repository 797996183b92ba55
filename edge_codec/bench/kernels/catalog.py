"""All kernels that are measured, by name."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from edge_codec.bench.kernels.case import KernelCase
from edge_codec.errors import EngineError

if TYPE_CHECKING:
    import torch

KERNELS = (
    "codebook_lookup",
    "attention",
    "wavelet",
    "normalize",
    "int8_conv",
    "token_rates",
    "rans",
)


def cases(
    device: torch.device, small: bool, kernels: Sequence[str] = KERNELS
) -> Iterator[KernelCase]:
    """Yield the cases of the named kernels on a device; see `KernelCase`.

    Raises
    ------
    EngineError
        If there is no such kernel.
    """
    unknown = [name for name in kernels if name not in KERNELS]
    if unknown:
        raise EngineError(f"no kernel {', '.join(unknown)}; use some of {', '.join(KERNELS)}")
    for name in kernels:
        module = importlib.import_module(f"edge_codec.bench.kernels.{name}")
        yield from module.cases(device, small)
