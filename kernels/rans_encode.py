"""Device code of the rANS encoder, and what the decoder shares with it.

A program codes a tile of payloads by lanes, one element per thread, so that a warp holds one
payload of 32 lanes or several of fewer. A row of the tile, the next `LANES` symbols of each
payload, is one step of the loop. The lanes of a payload meet only in the order of their words,
which is found without shared memory: a reduction collects one bit per lane that has a word, and
counting the bits of the other lanes gives each its place.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def count_ones(bits):
    """Count the ones of uint32 numbers; the compiler makes one instruction of it."""
    bits = bits - ((bits >> 1) & 0x55555555)
    bits = (bits & 0x33333333) + ((bits >> 2) & 0x33333333)
    bits = (bits + (bits >> 4)) & 0x0F0F0F0F
    return ((bits * 0x01010101) >> 24).to(tl.int32)


@triton.jit
def symbol_range(offsets, payload, real, n_symbols):
    """First symbol of each payload and its number of symbols, both inside of the array."""
    first = tl.maximum(tl.load(offsets + payload, mask=real, other=0), 0)
    last = tl.minimum(tl.load(offsets + payload + 1, mask=real, other=0), n_symbols)
    return first, tl.maximum(last - first, 0)


@triton.jit
def encode_kernel(
    pairs,  # (n_pairs,) int32: start | frequency - 1 << 16
    offsets,  # (n_payloads + 1,) int32: where each payload's pairs begin
    n_payloads,
    n_pairs,
    capacity,  # words of a slot
    words,  # (n_payloads, capacity) uint16: each payload at the end of its slot
    begins,  # (n_payloads,) int32: word of `words` where each payload begins
    sizes,  # (n_payloads,) int32: bytes of each payload, 0 where the slot is too small
    LANES: tl.constexpr,
    PAYLOADS: tl.constexpr,
):
    """Code pairs: `x = ((x // f) << 16) + x % f + start`, after a word where `x >> 16 >= f`."""
    # Tiles of two dimensions from the start: rows of a narrower tile would have to change layout.
    zeros = tl.zeros((PAYLOADS, LANES), tl.int32)
    payload = tl.program_id(0) * PAYLOADS + tl.arange(0, PAYLOADS)[:, None] + zeros
    lane = tl.arange(0, LANES)[None, :] + zeros
    lane_bit = (zeros + 1).to(tl.uint32) << lane.to(tl.uint32)
    later_lanes = zeros.to(tl.uint32) - (lane_bit << 1)
    real = payload < n_payloads
    first, count = symbol_range(offsets, payload, real, n_pairs)
    fits = real & (capacity - 2 * LANES >= count)
    count = tl.where(fits, count, 0)

    # From the last row to the first; payloads with fewer rows join later.
    rows = (tl.max(tl.max(count, axis=1), axis=0) + LANES - 1) // LANES
    i = (rows - 1) * LANES + lane
    active = (i >= 0) & (i < count)
    packed = tl.load(pairs + first + i, mask=active, other=0).to(tl.uint32, bitcast=True)
    x = (zeros + 65536).to(tl.uint32)
    slot = words + payload * capacity
    position = zeros + capacity
    for _ in range(rows):
        # The next row's load does not wait for the states.
        i -= LANES
        coming = (i >= 0) & (i < count)
        following = tl.load(pairs + first + i, mask=coming, other=0)
        less = packed >> 16  # frequency - 1
        high = x >> 16
        full = active & (high > less)
        writers = tl.sum(tl.where(full, lane_bit, 0), axis=1, keep_dims=True)
        # Later lanes are coded earlier, and a payload grows towards its start.
        place = position - count_ones(writers & later_lanes)
        tl.store(slot + place - 1, x.to(tl.uint16), mask=full)
        position -= count_ones(writers)
        y = tl.where(full, high, x)
        # (q << 16) + (y - q * f) + start, in modulo 2**32
        coded = (y // (less + 1)) * (65535 - less) + y + (packed & 0xFFFF)
        x = tl.where(active, coded, x)
        packed = following.to(tl.uint32, bitcast=True)
        active = coming

    position -= 2 * LANES
    tl.store(slot + position + 2 * lane, x.to(tl.uint16), mask=fits)
    tl.store(slot + position + 2 * lane + 1, (x >> 16).to(tl.uint16), mask=fits)
    position = tl.where(fits, position, capacity)
    once = real & (lane == 0)
    tl.store(begins + payload, payload * capacity + position, mask=once)
    tl.store(sizes + payload, 2 * (capacity - position), mask=once)
