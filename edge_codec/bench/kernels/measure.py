"""One row per kernel and shape: whether it is right, how long it takes, what bounds it."""

from __future__ import annotations

from typing import Any

from edge_codec.bench.kernels.case import KernelCase
from edge_codec.bench.kernels.timing import Ceilings, Times, time_cold, time_warm


def check_case(case: KernelCase) -> dict[str, Any]:
    """Compare a kernel with its reference.

    Raises
    ------
    EngineError
        If it is wrong.
    """
    return {
        "kernel": case.kernel,
        "shape": case.shape,
        "dtype": case.dtype,
        "agreement": case.check(),
    }


def measure_case(case: KernelCase, ceilings: Ceilings) -> dict[str, Any]:
    """Check a kernel, then time it and what it is compared with.

    Returns
    -------
    dict
        As `check_case`, with `warm_ms` and `cold_ms` (p20, p50, p80), `bytes_moved`, `operations`,
        `floor_ms` (from the measured ceilings), `of_floor` (floor over cold median, 1 is the
        ceiling), and for each baseline its `warm_ms`, `cold_ms` and how many times longer its
        median takes, `warm_ratio` and `cold_ratio`.

    Raises
    ------
    EngineError
        If the kernel is wrong.
    """
    row = check_case(case)
    warm, cold = time_warm(case.run), time_cold(case.run)
    floor = ceilings.floor_ms(case.bytes_moved, case.operations, case.rate)
    return {
        **row,
        "warm_ms": _fields(warm),
        "cold_ms": _fields(cold),
        "bytes_moved": case.bytes_moved,
        "operations": case.operations,
        "floor_ms": floor,
        "of_floor": floor / cold.p50,
        "baselines": {
            name: _compare(warm, cold, time_warm(run), time_cold(run))
            for name, run in case.baselines.items()
        },
    }


def _fields(times: Times) -> dict[str, float]:
    return {"p20": times.p20, "p50": times.p50, "p80": times.p80}


def _compare(warm: Times, cold: Times, other_warm: Times, other_cold: Times) -> dict[str, Any]:
    return {
        "warm_ms": _fields(other_warm),
        "cold_ms": _fields(other_cold),
        "warm_ratio": other_warm.p50 / warm.p50,
        "cold_ratio": other_cold.p50 / cold.p50,
    }
