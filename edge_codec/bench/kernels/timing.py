"""Time of work on a GPU, and the two ceilings that it is compared with, measured in the same run.

A kernel is timed twice. *Warm*: many launches recorded in one CUDA graph, so that neither the
host nor the gaps between launches count and small inputs lie in the cache, as they do within a
frame. *Cold*: single launches by events, the level-2 cache overwritten before each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import triton.testing

QUANTILES = (0.2, 0.5, 0.8)
REPEAT_MS = 40
COPY_BYTES = 1 << 30
MATRIX_SIDE = 8192


@dataclass(frozen=True, slots=True)
class Times:
    """Quantiles of a time in ms: 20 %, median, 80 %."""

    p20: float
    p50: float
    p80: float


def time_warm(run: Callable[[], Any]) -> Times:
    """Time of one call when many are replayed in a graph."""
    torch.cuda.synchronize()  # the graph is recorded on a stream of its own
    found = triton.testing.do_bench_cudagraph(run, rep=REPEAT_MS, quantiles=list(QUANTILES))
    return Times(*map(float, found))


def time_cold(run: Callable[[], Any]) -> Times:
    """Time of one call after its inputs were driven out of the cache."""
    found = triton.testing.do_bench(run, warmup=10, rep=REPEAT_MS, quantiles=list(QUANTILES))
    return Times(*map(float, found))


@dataclass(frozen=True, slots=True)
class Ceilings:
    """What the GPU reaches on easy work.

    Attributes
    ----------
    bytes_per_s : float
        Device-to-device copy of 1 GiB, bytes read and bytes written counted.
    operations_per_s : dict of str to float
        Product of two matrices of 8192 x 8192 random numbers, additions and multiplications
        counted, by data type: 'f16', 'i8'.
    """

    bytes_per_s: float
    operations_per_s: dict[str, float]

    def floor_ms(self, bytes_moved: int, operations: int, rate: str) -> float:
        """Return the least time for some work: the larger of its bytes' and its operations'."""
        seconds = bytes_moved / self.bytes_per_s
        if rate in self.operations_per_s:
            seconds = max(seconds, operations / self.operations_per_s[rate])
        return 1e3 * seconds


def measure_ceilings() -> Ceilings:
    """Measure the current GPU."""
    return Ceilings(_copy_rate(), _matrix_rates())


def _copy_rate() -> float:
    source = torch.randint(0, 255, (COPY_BYTES,), dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return float(2 * COPY_BYTES / (1e-3 * time_cold(lambda: target.copy_(source)).p50))


def _matrix_rates() -> dict[str, float]:
    """Additions and multiplications a second, by data type, on random numbers."""
    side = (MATRIX_SIDE, MATRIX_SIDE)
    halves = [torch.randn(side, device="cuda", dtype=torch.float16) for _ in range(2)]
    small = [torch.randint(-127, 127, side, device="cuda", dtype=torch.int8) for _ in range(2)]
    products: dict[str, Callable[[], Any]] = {
        "f16": lambda: torch.mm(*halves),
        "i8": lambda: torch._int_mm(small[0], small[1].t()),
    }
    count = 2 * MATRIX_SIDE**3
    return {name: count / (1e-3 * time_cold(run).p50) for name, run in products.items()}
