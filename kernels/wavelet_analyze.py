"""Device code of the wavelet's analysis.

A program owns a strip: `BLOCK` lanes of four columns, `ROWS` pairs of rows. It walks down its
strip, loads the next pair of rows while it lifts the last one, and keeps what the next step needs
in registers. Lanes exchange nothing: each also reads the three columns beside its own, through the
first-level cache, and lifts them as well, so that there is no shared memory and no barrier.

`ALIGNED` is for frames of a multiple of four columns: a lane loads and stores its columns at once,
and reflection is a choice between registers. All others are read at reflected addresses, one column
at a time. With `TIME`, a program reads a pair of frames, takes their Haar step in registers and
transforms both results: the frames in between are never in memory.
"""

from __future__ import annotations

import triton
import triton.language as tl

SCALARS = ("phases", "rows", "columns")
"""Arguments whose values must not change what is compiled: none is, ahead of time."""


@triton.jit
def reflect(index, size):
    """Extend `0..size - 1` by reflection; what is beyond the extension gets a valid index."""
    index = tl.where(index < 0, -index, index)
    index = tl.where(index < size, index, 2 * (size - 1) - index)
    index = tl.where(index < 0, -index, index)
    return tl.minimum(index, size - 1)


@triton.jit
def haar(a, b):
    """Return low and high of two samples, one after the other in time."""
    high = b - a
    return a + (high >> 1), high


@triton.jit
def _lift(even, odd, after, before):
    """Return low[i] and high[i] of x[2i], x[2i + 1], x[2i + 2] and high[i - 1]."""
    high = odd - ((even + after) >> 1)
    return even + ((before + high + 2) >> 2), high


@triton.jit
def quarter(before, high):
    """Return what two high samples add to the low one between them."""
    return (before + high + 2) >> 2


@triton.jit
def extents(rows, columns, ALIGNED: tl.constexpr):
    """Return rows, columns, and the columns of low and of high subbands."""
    low, high = (columns + 1) // 2, columns // 2
    if ALIGNED:  # tells the compiler what addresses are multiples of
        columns = columns // 4 * 4
        low, high = columns // 4 * 2, columns // 4 * 2
    return rows, columns, low, high


