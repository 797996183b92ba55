/* The arithmetic of the local filters that takes the time.
 *
 * Doubles are computed voxel by voxel and block by block in the order of docs/bitstream.md, so that
 * every processor gives the same bits.
 */
#ifndef EDGE_CODEC_LOCAL_KERNELS_H
#define EDGE_CODEC_LOCAL_KERNELS_H

#include "local_products.h"

#define RIDGE_SHARE 0x1p-16 /* of the mean of the diagonal */
#define RIDGE_LEAST 8.0

/* The sums of the windows around blocks are weighted: weights fall linearly to 0 with the distance in
 * rows and in columns; `b` are the rows of the previous frame around that of the blocks, and `n`,
 * those of the frame in work above it, count twice. All begin a window's reach before the blocks. */
#ifdef __AVX2__
typedef int32_t window __attribute__((vector_size(8 * WIDE)));

RANS_INLINE window load_window(const int32_t *from) {
    window v;
    memcpy(&v, from, sizeof v);
    return v;
}

/* The numbers from the next one on; the last one is of no use. */
RANS_INLINE window next_blocks(window v) {
#if WIDE == 8
    return (window)_mm512_alignr_epi32((__m512i)v, (__m512i)v, 1);
#else
    const window order = {1, 2, 3, 4, 5, 6, 7, 7};
    return __builtin_shuffle(v, order);
#endif
}

RANS_INLINE doubles first_blocks(window v) {
    ints low;
    memcpy(&low, &v, sizeof low);
    return from_integers(low);
}

/* Of blocks from the i-th number on. */
RANS_INLINE doubles sum_window(const int32_t *const b[5], const int32_t *const n[2], size_t i,
                               const int reach) {
    const window b1 = load_window(b[1] + i), b2 = load_window(b[2] + i), b3 = load_window(b[3] + i);
    const window n1 = load_window(n[1] + i);
    if (reach == 1) {
        const window down = 2 * (b2 + n1) + b1 + b3, next = next_blocks(down);
        return first_blocks(down) + 2 * first_blocks(next) + first_blocks(next_blocks(next));
    }
    const window ends = load_window(b[0] + i) + load_window(b[4] + i) + 4 * n1;
    const window down = 3 * b2 + 2 * (b1 + b3 + load_window(n[0] + i)) + ends;
    const window next = next_blocks(down), threes = down + next + next_blocks(next);
    const window second = next_blocks(threes);
    return first_blocks(threes) + first_blocks(second) + first_blocks(next_blocks(second));
}

RANS_INLINE void sum_pair(const int32_t *const b[5], const int32_t *const n[2], size_t i,
                          size_t vectors, const int reach, double *to, size_t stride) {
    for (size_t v = 0; v < vectors; v++)
        store(to + v * stride, sum_window(b, n, i + v * WIDE, reach));
}
#else
RANS_INLINE void sum_pair(const int32_t *const b[5], const int32_t *const n[2], size_t i,
                          size_t vectors, const int reach, double *to, size_t stride) {
    int32_t down[BATCH + 4], threes[BATCH + 2];
    const int32_t *b1 = b[1] + i, *b2 = b[2] + i, *b3 = b[3] + i, *n1 = n[1] + i;
    const int32_t *b0 = b[0] + i, *b4 = b[4] + i, *n0 = n[0] + i;
    const size_t width = vectors * WIDE;
    if (reach == 1) {
        for (size_t k = 0; k < width + 2; k++) down[k] = 2 * (b2[k] + n1[k]) + b1[k] + b3[k];
        for (size_t k = 0; k < width; k++)
            to[k / WIDE * stride + k % WIDE] = (double)down[k] + 2.0 * down[k + 1] + down[k + 2];
        return;
    }
    for (size_t k = 0; k < width + 4; k++)
        down[k] = 3 * b2[k] + 2 * (b1[k] + b3[k] + n0[k]) + b0[k] + b4[k] + 4 * n1[k];
    for (size_t k = 0; k < width + 2; k++) threes[k] = down[k] + down[k + 1] + down[k + 2];
    for (size_t v = 0; v < vectors; v++)
        for (size_t k = 0; k < WIDE; k++) {
            const int32_t *t = threes + v * WIDE + k;
            to[v * stride + k] = (double)t[0] + t[1] + t[2];
        }
}
#endif

/* The sums of all pairs for some vectors of blocks. */
RANS_INLINE void sum_windows(const int32_t *const b[5], const int32_t *const n[2], size_t stride,
                             size_t pairs, size_t vectors, const int reach, double *matrix) {
    for (size_t pair = 0; pair < pairs; pair++)
        sum_pair(b, n, pair * stride, vectors, reach, matrix + pair * WIDE, pairs * WIDE);
}

#define AT(i, j) (matrix + WIDE * pair_of(i, j))

