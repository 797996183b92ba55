/* Filters of a row of blocks: sums of products, windows over them, least squares.
 *
 * Weighted least squares over causal neighborhoods follow Ulacha and Stasinski (Entropy 2018) and
 * Wu, Barthel, Zhang (ICIP 1998); the sums over the previous frame, where all around a block is
 * known, are what makes small blocks possible.
 */
#ifndef EDGE_CODEC_LOCAL_FIT_H
#define EDGE_CODEC_LOCAL_FIT_H

#include "local_kernels.h"

/* Writes the sums of one row of blocks, of the frame in work or of the one before it. */
static void sum_row(const local_state *s, const block_sums *b, size_t block_row, int before,
                    int32_t *out) {
    const size_t rows = ((size_t)1 << b->log_side) / b->skip, stride = FEATURE_STRIDE(s->columns);
    for (int i = 0; i < b->features; i++) {
        for (size_t r = 0; r < rows; r++) {
            const size_t row = (block_row << b->log_side) + r * b->skip;
            int16_t *to = s->feature + ((size_t)i * rows + r) * stride;
            if (row >= s->rows) {
                memset(to, 0, stride * sizeof *to);
                continue;
            }
            const local_tap target = {NOW, 0, 0}, *t = i ? &s->taps[i] : &target;
            const local_tap *first = &s->taps[0];
            const size_t place = place_of(s, row, 0);
            difference(s->coarse[t->plane + before] + place + t->dy * (ptrdiff_t)s->stride + t->dx,
                       s->coarse[first->plane + before] + place + first->dy * (ptrdiff_t)s->stride +
                           first->dx,
                       to, s->columns);
            memset(to + s->columns, 0, (stride - s->columns) * sizeof *to);
        }
    }
    if (b->log_side == 2) products_4(s->feature, stride, b->features, out + SPACE, b->stride);
    else products_8(s->feature, stride, rows, b->features, out + SPACE, b->stride);
}

/* Adds up the window around each block of a row: weights fall linearly to 0 with the distance in
 * rows and in columns, and the frame in work counts twice what the previous one counts. */
static void sum_windows(const local_state *s, block_sums *b, const local_filter *f,
                        size_t block_row) {
    const size_t size = pair_of(f->features, 0) * b->stride + SPACE;
    const int32_t *before[5], *now[2];
    for (int d = -2; d <= 2; d++) {
        const ptrdiff_t row = (ptrdiff_t)block_row + d;
        const int inside = row >= 0 && row < (ptrdiff_t)b->rows;
        before[d + 2] = inside && s->use_before ? b->before + (size_t)(row % 5) * b->size : b->zero;
        if (d < 0) now[d + 2] = inside ? b->now + (size_t)(row % 3) * b->size : b->zero;
    }
    if (f->window == 1) {
        add_down_1(b->down, before, now, size);
    } else {
        add_down_2(b->threes, before, now, size);
        add_three(b->down + 1, b->threes + 1, size - 2);
    }
}

/* Fits one filter to every block of a row. */
static void fit_filter(local_state *s, local_filter *f, size_t block_row) {
    block_sums *b = &s->sums[f->sums];
    sum_windows(s, b, f, block_row);
    for (size_t block = 0; block < b->columns; block += 4) {
        add_across(b->down + SPACE + block, b->stride, pair_of(f->features, 0),
                   f->window == 1 ? 2 : 1, s->matrix);
        solve_four(s->matrix, f->features, f->taps + block, b->stride);
    }
}

/* Before the first voxel of `row`: fits the filters of the blocks that begin there. */
static void fit_row(local_state *s, size_t row) {
    for (int i = 0; i < s->n_sums; i++) {
        block_sums *b = &s->sums[i];
        if (row & (((size_t)1 << b->log_side) - 1)) continue;
        const size_t block_row = row >> b->log_side;
        if (block_row) sum_row(s, b, block_row - 1, 0, b->now + (block_row - 1) % 3 * b->size);
        if (s->use_before)
            for (size_t next = block_row ? block_row + WINDOW : 0;
                 next <= block_row + WINDOW && next < b->rows; next++)
                sum_row(s, b, next, 1, b->before + next % 5 * b->size);
        for (int k = 0; k < s->n_filters; k++)
            if (s->filter[k].sums == i) fit_filter(s, &s->filter[k], block_row);
    }
}

/* Everything of a row's predictions but what lies left of a voxel. */
static void predict_local_row(local_state *s, size_t row) {
    for (int k = 0; k < s->n_filters; k++) {
        local_filter *f = &s->filter[k];
        const block_sums *b = &s->sums[f->sums];
        const double *planes[MAX_LOCAL_TAPS];
        for (int i = 0; i < f->features; i++) {
            const local_tap *t = &s->taps[i];
            const int left = t->plane == NOW && t->dy == 0;
            planes[i] = left ? NULL
                             : s->plane[t->plane] + place_of(s, row, 0) +
                                   t->dy * (ptrdiff_t)s->stride + t->dx;
        }
        predict_row(f->row, planes, f->taps, b->stride, f->features, b->log_side, s->columns);
    }
}

/* The filter's prediction of a voxel in units of 1/16, between 0 and the span. */
RANS_INLINE int64_t predict_local(const local_state *s, const local_filter *f, size_t column,
                                  size_t place) {
    const block_sums *b = &s->sums[f->sums];
    const double *taps = f->taps + (column >> b->log_side), *x = s->plane[NOW] + place;
    double sum = f->row[column];
    for (int i = 0; i < REACH; i++)
        if (s->west[i] >= 0 && s->west[i] < f->features)
            sum += taps[(size_t)s->west[i] * b->stride] * x[-1 - i];
    const double top = (double)s->span;
    sum = sum > 0 ? sum < top ? sum : top : 0;
    return (int64_t)(sum * 16 + 0.5);
}

#endif