@triton.jit
def subbands(ll_ptr, hl_ptr, lh_ptr, hh_ptr, place, size):
    """Return the subbands of one frame."""
    rows, _, n_low, n_high = size
    low, high = place * ((rows + 1) // 2), place * (rows // 2)
    return (
        ll_ptr + low * n_low,
        hl_ptr + low * n_high,
        lh_ptr + high * n_low,
        hh_ptr + high * n_high,
    )


@triton.jit
def _reflected(column, columns):
    """Return columns c - 2 to c + 4."""
    return (
        reflect(column - 2, columns),
        reflect(column - 1, columns),
        reflect(column, columns),
        reflect(column + 1, columns),
        reflect(column + 2, columns),
        reflect(column + 3, columns),
        reflect(column + 4, columns),
    )


@triton.jit
def _load_columns(frame, row, size, column, at, ALIGNED: tl.constexpr):
    """Read columns c - 2, c - 1; c to c + 3 by pairs; and c + 4 of a row.

    Where `ALIGNED`, columns outside of the frame are undefined.
    """
    columns = size[1]
    line = frame + reflect(row, size[0]) * columns
    if ALIGNED:
        own = column[:, None]
        inside = own < columns
        main = tl.load(line + own + tl.arange(0, 4)[None, :], mask=inside)
        main = main.reshape(main.shape[0], 2, 2)
        left = tl.load(line + own - 2 + tl.arange(0, 2)[None, :], mask=inside & (own > 0))
        right = tl.load(line + column + 4, mask=column + 4 < columns)
    else:
        left = tl.join(tl.load(line + at[0]), tl.load(line + at[1]))
        even = tl.join(tl.load(line + at[2]), tl.load(line + at[4]))
        odd = tl.join(tl.load(line + at[3]), tl.load(line + at[5]))
        main = tl.join(even, odd)
        right = tl.load(line + at[6])
    return left, main, right


@triton.jit
def _load_row(frames, row, size, column, at, TIME: tl.constexpr, ALIGNED: tl.constexpr):
    """Read a row of one frame or of two."""
    a = _load_columns(frames[0], row, size, column, at, ALIGNED)
    b = a
    if TIME:
        b = _load_columns(frames[1], row, size, column, at, ALIGNED)
    return a, b


@triton.jit
def _open_row(lines, TIME: tl.constexpr):
    """Return a row as int32, or the two results of the Haar step of two rows."""
    a, b = lines
    low = a[0].to(tl.int32), a[1].to(tl.int32), a[2].to(tl.int32)
    high = low
    if TIME:
        low_left, high_left = haar(low[0], b[0].to(tl.int32))
        low_main, high_main = haar(low[1], b[1].to(tl.int32))
        low_right, high_right = haar(low[2], b[2].to(tl.int32))
        low, high = (low_left, low_main, low_right), (high_left, high_main, high_right)
    return low, high


@triton.jit
def _lift_down(even, odd, after, before):
    """Lift all columns of a lane by one pair of rows."""
    low_left, high_left = _lift(even[0], odd[0], after[0], before[0])
    low_main, high_main = _lift(even[1], odd[1], after[1], before[1])
    low_right, high_right = _lift(even[2], odd[2], after[2], before[2])
    return (low_left, low_main, low_right), (high_left, high_main, high_right)


@triton.jit
def _store_line(line, low_ptr, high_ptr, columns, limit, column, ALIGNED: tl.constexpr):
    """Lift a row along itself and write the two pairs of samples that a lane makes of it."""
    left_even, left_odd = tl.split(line[0])
    even, odd = tl.split(line[1])
    even0, even1 = tl.split(even)
    after = line[2]
    if ALIGNED:
        after = tl.where(column + 4 < columns, after, even1)
    high = odd - ((even + tl.join(even1, after)) >> 1)
    high0, high1 = tl.split(high)
    before = left_odd - ((left_even + even0) >> 1)
    if ALIGNED:
        before = tl.where(column > 0, before, high0)
    low = even + quarter(tl.join(before, high0), high)
    i = column // 2
    if ALIGNED:
        pair = i[:, None] + tl.arange(0, 2)[None, :]
        mask = (column < limit)[:, None]
        tl.store(low_ptr + pair, low, mask=mask)
        tl.store(high_ptr + pair, high, mask=mask)
    else:
        low0, low1 = tl.split(low)
        tl.store(low_ptr + i, low0, mask=column < limit)
        tl.store(high_ptr + i, high0, mask=column + 1 < limit)
        tl.store(low_ptr + i + 1, low1, mask=column + 2 < limit)
        tl.store(high_ptr + i + 1, high1, mask=column + 3 < limit)


@triton.jit
def _store_lines(low, high, bands, i, size, rows, column, ALIGNED: tl.constexpr):
    """Write a row of each subband, of `rows` rows of the frame (0: of none)."""
    ll, hl, lh, hh = bands
    _, columns, n_low, n_high = size
    limit = tl.where(2 * i < rows, columns, 0)
    _store_line(low, ll + i * n_low, hl + i * n_high, columns, limit, column, ALIGNED)
    limit = tl.where(2 * i + 1 < rows, columns, 0)
    _store_line(high, lh + i * n_low, hh + i * n_high, columns, limit, column, ALIGNED)


@triton.jit(do_not_specialize=SCALARS)
def analyze_kernel(
    x_ptr,  # (phases, rows, columns) int16, uint16 or int32
    phases,
    rows,
    columns,
    ll_ptr,  # (phases, ceil(rows / 2), ceil(columns / 2)) int32
    hl_ptr,  # (phases, ceil(rows / 2), floor(columns / 2)) int32
    lh_ptr,  # (phases, floor(rows / 2), ceil(columns / 2)) int32
    hh_ptr,  # (phases, floor(rows / 2), floor(columns / 2)) int32
    TIME: tl.constexpr,
    ALIGNED: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Make the subbands of a strip of a frame; with `TIME`, of both results of a Haar step."""
    column = 4 * (tl.program_id(0) * BLOCK + tl.arange(0, BLOCK))
    i = tl.program_id(1) * ROWS
    place = tl.program_id(2).to(tl.int64)
    size = extents(rows, columns, ALIGNED)
    area = rows * size[1]
    bands = subbands(ll_ptr, hl_ptr, lh_ptr, hh_ptr, place, size)
    place_t = (phases + 1) // 2 + place
    bands_t = subbands(ll_ptr, hl_ptr, lh_ptr, hh_ptr, place_t, size)
    rows_t = tl.where(place_t < phases, rows, 0)
    frames = x_ptr + place * area, x_ptr
    if TIME:  # the last of an odd number of frames is paired with itself
        last = tl.minimum(2 * place + 1, phases - 1)
        frames = x_ptr + 2 * place * area, x_ptr + last * area
    at = _reflected(column, columns)
    even_lines = _load_row(frames, 2 * i - 2, size, column, at, TIME, ALIGNED)
    odd_lines = _load_row(frames, 2 * i - 1, size, column, at, TIME, ALIGNED)
    after_lines = _load_row(frames, 2 * i, size, column, at, TIME, ALIGNED)
    even, even_t = _open_row(even_lines, TIME)
    odd, odd_t = _open_row(odd_lines, TIME)
    after, after_t = _open_row(after_lines, TIME)
    _, before = _lift_down(even, odd, after, even)
    _, before_t = _lift_down(even_t, odd_t, after_t, even_t)
    odd_lines = _load_row(frames, 2 * i + 1, size, column, at, TIME, ALIGNED)
    after_lines = _load_row(frames, 2 * i + 2, size, column, at, TIME, ALIGNED)
    for step in tl.static_range(ROWS):
        odd_next, after_next = odd_lines, after_lines
        if step + 1 < ROWS:
            odd_next = _load_row(frames, 2 * i + 3, size, column, at, TIME, ALIGNED)
            after_next = _load_row(frames, 2 * i + 4, size, column, at, TIME, ALIGNED)
        even, even_t = after, after_t
        odd, odd_t = _open_row(odd_lines, TIME)
        after, after_t = _open_row(after_lines, TIME)
        low, before = _lift_down(even, odd, after, before)
        _store_lines(low, before, bands, i, size, rows, column, ALIGNED)
        if TIME:
            low, before_t = _lift_down(even_t, odd_t, after_t, before_t)
            _store_lines(low, before_t, bands_t, i, size, rows_t, column, ALIGNED)
        odd_lines, after_lines = odd_next, after_next
        i += 1
