"""Speed and size of the entropy coders: static and adaptive rANS, and tokens.

    python -m benchmarks.bench_entropy [--json FILE.jsonl] [--seconds 0.5]

One core, arrays in memory, Python's call overhead included. Every timed decoder's output is
compared with what was coded. On a machine that does other work as well, the fastest runs tell more
than the median: the table shows the best, the median and the 20th and 80th percentile.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.record import append_record, describe_machine, percentiles
from edge_codec.base.token_model import TokenModel, exp2_table
from edge_codec.base.tokens import TokenCoder
from edge_codec.entropy import rans
from edge_codec.entropy.cdf import normalize_counts

COUNT = 1 << 20
STATIC_SHAPES = ((16, 1), (64, 64), (256, 1), (256, 16), (1024, 4))  # (symbols, contexts)
LANES = (1, 8, 16)


@dataclass(frozen=True, slots=True)
class Coding:
    """One coder on one input: `decode(encode())` must give `symbols`."""

    variant: str
    symbols: NDArray[Any]
    entropy_bits: float | None
    encode: Callable[[], bytes]
    decode: Callable[[bytes], NDArray[Any]]


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="JSON lines to append to")
    parser.add_argument("--seconds", type=float, default=0.5, help="time per measurement")
    options = parser.parse_args()
    machine = describe_machine()
    print(f"{machine['device']}, load {machine['load']}; million symbols or tokens per second")
    print(f"{'variant':<34} {'':<6} {'best':>7} {'p20':>7} {'p50':>7} {'p80':>7}   bits/symbol")
    for coding in [*static_codings(), *adaptive_codings(), *token_codings()]:
        for row in measure(coding, options.seconds):
            print(
                f"{row['variant']:<34} {row['direction']:<6} {row['best']:7.2f} {row['p20']:7.2f} "
                f"{row['p50']:7.2f} {row['p80']:7.2f}   {row['bits_per_symbol']:.4f} "
                f"(entropy {row['entropy_bits'] or 0:.4f})"
            )
            if options.json:
                append_record(options.json, "bench_entropy", row, machine)


def measure(coding: Coding, seconds: float) -> Iterator[dict[str, Any]]:
    """Time both directions and check the decoder's output.

    Raises
    ------
    ValueError
        If the decoded symbols are not the coded ones.
    """
    payload, encode_times = repeat(coding.encode, seconds)
    decoded, decode_times = repeat(lambda: coding.decode(payload), seconds)
    if not np.array_equal(decoded, coding.symbols):
        raise ValueError(f"{coding.variant}: decoded symbols differ from the coded ones")
    for direction, times in (("encode", encode_times), ("decode", decode_times)):
        speeds = coding.symbols.size / np.array(times) / 1e6
        yield {
            "variant": coding.variant,
            "direction": direction,
            "metric": "throughput",
            "unit": "million symbols/s",
            "best": float(speeds.max()),
            **percentiles(speeds),
            "warm_up": 1,
            "shape": list(coding.symbols.shape),
            "dtype": str(coding.symbols.dtype),
            "bits_per_symbol": 8 * len(payload) / coding.symbols.size,
            "entropy_bits": coding.entropy_bits,
        }


def repeat(call: Callable[[], Any], seconds: float) -> tuple[Any, list[float]]:
    """Call once to warm up, then for some time; return the last result and each call's seconds."""
    result = call()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 5:
        start = time.perf_counter()
        result = call()
        times.append(time.perf_counter() - start)
    return result, times


def static_codings() -> Iterator[Coding]:
    """Symbols drawn from the tables they are coded with."""
    for n_symbols, n_contexts in STATIC_SHAPES:
        rng = np.random.default_rng(0)
        cdfs = normalize_counts((rng.gamma(0.5, size=(n_contexts, n_symbols)) * 1e6).astype(int))
        contexts = rng.integers(0, n_contexts, COUNT).astype(np.uint16)
        slots = rng.integers(0, 65536, COUNT)
        symbols = np.zeros(COUNT, np.uint16 if n_symbols > 256 else np.uint8)
        for context in range(n_contexts):
            chosen = contexts == context
            symbols[chosen] = np.searchsorted(cdfs[context], slots[chosen], side="right") - 1
        shares = (cdfs[contexts, symbols.astype(int) + 1] - cdfs[contexts, symbols]) / 65536
        entropy = float(-np.log2(shares).mean())
        rows = contexts if n_contexts > 1 else None
        for lanes in LANES:
            yield Coding(
                f"static {n_symbols}x{n_contexts}, {lanes} lanes",
                symbols,
                entropy,
                partial(rans.encode_static, symbols, cdfs, rows, lanes),
                partial(rans.decode_static, count=COUNT, cdfs=cdfs, contexts=rows, lanes=lanes),
            )


def adaptive_codings() -> Iterator[Coding]:
    """Two-sided geometric symbols, the same distribution in every context."""
    for n_contexts in (1, 16, 256):
        rng = np.random.default_rng(0)
        symbols = np.minimum(np.abs(rng.laplace(size=COUNT)) * 2, 15).astype(np.uint8)
        contexts = rng.integers(0, n_contexts, COUNT).astype(np.uint16)
        shares = np.bincount(symbols) / COUNT
        entropy = float(-(shares[shares > 0] * np.log2(shares[shares > 0])).sum())
        rows = contexts if n_contexts > 1 else None
        for lanes in LANES:
            yield Coding(
                f"adaptive 16x{n_contexts}, {lanes} lanes",
                symbols,
                entropy,
                partial(rans.encode_adaptive, symbols, rows, n_contexts, lanes),
                partial(
                    rans.decode_adaptive,
                    count=COUNT,
                    contexts=rows,
                    n_contexts=n_contexts,
                    lanes=lanes,
                ),
            )


def token_codings() -> Iterator[Coding]:
    """Random tokens under random tables, a frame of 32x32: two symbols per token."""
    rng = np.random.default_rng(0)
    c, leaves = 64, 32
    k = c * leaves
    shapes = [(c,), *[(k + 1, c)] * 3, *[(c + 1, c)] * 4, (c, leaves), *[(k, leaves)] * 3]
    names = [field.name for field in fields(TokenModel) if field.name != "exp2"]
    tables = {
        name: rng.integers(-1500, 1501, shape, dtype=np.int16)
        for name, shape in zip(names, shapes, strict=True)
    }
    coder = TokenCoder(TokenModel(**tables, exp2=exp2_table()))
    tokens, previous = rng.integers(0, k, (2, 32, 32)).astype(np.uint16)
    yield Coding(
        "tokens 32x32",
        tokens,
        None,
        lambda: coder.encode(tokens, previous),
        lambda payload: coder.decode(payload, 32, 32, previous),
    )


if __name__ == "__main__":
    main()
