"""One step of attention over a block of keys, for the kernels that differ in where keys lie.

The softmax is online: with the highest score so far, the sum of the exponentials below it and the
weighted sum of the values, a block of keys is taken in without the scores of the others, and no
matrix of scores exists in memory. Scores, exponentials' sum and values' sum are float32; the
exponentials, in 0..1, are rounded to float16 for the matrix product with the values.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def load_heads(
    matrix, positions, keep, STRIDE: tl.constexpr, DIM: tl.constexpr, PADDED: tl.constexpr
):
    """One head at some positions, shape (positions, PADDED), zero where there is nothing."""
    dims = tl.arange(0, PADDED)
    pointers = matrix + positions[:, None] * STRIDE + dims[None, :]
    mask = keep[:, None] if DIM == PADDED else keep[:, None] & (dims[None, :] < DIM)
    return tl.load(pointers, mask=mask, other=0.0)


@triton.jit
def attend(q, k, v, keep, highest, total, summed, SCALE: tl.constexpr):
    """Take a block of keys in.

    `q` (M, D), `k` (N, D) and `v` (N, D) are float16, `keep` (N,) says which keys count. `SCALE` is
    positive and has the factor log2(e), since powers of two are what the hardware computes.
    """
    score = tl.where(keep[None, :], tl.dot(q, tl.trans(k)), float("-inf"))
    before = highest
    highest = tl.maximum(highest, tl.max(score, axis=1))
    # As long as no key counts the highest is -inf, and -inf - -inf would be NaN.
    origin = tl.where(highest == float("-inf"), 0.0, highest) * SCALE
    weight = tl.exp2(score * SCALE - origin[:, None])
    shrink = tl.exp2(before * SCALE - origin)
    total = total * shrink + tl.sum(weight, axis=1)
    summed = tl.dot(weight.to(tl.float16), v, summed * shrink[:, None])
    return highest, total, summed


@triton.jit
def average(total, summed):
    """Weighted means of the values; 0 where no key counts."""
    return summed / tl.where(total == 0.0, 1.0, total)[:, None]
