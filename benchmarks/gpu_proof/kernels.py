"""Every kernel against its reference on fresh random inputs, then against the clock."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from benchmarks.gpu_proof.section import Row, Setting
from edge_codec.bench.kernels.catalog import KERNELS, cases
from edge_codec.bench.kernels.measure import check_case, measure_case
from edge_codec.errors import EdgeCodecError

if TYPE_CHECKING:
    from edge_codec.bench.kernels.timing import Ceilings


def section(setting: Setting) -> Iterator[Row]:
    """Yield a row per kernel and shape, after one with the measured ceilings."""
    if setting.interpret:
        for case in cases(torch.device("cpu"), small=True):
            yield check_case(case)
        return
    from edge_codec.bench.kernels.timing import measure_ceilings

    ceilings = measure_ceilings()
    yield {
        "copy_bytes_per_s": ceilings.bytes_per_s,
        "matrix_operations_per_s": ceilings.operations_per_s,
    }
    for kernel in KERNELS:
        yield from _measure(kernel, ceilings)


def _measure(kernel: str, ceilings: Ceilings) -> Iterator[Row]:
    """Yield a kernel's rows; one that is wrong must not hide the others' results."""
    try:
        for case in cases(torch.device("cuda"), False, [kernel]):
            yield measure_case(case, ceilings)
    except (EdgeCodecError, RuntimeError, ImportError) as error:
        yield {"kernel": kernel, "status": "FAILED", "why": f"{type(error).__name__}: {error}"}
