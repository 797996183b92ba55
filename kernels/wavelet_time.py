"""Device code of the Haar step in time alone: one pass over memory, forth and back."""

from __future__ import annotations

import triton
import triton.language as tl

from edge_codec.kernels.wavelet_analyze import haar
from edge_codec.kernels.wavelet_synthesize import unhaar


@triton.jit(do_not_specialize=("phases", "n"))
def analyze_time_kernel(
    x_ptr,  # (phases, n) int16, uint16 or int32
    phases,
    n,
    low_ptr,  # (ceil(phases / 2), n) int32
    high_ptr,  # (floor(phases / 2), n) int32
    UNIT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Take the Haar step of a part of a pair of frames; `n` is a multiple of `UNIT`."""
    n = n // UNIT * UNIT
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    pair = tl.program_id(1).to(tl.int64)
    second = tl.minimum(2 * pair + 1, phases - 1)  # the last of an odd number is its own partner
    a = tl.load(x_ptr + 2 * pair * n + at, mask=at < n).to(tl.int32)
    b = tl.load(x_ptr + second * n + at, mask=at < n).to(tl.int32)
    low, high = haar(a, b)
    tl.store(low_ptr + pair * n + at, low, mask=at < n)
    tl.store(high_ptr + pair * n + at, high, mask=at < tl.where(second > 2 * pair, n, 0))


@triton.jit(do_not_specialize=("phases", "n"))
def synthesize_time_kernel(
    low_ptr,  # (ceil(phases / 2), n) int32
    high_ptr,  # (floor(phases / 2), n) int32
    phases,
    n,
    x_ptr,  # (phases, n) int16, uint16 or int32
    UNIT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Undo the Haar step of a part of a pair of frames; `n` is a multiple of `UNIT`."""
    n = n // UNIT * UNIT
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    pair = tl.program_id(1).to(tl.int64)
    paired = tl.where(2 * pair + 1 < phases, n, 0)
    low = tl.load(low_ptr + pair * n + at, mask=at < n)
    high = tl.load(high_ptr + pair * n + at, mask=at < paired, other=0)
    a, b = unhaar(low, high)
    kind = x_ptr.dtype.element_ty
    tl.store(x_ptr + 2 * pair * n + at, a.to(kind), mask=at < n)
    tl.store(x_ptr + (2 * pair + 1) * n + at, b.to(kind), mask=at < paired)
