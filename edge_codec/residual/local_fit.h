/* Filters of a row of blocks: sums of products, windows over them, least squares.
 *
 * Weighted least squares over causal neighborhoods follow Ulacha and Stasinski (Entropy 2018) and
 * Wu, Barthel, Zhang (ICIP 1998); the sums over the previous frame, where all around a block is
 * known, are what makes small blocks possible.
 */
#ifndef EDGE_CODEC_LOCAL_FIT_H
#define EDGE_CODEC_LOCAL_FIT_H

#include "local_kernels.h"

/* Writes the sums of one row of blocks, of the frame in work or of the one before it. Rows below the
 * frame, which add nothing, are at its end: they are left out. */
static void sum_row(const local_state *s, const block_sums *b, size_t block_row, int before,
                    int32_t *out) {
    const size_t top = block_row << b->log_side, side = (size_t)1 << b->log_side;
    const size_t height = s->rows - top < side ? s->rows - top : side;
    const size_t rows = (height + b->skip - 1) / b->skip;
    for (int i = 0; i < b->features; i++) {
        const local_tap target = {NOW, 0, 0}, *t = i ? &s->taps[i] : &target, *first = &s->taps[0];
        const int16_t *x = s->coarse[t->plane + before] + t->dy * (ptrdiff_t)s->stride + t->dx;
        const int16_t *reference =
            s->coarse[first->plane + before] + first->dy * (ptrdiff_t)s->stride + first->dx;
        for (size_t r = 0; r < rows; r++) {
            const size_t place = place_of(s, top + r * b->skip, 0);
            put_feature(s->feature, i, r, rows, x + place, reference + place, s->columns,
                        b->log_side);
        }
    }
    sum_products(s->feature, s->columns, b->log_side, rows, b->features, out + SPACE, b->stride);
}

/* Fits one filter to every block of a row. */
static void fit_filter(local_state *s, local_filter *f, size_t block_row) {
    const block_sums *b = &s->sums[f->sums];
    const size_t pairs = pair_of(f->features, 0);
    const int32_t *before[5], *now[2];
    for (int d = -2; d <= 2; d++) {
        const ptrdiff_t row = (ptrdiff_t)block_row + d;
        const int inside = row >= 0 && row < (ptrdiff_t)b->rows;
        before[d + 2] = inside && s->use_before ? b->before + (size_t)(row % 5) * b->size : b->zero;
        before[d + 2] += SPACE - f->window;
        if (d >= 0) continue;
        now[d + 2] = inside ? b->now + (size_t)(row % 2) * b->size : b->zero;
        now[d + 2] += SPACE - f->window;
    }
    for (size_t block = 0; block < b->columns; block += BATCH) {
        const size_t rest = b->columns - block < BATCH ? b->columns - block : BATCH;
        const size_t vectors = (rest + WIDE - 1) / WIDE;
        if (f->window == 1) sum_windows(before, now, b->stride, pairs, vectors, 1, s->matrix);
        else sum_windows(before, now, b->stride, pairs, vectors, 2, s->matrix);
        for (size_t v = 0; v < vectors; v++)
            solve_blocks(s->matrix + v * pairs * WIDE, f->features, f->taps + block + v * WIDE,
                         f->stride);
        for (int i = 0; i < 5; i++) before[i] += BATCH;
        for (int i = 0; i < 2; i++) now[i] += BATCH;
    }
}

/* Before the first voxel of `row`: fits the filters of the blocks that begin there. */
static void fit_row(local_state *s, size_t row) {
    for (int i = 0; i < s->n_sums; i++) {
        block_sums *b = &s->sums[i];
        if (row & (((size_t)1 << b->log_side) - 1)) continue;
        const size_t block_row = row >> b->log_side;
        if (block_row) sum_row(s, b, block_row - 1, 0, b->now + (block_row - 1) % 2 * b->size);
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
        const double *planes[MAX_LOCAL_TAPS], *weights[MAX_LOCAL_TAPS];
        int n = 0;
        for (int i = 0; i < f->features; i++) {
            const local_tap *t = &s->taps[i];
            if (t->plane == NOW && t->dy == 0) continue;
            weights[n] = f->taps + (size_t)i * f->stride;
            planes[n++] =
                s->plane[t->plane] + place_of(s, row, 0) + t->dy * (ptrdiff_t)s->stride + t->dx;
        }
        predict_row(f->row, planes, weights, n, b->log_side, s->columns);
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
            sum += taps[(size_t)s->west[i] * f->stride] * x[-1 - i];
    const double top = (double)s->span;
    sum = sum > 0 ? sum < top ? sum : top : 0;
    return (int64_t)(sum * 16 + 0.5);
}

#endif
