"""Device code of the wavelet's synthesis, in the strips of `edge_codec.kernels.wavelet_analyze`.

A lane reads what makes its four columns and the next even one. Where not `ALIGNED`, what the lanes
hold is exchanged through shared memory before it is written, a row at a time.
"""

from __future__ import annotations

import triton
import triton.language as tl

from edge_codec.kernels.wavelet_analyze import SCALARS, extents, quarter, reflect, subbands


@triton.jit
def unhaar(low, high):
    """Undo `haar`."""
    a = low - (high >> 1)
    return a, a + high


@triton.jit
def _odd(index, size):
    """Return the place of an odd sample among the high ones, after reflection."""
    return tl.minimum(reflect(index, size), size // 2 * 2 - 1) // 2


@triton.jit
def _halves(column, columns):
    """Return the places of columns c - 1 to c + 5 among low or high samples."""
    return (
        _odd(column - 1, columns),
        reflect(column, columns) // 2,
        _odd(column + 1, columns),
        reflect(column + 2, columns) // 2,
        _odd(column + 3, columns),
        reflect(column + 4, columns) // 2,
        _odd(column + 5, columns),
    )


@triton.jit
def _load_line(low_ptr, high_ptr, columns, limit, column, at, ALIGNED: tl.constexpr):
    """Read what one row of two subbands has to say on columns c to c + 4.

    That is low[i], low[i + 1] as a pair, low[i + 2]; high[i - 1], high[i], high[i + 1] as a pair
    and high[i + 2], with c = 2i. Where `ALIGNED`, samples outside of the frame are undefined.
    """
    if ALIGNED:
        i = column // 2
        pair = i[:, None] + tl.arange(0, 2)[None, :]
        inside = column < limit
        low = tl.load(low_ptr + pair, mask=inside[:, None])
        high = tl.load(high_ptr + pair, mask=inside[:, None])
        before = tl.load(high_ptr + i - 1, mask=inside & (column > 0))
        low_after = tl.load(low_ptr + i + 2, mask=column + 4 < limit)
        high_after = tl.load(high_ptr + i + 2, mask=column + 4 < limit)
    else:
        inside = column < limit
        low0 = tl.load(low_ptr + at[1], mask=inside)
        low1 = tl.load(low_ptr + at[3], mask=inside)
        low_after = tl.load(low_ptr + at[5], mask=inside)
        inside = column < tl.where(columns > 1, limit, 0)  # one column alone has no high samples
        before = tl.load(high_ptr + at[0], mask=inside, other=0)
        high0 = tl.load(high_ptr + at[2], mask=inside, other=0)
        high1 = tl.load(high_ptr + at[4], mask=inside, other=0)
        high_after = tl.load(high_ptr + at[6], mask=inside, other=0)
        low, high = tl.join(low0, low1), tl.join(high0, high1)
    return low, low_after, before, high, high_after


@triton.jit
def _unlift_line(line, columns, limit, column, ALIGNED: tl.constexpr, EXISTS: tl.constexpr):
    """Undo the lifting along a row: columns c to c + 3 by pairs, zeros where limit is 0."""
    low, low_after, before, high, high_after = line
    high0, high1 = tl.split(high)
    if ALIGNED:
        before = tl.where(column > 0, before, high0)
    even = low - quarter(tl.join(before, high0), high)
    _, even1 = tl.split(even)
    after = low_after - quarter(high1, high_after)
    if ALIGNED:
        after = tl.where(column + 4 < columns, after, even1)
    odd = high + ((even + tl.join(even1, after)) >> 1)
    line = tl.join(even, odd)
    if not EXISTS:
        line = tl.where((column < limit)[:, None, None], line, 0)
    return line


@triton.jit
def _limits(size, rows):
    """Return where to stop in low and in high rows of subbands; 0: there is no such row."""
    return tl.where(rows > 0, size[1], 0), tl.where(rows > 1, size[1], 0)


@triton.jit
def _load_lines(bands, i, size, rows, column, at, ALIGNED: tl.constexpr):
    """Read the subbands' rows that hold rows 2i and 2i + 1 of `rows` of a frame."""
    ll, hl, lh, hh = bands
    height, columns, n_low, n_high = size
    limit, high_limit = _limits(size, rows)
    row, high_row = reflect(2 * i, height) // 2, _odd(2 * i + 1, height)
    low = _load_line(ll + row * n_low, hl + row * n_high, columns, limit, column, at, ALIGNED)
    lh += high_row * n_low
    hh += high_row * n_high
    return low, _load_line(lh, hh, columns, high_limit, column, at, ALIGNED)


@triton.jit
def _unlift_lines(lines, size, rows, column, ALIGNED: tl.constexpr, EXISTS: tl.constexpr):
    limit, high_limit = _limits(size, rows)
    low = _unlift_line(lines[0], size[1], limit, column, ALIGNED, EXISTS)
    return low, _unlift_line(lines[1], size[1], high_limit, column, ALIGNED, EXISTS)


@triton.jit
def _start_up(bands, i, size, rows, column, at, ALIGNED: tl.constexpr, EXISTS: tl.constexpr):
    """Return row 2i, its high row, and what was loaded for the next step."""
    lines = _load_lines(bands, i - 1, size, rows, column, at, ALIGNED)
    _, before = _unlift_lines(lines, size, rows, column, ALIGNED, EXISTS)
    lines = _load_lines(bands, i, size, rows, column, at, ALIGNED)
    low, high = _unlift_lines(lines, size, rows, column, ALIGNED, EXISTS)
    lines = _load_lines(bands, i + 1, size, rows, column, at, ALIGNED)
    return low - quarter(before, high), high, lines


@triton.jit
def _step_up(lines, size, rows, column, even, high, ALIGNED: tl.constexpr, EXISTS: tl.constexpr):
    """Return row 2i + 1, row 2i + 2, and the high row of the latter."""
    low, next_high = _unlift_lines(lines, size, rows, column, ALIGNED, EXISTS)
    after = low - quarter(high, next_high)
    return high + ((even + after) >> 1), after, next_high


@triton.jit
def _store_columns(frame, row, main, size, rows, column, ALIGNED: tl.constexpr):
    """Write columns c to c + 3 of one of `rows` rows."""
    limit = tl.where(row < rows, size[1], 0)
    at = column[:, None] + tl.arange(0, 4)[None, :]
    mask = at < limit
    if ALIGNED:
        mask = (column < limit)[:, None]
    line = main.reshape(main.shape[0], 4).to(frame.dtype.element_ty)
    tl.store(frame + row * size[1] + at, line, mask=mask)


@triton.jit(do_not_specialize=SCALARS)
def synthesize_kernel(
    ll_ptr,  # (phases, ceil(rows / 2), ceil(columns / 2)) int32
    hl_ptr,  # (phases, ceil(rows / 2), floor(columns / 2)) int32
    lh_ptr,  # (phases, floor(rows / 2), ceil(columns / 2)) int32
    hh_ptr,  # (phases, floor(rows / 2), floor(columns / 2)) int32
    phases,
    rows,
    columns,
    x_ptr,  # (phases, rows, columns) int16, uint16 or int32
    TIME: tl.constexpr,
    ALIGNED: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Make a strip of a frame of its subbands; with `TIME`, of both frames of a Haar step."""
    column = 4 * (tl.program_id(0) * BLOCK + tl.arange(0, BLOCK))
    i = tl.program_id(1) * ROWS
    place = tl.program_id(2).to(tl.int64)
    size = extents(rows, columns, ALIGNED)
    area = rows * size[1]
    bands = subbands(ll_ptr, hl_ptr, lh_ptr, hh_ptr, place, size)
    at = _halves(column, columns)
    even, high, lines = _start_up(bands, i, size, rows, column, at, ALIGNED, ALIGNED)
    frame = x_ptr + place * area
    if TIME:  # a low frame without a high one makes itself, with zeros
        bands_t = subbands(ll_ptr, hl_ptr, lh_ptr, hh_ptr, place + (phases + 1) // 2, size)
        rows_t = tl.where(2 * place + 1 < phases, rows, 0)
        even_t, high_t, lines_t = _start_up(bands_t, i, size, rows_t, column, at, ALIGNED, False)
        frame = x_ptr + 2 * place * area
    for step in tl.static_range(ROWS):
        following = lines
        if step + 1 < ROWS:
            following = _load_lines(bands, i + 2, size, rows, column, at, ALIGNED)
        if TIME:
            following_t = lines_t
            if step + 1 < ROWS:
                following_t = _load_lines(bands_t, i + 2, size, rows_t, column, at, ALIGNED)
            odd_t, after_t, high_t = _step_up(
                lines_t, size, rows_t, column, even_t, high_t, ALIGNED, False
            )
            lines_t = following_t
        odd, after, high = _step_up(lines, size, rows, column, even, high, ALIGNED, ALIGNED)
        lines = following
        if TIME:
            even, even_t = unhaar(even, even_t)
            odd, odd_t = unhaar(odd, odd_t)
            _store_columns(frame + area, 2 * i, even_t, size, rows_t, column, ALIGNED)
            _store_columns(frame + area, 2 * i + 1, odd_t, size, rows_t, column, ALIGNED)
            even_t = after_t
        _store_columns(frame, 2 * i, even, size, rows, column, ALIGNED)
        _store_columns(frame, 2 * i + 1, odd, size, rows, column, ALIGNED)
        even = after
        i += 1
