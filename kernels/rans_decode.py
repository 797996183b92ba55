"""Device code of the rANS decoder, and the tables in which it finds symbols.

The tile is the encoder's: payloads by lanes, one element per thread. The bucket that a slot lies in
names the first symbol there; mostly the slot belongs to it or to the next one. Only where a
lane has to look further, in a bucket full of rare symbols, its warp goes through a binary search.
Both tables stay small enough for the first-level cache, and an entry has in one load all that a
step needs: the symbol's last slot (its start would not fit 16 bits where frequencies of 0 follow)
and its frequency.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import triton
import triton.language as tl
from numpy.typing import NDArray

from edge_codec.entropy.cdf import check_cdfs
from edge_codec.errors import EngineError
from edge_codec.kernels.rans_encode import count_ones, symbol_range

COARSE_BITS = 12
"""Logarithm of the number of buckets of a context, at most."""

COARSE_BYTES = 1 << 16
"""All buckets of all contexts: half of a small first-level cache."""

BAD_CONTEXT = 8
"""Status of a payload with a context without a table; the others are those of `rans.h`."""


@triton.jit
def find_symbol(slot, row, active, coarse, entries, width, shift, leaps):
    """Return the symbol that a slot of a table's row is of, and its entry."""
    bucket = row * (65536 >> shift) + (slot >> shift)
    symbol = tl.load(coarse + bucket, mask=active, other=0).to(tl.int32)
    entry = entries + row * width
    found = tl.load(entry + symbol, mask=active, other=0)
    beyond = active & ((found & 0xFFFF) < slot)
    found = tl.where(beyond, tl.load(entry + symbol + 1, mask=beyond, other=0), found)
    symbol += beyond.to(tl.int32)
    beyond = beyond & ((found & 0xFFFF) < slot)
    if tl.max(beyond.to(tl.int32)) > 0:
        for leap in range(leaps):
            further = tl.minimum(symbol + (1 << (leaps - 1 - leap)), width)
            before = tl.load(entry + further - 1, mask=beyond, other=0)
            symbol = tl.where(beyond & ((before & 0xFFFF) < slot), further, symbol)
        found = tl.where(beyond, tl.load(entry + symbol, mask=beyond, other=0), found)
    return symbol, found