/* Rows `first` to `first + size - 1` of Cholesky's factor, side by side, so that each row before them
 * is read once and sums need not wait for one another. Row n is the right side: it has no diagonal. */
RANS_INLINE void factor_column(double *const *rows, int j, int first, int size, doubles *inverse,
                               int diagonal) {
    doubles sum[4] = {{0}};
#pragma GCC unroll 4
    for (int r = 0; r < size; r++) sum[r] = load(rows[first + r] + WIDE * j);
    for (int k = 1; k < j; k++) {
        const doubles x = load(rows[j] + WIDE * k);
#pragma GCC unroll 4
        for (int r = 0; r < size; r++) sum[r] -= load(rows[first + r] + WIDE * k) * x;
    }
    if (diagonal) inverse[j] = inverse_root(sum[0]);
#pragma GCC unroll 4
    for (int r = 0; r < size; r++) {
        sum[r] *= inverse[j];
        memcpy(rows[first + r] + WIDE * j, &sum[r], sizeof sum[r]);
    }
}

RANS_INLINE void factor_rows(double *const *rows, int n, int first, int size, doubles *inverse) {
    for (int j = 1; j < first; j++) factor_column(rows, j, first, size, inverse, 0);
#pragma GCC unroll 4
    for (int r = 0; r < size; r++)
        if (first + r < n) factor_column(rows, first + r, first + r, size - r, inverse, 1);
}

/* Solves for the filters of blocks side by side: Cholesky's factor takes the place of the matrix. */
static void solve_blocks(double *matrix, int n, double *taps, size_t stride) {
    doubles trace = {0}, inverse[MAX_LOCAL_TAPS], y[MAX_LOCAL_TAPS];
    double *rows[MAX_LOCAL_TAPS + 1];
    for (int i = 1; i < n; i++) trace += load(AT(i, i));
    const doubles ridge = trace * RIDGE_SHARE / (double)n + RIDGE_LEAST;
    for (int i = 1; i < n; i++) {
        const doubles diagonal = load(AT(i, i)) + ridge;
        memcpy(AT(i, i), &diagonal, sizeof diagonal);
        y[i] = load(AT(i, 0));
        rows[i] = AT(i, 0);
    }
    rows[n] = (double *)y;
    int first = 1;
    switch (n % 4) {
    case 1: factor_rows(rows, n, first, 1, inverse); break;
    case 2: factor_rows(rows, n, first, 2, inverse); break;
    case 3: factor_rows(rows, n, first, 3, inverse); break;
    }
    for (first += n % 4; first <= n; first += 4) factor_rows(rows, n, first, 4, inverse);
    doubles reference = (doubles){0} + 1;
    for (int i = n - 1; i >= 1; i--) {
        const doubles x = y[i] * inverse[i];
        for (int k = 1; k < i; k++) y[k] -= load(AT(i, k)) * x;
        memcpy(taps + (size_t)i * stride, &x, sizeof x);
        reference -= x;
    }
    memcpy(taps, &reference, sizeof reference);
}

#undef AT

#define SIDE_BY_SIDE 4 /* vectors, whose sums need not wait for one another */

/* row = the sum of each plane's voxels times the weight of their block. */
RANS_INLINE void predict_blocks(double *row, const double *const *planes,
                                const double *const *weights, int n, const int log_side,
                                size_t columns) {
    for (size_t x = 0; x < columns; x += SIDE_BY_SIDE * WIDE) {
        doubles sum[SIDE_BY_SIDE] = {{0}};
        for (int i = 0; i < n; i++) {
#pragma GCC unroll 4
            for (size_t j = 0; j < SIDE_BY_SIDE; j++) {
                const size_t place = x + j * WIDE;
                sum[j] +=
                    load(planes[i] + place) * spread(weights[i] + (place >> log_side), log_side);
            }
        }
#pragma GCC unroll 4
        for (size_t j = 0; j < SIDE_BY_SIDE; j++) store(row + x + j * WIDE, sum[j]);
    }
}

static void predict_row(double *row, const double *const *planes, const double *const *weights,
                        int n, int log_side, size_t columns) {
    if (log_side == 3) predict_blocks(row, planes, weights, n, 3, columns);
    else predict_blocks(row, planes, weights, n, 2, columns);
}

/* What the rows above and the previous frame say of how well a row will be predicted. */
static void sum_errors(uint32_t *sum, const uint32_t *error, const uint32_t *before, size_t stride,
                       size_t n) {
    const uint32_t *up = error - stride, *above = before - stride, *below = before + stride;
    for (size_t i = 0; i < n; i++)
        sum[i] = 3 * up[i] + 2 * (up[i - 1] + up[i + 1]) + error[i - 2 * stride] + 2 * before[i] +
                 before[i + 1] + before[i - 1] + above[i] + below[i];
}

#endif
