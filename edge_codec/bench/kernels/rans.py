"""rANS on the GPU: many payloads decoded and encoded at once.

There is no other rANS on the GPU to compare with; what counts is symbols per second, and how far
`bytes_moved` is from what memory could move.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from edge_codec.bench.kernels.case import KernelCase
from edge_codec.entropy import rans as coder
from edge_codec.entropy.cdf import normalize_counts
from edge_codec.errors import EngineError
from edge_codec.kernels import rans
from edge_codec.kernels.reference.rans import static_pairs

DISTINCT = 16
"""Payloads that are coded on the CPU; copies of them, each in memory of its own, make the rest."""


@dataclass(frozen=True, slots=True)
class Job:
    """Payloads of equal numbers of symbols."""

    n_payloads: int
    n_symbols: int
    lanes: int
    n_contexts: int

    @property
    def shape(self) -> str:
        """As people write it."""
        contexts = "" if self.n_contexts == 1 else f", {self.n_contexts} contexts"
        return f"{self.n_payloads}x{self.n_symbols}, {self.lanes} lanes{contexts}"


def cases(device: torch.device, small: bool) -> Iterator[KernelCase]:
    """Yield the cases on a device; see `KernelCase`."""
    if small:
        yield _decode_case(device, Job(2, 200, 32, 1))
        yield _decode_case(device, Job(5, 60, 8, 3))
        yield _encode_case(device, Job(2, 200, 32, 1))
        yield _encode_case(device, Job(3, 20, 1, 3))
    else:
        yield _decode_case(device, Job(4096, 1 << 16, 32, 1))
        yield _decode_case(device, Job(4096, 1 << 16, 8, 48))
        yield _decode_case(device, Job(64, 1 << 16, 32, 1))
        yield _encode_case(device, Job(2048, 1 << 16, 32, 1))
        yield _encode_case(device, Job(16, 2048, 1, 48))


def _random(job: Job) -> tuple[NDArray[np.uint32], NDArray[np.uint8], NDArray[np.uint8]]:
    """Return distributions, and symbols and contexts of the distinct payloads."""
    rng = np.random.default_rng()
    spread = rng.uniform(5, 40, (job.n_contexts, 1))
    distance = np.abs(np.arange(256) - 128)
    cdfs = normalize_counts((1e6 * np.exp(-distance / spread)).astype(np.int64))
    n = min(job.n_payloads, DISTINCT)
    contexts = rng.integers(0, job.n_contexts, (n, job.n_symbols)).astype(np.uint8)
    noise = rng.laplace(128, spread[contexts, 0])
    return cdfs, np.clip(np.rint(noise), 0, 255).astype(np.uint8), contexts


def _copies(array: NDArray[np.generic], job: Job, device: torch.device) -> torch.Tensor:
    """Return one row per payload, flat."""
    rows = torch.from_numpy(array).to(device)
    return rows.repeat(-(-job.n_payloads // len(array)), 1)[: job.n_payloads].reshape(-1)


def _coded(
    cdfs: NDArray[np.uint32], symbols: NDArray[np.uint8], contexts: NDArray[np.uint8], job: Job
) -> list[bytes]:
    """Return what the C coder makes of the distinct payloads, repeated."""
    distinct = [
        coder.encode_static(row, cdfs, rows, job.lanes)
        for row, rows in zip(symbols, contexts, strict=True)
    ]
    return [distinct[i % len(distinct)] for i in range(job.n_payloads)]


def _offsets(job: Job, device: torch.device) -> torch.Tensor:
    return torch.arange(job.n_payloads + 1, dtype=torch.int32, device=device) * job.n_symbols


def _decode_case(device: torch.device, job: Job) -> KernelCase:
    cdfs, symbols, contexts = _random(job)
    coded = _coded(cdfs, symbols, contexts, job)
    payloads = rans.upload(coded, device)
    tables = rans.decode_tables(cdfs, device)
    offsets, expected = _offsets(job, device), _copies(symbols, job, device)
    rows = None if job.n_contexts == 1 else _copies(contexts, job, device)
    statuses = torch.empty(job.n_payloads, dtype=torch.int32, device=device)
    out = (torch.empty_like(expected), statuses)

    def run() -> None:
        rans.decode(payloads, offsets, tables, job.lanes, rows, out=out)

    def check() -> str:
        torch.bitwise_not(expected, out=out[0])
        statuses.fill_(-1)
        run()
        rans.check_statuses(statuses, offsets)
        if not torch.equal(out[0], expected):
            wrong = int((out[0] != expected).sum())
            raise EngineError(
                f"rans decode {job.shape}: {wrong} symbols differ from what was coded"
            )
        return "exact"

    moved = sum(map(len, coded)) + expected.numel() * (1 if rows is None else 2)
    return KernelCase("rans", f"decode {job.shape}", "u8", run, check, moved, 0, "none")


def _encode_case(device: torch.device, job: Job) -> KernelCase:
    cdfs, symbols, contexts = _random(job)
    coded = _coded(cdfs, symbols, contexts, job)
    pairs = _copies(static_pairs(symbols, cdfs, contexts), job, device)
    offsets = _offsets(job, device)
    capacity = rans.slot_words(job.n_symbols, job.lanes)
    out = rans.encode(pairs, offsets, job.lanes, capacity)

    def run() -> None:
        rans.encode(pairs, offsets, job.lanes, capacity, out=out)

    def check() -> str:
        for tensor in out:
            tensor.view(torch.int8).fill_(-1)
        run()
        if rans.download(out) != coded:
            raise EngineError(f"rans encode {job.shape}: payloads differ from the C coder's")
        return "exact"

    moved = 4 * pairs.numel() + sum(map(len, coded))
    return KernelCase("rans", f"encode {job.shape}", "i32", run, check, moved, 0, "none")
