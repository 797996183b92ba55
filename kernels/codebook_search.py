"""Device code of the codebook lookup; `edge_codec.kernels.codebook_lookup` launches it.

What bounds the speed. At dim 64 an H100 multiplies and adds for 32 scores per clock and
multiprocessor; its comparison pipe has 64 lanes. So the running argmax must cost fewer than two
comparisons or selections per score, or it and not the matrix rate is the limit. The plain one
(compare, select the score, select the index) costs three. Here:

- The columns of a tile are codes in such an order that four consecutive codes lie in one thread's
  registers, in the layouts of mma, wgmma and tcgen05 alike (`_code_of_column`). Their maximum
  takes three instructions and no exchange.
- float16 then compares and selects once per four codes, 1.5 instructions per score, and scores
  the four codes of the winning group once more at the end.
- An int8 score leaves bits of an int32 free, so that its code's place fits in: one multiply-add
  and one maximum per score, and nothing at the end.
- No column checks whether it is beyond the last code (`_inside`).

At that rate a multiprocessor reads 16 bytes of codes per clock with programs of 256 latents, and 32
with programs of 128: the larger halve what all ask of the level-2 cache at once.

Nothing here was timed: the figures are an H100's data sheet, the compiler's output and arithmetic.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _code_of_column(BLOCK_N: tl.constexpr):
    """Code that each column of a tile stands for, shape (BLOCK_N,).

    Every tensor-core layout keeps columns 2j and 2j + 1, and columns half a tile apart, in one
    thread (as long as at most BLOCK_N / 16 warps lie side by side). These four are consecutive
    codes.
    """
    column = tl.arange(0, BLOCK_N)
    half: tl.constexpr = BLOCK_N // 2
    return column % half // 2 * 4 + column // half * 2 + column % 2


@triton.jit
def _best_of_four(scores, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    """Maximum of each four consecutive codes: (BLOCK_M, BLOCK_N) to (BLOCK_M, BLOCK_N / 4)."""
    fours = tl.reshape(scores, (BLOCK_M, 2, BLOCK_N // 4, 2))
    return tl.max(tl.max(fours, axis=3), axis=1)


@triton.jit
def _inside(tile, stop, BLOCK_N: tl.constexpr, SHORT: tl.constexpr):
    """First code of a tile, moved back so that the tile ends within the codes.

    The codes that it then shares with the tile before it are scored twice, which changes nothing,
    and no column needs a bound of its own, which would cost as much as finding the maximum.
    """
    return tile * 0 if SHORT else tl.minimum(tile, stop - BLOCK_N)


@triton.jit
def _load_rows(matrix, rows, DIM: tl.constexpr, DIM_PADDED: tl.constexpr):
    """Rows of a matrix of DIM columns, shape (rows, DIM_PADDED), zero beyond DIM."""
    dims = tl.arange(0, DIM_PADDED)
    pointers = matrix + rows[:, None] * DIM + dims[None, :]
    if DIM == DIM_PADDED:
        return tl.load(pointers)
    return tl.load(pointers, mask=dims[None, :] < DIM, other=0)


@triton.jit
def _store_winners(
    scores_out, tokens_out, gathered, codes, score, token, n_rows,
    DIM: tl.constexpr, DIM_PADDED: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    """Store a block's winners: one row of a part's results, or the results and their codes."""
    first_row = tl.program_id(0) * BLOCK_M
    row = tl.arange(0, BLOCK_M)
    keep = row < n_rows - first_row
    place = tl.program_id(1).to(tl.int64) * n_rows + first_row
    tl.store(tokens_out + place + row, token, mask=keep)
    if scores_out is not None:
        tl.store(scores_out + place + row, score, mask=keep)
    if gathered is not None:
        dims = tl.arange(0, DIM_PADDED)[None, :]
        pointers = gathered + first_row.to(tl.int64) * DIM + row[:, None] * DIM + dims
        winners = _load_rows(codes, token, DIM, DIM_PADDED)
        tl.store(pointers, winners, mask=keep[:, None] & (dims < DIM))


@triton.jit
def nearest_f16_kernel(
    latents,  # (n_rows, DIM) float16
    codes,  # (n_codes, DIM) float16
    norms,  # (n_codes,) float32, half the squared lengths; None: codes of equal length
    n_rows,
    n_codes,
    codes_per_part,  # a multiple of BLOCK_N; n_codes or more for an undivided search
    scores,  # (parts, n_rows) float32; None for an undivided search
    tokens,  # (parts, n_rows) int32
    gathered,  # (n_rows, DIM) float16, the winning codes, or None
    DIM: tl.constexpr,
    DIM_PADDED: tl.constexpr,  # a power of two, at least 16
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    SHORT: tl.constexpr,  # n_codes < BLOCK_N
):
    """Nearest codes of BLOCK_M latents; grid (blocks of latents, parts of the codes)."""
    first_row = tl.program_id(0) * BLOCK_M
    block = latents + first_row.to(tl.int64) * DIM
    row = tl.minimum(tl.arange(0, BLOCK_M), n_rows - 1 - first_row)
    x = _load_rows(block, row, DIM, DIM_PADDED)
    column = _code_of_column(BLOCK_N)
    start = tl.program_id(1) * codes_per_part
    stop = tl.minimum(start + codes_per_part, n_codes)
    best = tl.full((BLOCK_M, BLOCK_N // 4), float("-inf"), tl.float32)
    best_tile = tl.full((BLOCK_M, BLOCK_N // 4), 0, tl.int32) + start
    for tile in range(start, stop, BLOCK_N):
        tile = _inside(tile, stop, BLOCK_N, SHORT)
        code = tl.minimum(column, n_codes - 1) if SHORT else column
        c = _load_rows(codes + tile * DIM, code, DIM, DIM_PADDED)
        score = tl.dot(x, tl.trans(c))
        if norms is not None:
            score -= tl.load(norms + tile + code)[None, :]
        four = _best_of_four(score, BLOCK_M, BLOCK_N)
        better = four > best
        best = tl.where(better, four, best)
        best_tile = tl.where(better, tile, best_tile)
    group = best_tile + tl.arange(0, BLOCK_N // 4)[None, :] * 4
    highest = tl.max(best, axis=1)
    first = tl.min(tl.where(best == highest[:, None], group, 2147483647), axis=1)
    score, token = _rescore_four(block, codes, norms, row, first, n_codes, DIM, DIM_PADDED, BLOCK_M)
    _store_winners(scores, tokens, gathered, codes, score, token, n_rows, DIM, DIM_PADDED, BLOCK_M)


@triton.jit
def _rescore_four(
    latents, codes, norms, rows, first, n_codes,
    DIM: tl.constexpr, DIM_PADDED: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    """Best score and its code among codes `first` to `first + 3` of each row."""
    best = tl.full((BLOCK_M,), float("-inf"), tl.float32)
    token = tl.minimum(first, n_codes - 1)
    for place in range(4):
        code = tl.minimum(first + place, n_codes - 1)
        products = tl.zeros((BLOCK_M, 16), tl.float32)
        for dim in tl.static_range(0, DIM_PADDED, 16):
            dims = dim + tl.arange(0, 16)[None, :]
            x = tl.load(latents + rows[:, None] * DIM + dims, mask=dims < DIM, other=0)
            c = tl.load(codes + code[:, None] * DIM + dims, mask=dims < DIM, other=0)
            products += x.to(tl.float32) * c.to(tl.float32)
        score = tl.sum(products, axis=1)
        if norms is not None:
            score -= tl.load(norms + code)
        better = score > best
        best = tl.where(better, score, best)
        token = tl.where(better, code, token)
    return best, token


@triton.jit
def nearest_i8_kernel(
    latents,  # (n_rows, DIM) int8
    codes,  # (n_codes, DIM) int8
    norms,  # (n_codes,) int32, the squared lengths; None: codes of equal length
    n_rows,
    n_codes,
    codes_per_part,  # a multiple of BLOCK_N, at most UNIT / 4 times
    scores,  # (parts, n_rows) int32; None for an undivided search
    tokens,  # (parts, n_rows) int32
    gathered,  # (n_rows, DIM) int8, the winning codes, or None
    DIM: tl.constexpr,
    DIM_PADDED: tl.constexpr,  # a power of two, at least 32
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    SHORT: tl.constexpr,  # n_codes < BLOCK_N
):
    """Nearest codes of BLOCK_M latents; grid (blocks of latents, parts of the codes).

    A score `2 x.c - |c|^2` lies between -48,896 DIM and 16,384 DIM. Shifted by 16,256 DIM to be
    symmetric it lies within 32,640 DIM, so that its product with `UNIT = 65,536 / DIM_PADDED` is
    an int32 with room for a place below UNIT, which is subtracted: of equal scores the lower place
    is the greater number.
    """
    UNIT: tl.constexpr = 65536 // DIM_PADDED
    SHIFT: tl.constexpr = 16256 * DIM_PADDED
    first_row = tl.program_id(0) * BLOCK_M
    row = tl.minimum(tl.arange(0, BLOCK_M), n_rows - 1 - first_row)
    x = _load_rows(latents + first_row.to(tl.int64) * DIM, row, DIM, DIM_PADDED)
    column = _code_of_column(BLOCK_N)
    start = tl.program_id(1) * codes_per_part
    stop = tl.minimum(start + codes_per_part, n_codes)
    best = tl.full((BLOCK_M, BLOCK_N // 4), -2147483648, tl.int32)
    for step in range(tl.cdiv(stop - start, BLOCK_N)):
        tile = _inside(start + step * BLOCK_N, stop, BLOCK_N, SHORT)
        code = tl.minimum(column, n_codes - 1) if SHORT else column
        c = _load_rows(codes + tile * DIM, code, DIM, DIM_PADDED)
        rest = SHIFT * UNIT - step * 4 - column % 4
        if norms is not None:
            rest -= tl.load(norms + tile + code) * UNIT
        packed = tl.dot(x, tl.trans(c), out_dtype=tl.int32) * (2 * UNIT) + rest[None, :]
        best = tl.maximum(best, _best_of_four(packed, BLOCK_M, BLOCK_N))
    place = -best & (UNIT - 1)
    tile = _inside(start + place // 4 * BLOCK_N, stop, BLOCK_N, SHORT)
    code = tile + tl.arange(0, BLOCK_N // 4)[None, :] * 4 + place % 4
    best += place
    score = tl.max(best, axis=1)
    token = tl.min(tl.where(best == score[:, None], code, 2147483647), axis=1)
    _store_winners(scores, tokens, gathered, codes, score, token, n_rows, DIM, DIM_PADDED, BLOCK_M)


@triton.jit
def nearest_of_parts_kernel(
    scores,  # (n_parts, n_rows) float32 or int32
    parts,  # (n_parts, n_rows) int32, tokens, ascending over the parts of a row
    codes,  # (n_codes, DIM), or None where `gathered` is
    n_rows,
    n_parts,
    tokens,  # (n_rows,) int32
    gathered,  # (n_rows, DIM), or None
    DIM: tl.constexpr,
    DIM_PADDED: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_PARTS: tl.constexpr,
):
    """Choose between the winners of the parts: of equal scores the first part's."""
    rows = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    rows = tl.minimum(rows, n_rows - 1)
    best = tl.load(scores + rows)  # of the first part
    token = tl.load(parts + rows)
    for first in range(0, n_parts, BLOCK_PARTS):
        part = tl.minimum(first + tl.arange(0, BLOCK_PARTS), n_parts - 1).to(tl.int64)
        offsets = part[:, None] * n_rows + rows[None, :]
        score = tl.load(scores + offsets)
        highest = tl.max(score, axis=0)
        winners = tl.where(score == highest[None, :], tl.load(parts + offsets), 2147483647)
        better = highest > best
        best = tl.where(better, highest, best)
        token = tl.where(better, tl.min(winners, axis=0), token)
    _store_winners(None, tokens, gathered, codes, best, token, n_rows, DIM, DIM_PADDED, BLOCK_M)