@triton.jit
def decode_kernel(
    words,  # (n_words,) uint16: payloads, each from a whole word on
    begins,  # (n_payloads,) int32: word where each payload begins
    sizes,  # (n_payloads,) int32: bytes of each payload
    offsets,  # (n_payloads + 1,) int32: where each payload's symbols begin
    contexts,  # (n_symbols,) uint8 or uint16: row of the tables, unread unless CONTEXTUAL
    coarse,  # (n_contexts, 65536 >> shift) uint8 or uint16: first symbol of each bucket of slots
    entries,  # (n_contexts, width) int32: last slot | frequency - 1 << 16 of each symbol
    n_payloads,
    n_words,
    n_symbols,
    n_contexts,
    width,
    shift,
    leaps,  # steps of the binary search
    symbols,  # (n_symbols,) uint8 or uint16
    statuses,  # (n_payloads,) int32: 0, or why a payload is refused
    LANES: tl.constexpr,
    PAYLOADS: tl.constexpr,
    CONTEXTUAL: tl.constexpr,
):
    """Decode slots: `x = f * (x >> 16) + slot - start`, and a word where `x < 65536`."""
    zeros = tl.zeros((PAYLOADS, LANES), tl.int32)
    payload = tl.program_id(0) * PAYLOADS + tl.arange(0, PAYLOADS)[:, None] + zeros
    lane = tl.arange(0, LANES)[None, :] + zeros
    lane_bit = (zeros + 1).to(tl.uint32) << lane.to(tl.uint32)
    earlier_lanes = lane_bit - 1
    real = payload < n_payloads
    first, count = symbol_range(offsets, payload, real, n_symbols)
    begin = tl.load(begins + payload, mask=real, other=0)
    size = tl.load(sizes + payload, mask=real, other=0)
    whole = (begin >= 0) & (size >= 4 * LANES) & ((size - 1) // 2 < n_words - begin)
    usable = real & whole & (size % 2 == 0)
    count = tl.where(usable, count, 0)
    end = begin + size // 2
    left = tl.where(usable, size // 2 - 2 * LANES, 0)  # words; below 0 when they were too few
    low_half = tl.load(words + begin + 2 * lane, mask=usable, other=0)
    high_half = tl.load(words + begin + 2 * lane + 1, mask=usable, other=1)
    x = low_half.to(tl.uint32) | (high_half.to(tl.uint32) << 16)
    sane = tl.min((x >= 65536).to(tl.int32), axis=1, keep_dims=True) + zeros
    unknown = zeros
    context = zeros
    if CONTEXTUAL:
        context = tl.load(contexts + first + lane, mask=lane < count, other=0).to(tl.int32)

    i = lane
    active = i < count
    for _ in range((tl.max(tl.max(count, axis=1), axis=0) + LANES - 1) // LANES):
        row = zeros
        coming = active & (i < count - LANES)
        if CONTEXTUAL:
            known = context < n_contexts
            unknown = tl.where(known, unknown, 1)
            row = tl.where(known, context, 0)
            # The next row's load does not wait for the states.
            following = tl.load(contexts + first + i + LANES, mask=coming, other=0)
            context = following.to(tl.int32)
        slot = (x & 0xFFFF).to(tl.int32)
        symbol, found = find_symbol(slot, row, active, coarse, entries, width, shift, leaps)
        tl.store(symbols + first + i, symbol.to(symbols.dtype.element_ty), mask=active)

        # f * high + slot - start with start = last + 1 - f, in modulo 2**32
        bits = found.to(tl.uint32, bitcast=True)
        high = x >> 16
        y = (bits >> 16) * (high + 1) + high + (x & 0xFFFF) - (bits & 0xFFFF)
        low = active & (y < 65536)
        readers = tl.sum(tl.where(low, lane_bit, 0), axis=1, keep_dims=True)
        earlier = count_ones(readers & earlier_lanes)
        word = tl.load(words + (end - left + earlier), mask=low & (earlier < left), other=0)
        y = tl.where(low, (y << 16) | word.to(tl.uint32), y)
        x = tl.where(active, y, x)
        left -= count_ones(readers)
        i += LANES
        active = coming

    # Numbered as in rans.h; each line outweighs those before it.
    settled = tl.min((x == 65536).to(tl.int32), axis=1, keep_dims=True) + zeros
    status = tl.where((left == 0) & (settled == 1), 0, 4)
    status = tl.where(left < 0, 2, status)
    status = tl.where(sane == 1, status, 3)
    status = tl.where(size % 2 == 0, status, 4)
    status = tl.where(whole, status, 2)
    unknown = tl.max(unknown, axis=1, keep_dims=True) + zeros
    status = tl.where(unknown == 1, 8, status)
    tl.store(statuses + payload, status, mask=real & (lane == 0))


@dataclass(frozen=True, slots=True, eq=False)
class DecodeTables:
    """Distributions in the form in which the decoder looks symbols up.

    Attributes
    ----------
    coarse : torch.Tensor, shape (contexts, 65536 >> shift), uint8 or uint16
        First symbol of each bucket.
    entries : torch.Tensor, shape (contexts, symbols), int32
        `last slot | frequency - 1 << 16` of each symbol, the bits of a uint32.
    shift : int
        Logarithm of the slots in a bucket.
    leaps : int
        Steps that a binary search of the fullest bucket takes.
    """

    coarse: torch.Tensor
    entries: torch.Tensor
    shift: int
    leaps: int


def decode_tables(cdfs: NDArray[np.uint32], device: torch.device | str) -> DecodeTables:
    """Make the decoder's tables and put them on a device.

    Parameters
    ----------
    cdfs : ndarray, shape (contexts, symbols + 1), uint32
        Cumulative frequencies, see `edge_codec.entropy.cdf`.
    device : torch.device or str

    Raises
    ------
    SpecError
        If a distribution is invalid.
    EngineError
        If there are more than 2**30 frequencies.
    """
    table = check_cdfs(cdfs)
    n_contexts, n_symbols = table.shape[0], table.shape[1] - 1
    if n_contexts * n_symbols > 1 << 30:
        raise EngineError(
            f"{n_contexts} contexts of {n_symbols} symbols; at most 2**30 frequencies fit"
        )
    narrow = n_symbols <= 256
    share = COARSE_BYTES // n_contexts // (1 if narrow else 2)
    bits = max(4, min(COARSE_BITS, share.bit_length() - 1))
    shift = 16 - bits
    first_slots = np.arange(1 << bits) << shift
    last_slots = first_slots + (1 << shift) - 1
    # The last start that is not above a slot: symbols of frequency 0 are passed over.
    coarse = np.stack([np.searchsorted(cdf, first_slots, side="right") for cdf in table]) - 1
    final = np.stack([np.searchsorted(cdf, last_slots, side="right") for cdf in table]) - 1
    leaps = int((final - coarse).max()).bit_length()
    # In modulo 2**32: the last slot of leading symbols of frequency 0 is never looked at.
    last = (table[:, 1:] - np.uint32(1)) & np.uint32(0xFFFF)
    entries = last | (np.diff(table, axis=1) - np.uint32(1)) << np.uint32(16)
    return DecodeTables(
        coarse=torch.from_numpy(coarse.astype(np.uint8 if narrow else np.uint16)).to(device),
        entries=torch.from_numpy(entries.view(np.int32)).to(device),
        shift=shift,
        leaps=leaps,
    )
