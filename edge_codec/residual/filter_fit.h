/* The encoder's choice of coefficients: least squares over a sample of the frame.
 *
 * Floats are allowed here: the coefficients travel in the payload. Features and target are taken
 * relative to the first tap, so that the coefficients sum to one and a constant is predicted as is.
 */
#ifndef EDGE_CODEC_FILTER_FIT_H
#define EDGE_CODEC_FILTER_FIT_H

#include <math.h>

#include "filter_frame.h"

/* Solves A x = b for a symmetric positive definite A by Cholesky, in place. */
static int solve(double a[MAX_TAPS][MAX_TAPS], double *b, int n) {
    for (int i = 0; i < n; i++) {
        for (int j = 0; j <= i; j++) {
            double sum = a[i][j];
            for (int k = 0; k < j; k++) sum -= a[i][k] * a[j][k];
            if (i > j) a[i][j] = sum / a[j][j];
            else if (sum <= 0) return 0;
            else a[i][i] = sqrt(sum);
        }
    }
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < i; k++) b[i] -= a[i][k] * b[k];
        b[i] /= a[i][i];
    }
    for (int i = n - 1; i >= 0; i--) {
        for (int k = i + 1; k < n; k++) b[i] -= a[k][i] * b[k];
        b[i] /= a[i][i];
    }
    return 1;
}

#define FEATURES 20     /* up to 16 taps and the target, a multiple of 4 */
#define FIT_VOXELS 4096 /* of a frame that are looked at, about */
#define CHUNK 128       /* sampled voxels that are summed up at a time, a multiple of 8 */

/* Eight floats; the compiler makes two halves of it where vectors are shorter, with the same sums. */
typedef float float8 __attribute__((vector_size(32), aligned(4), may_alias));

typedef struct {
    float feature[FEATURES][CHUNK];
    double sums[FEATURES][FEATURES]; /* upper triangle, by groups of 4 columns */
} fit_sums;

static inline double lane_sum(float8 v) {
    return (double)v[0] + v[1] + v[2] + v[3] + v[4] + v[5] + v[6] + v[7];
}

/* Adds the products of the chunk's features; unused places of the chunk are 0. */
static void add_chunk(fit_sums *f, int n, size_t used) {
    for (int i = 0; i < n; i++) {
        for (int j = i & ~3; j < n; j += 4) {
            float8 sum0 = {0}, sum1 = {0}, sum2 = {0}, sum3 = {0};
            for (size_t k = 0; k < used; k += 8) {
                const float8 x = *(const float8 *)(f->feature[i] + k);
                sum0 += x * *(const float8 *)(f->feature[j] + k);
                sum1 += x * *(const float8 *)(f->feature[j + 1] + k);
                sum2 += x * *(const float8 *)(f->feature[j + 2] + k);
                sum3 += x * *(const float8 *)(f->feature[j + 3] + k);
            }
            f->sums[i][j] += lane_sum(sum0);
            f->sums[i][j + 1] += lane_sum(sum1);
            f->sums[i][j + 2] += lane_sum(sum2);
            f->sums[i][j + 3] += lane_sum(sum3);
        }
    }
    memset(f->feature, 0, sizeof f->feature);
}

/* Sums over a sample of the frame; the plane CURRENT holds the frame's own voxels here, as if it
 * were decoded already. Feature n - 1 is the target. */
static void sum_features(const filter_state *s, const tap *taps, int n, fit_sums *f) {
    const uint32_t *plane[MAX_TAPS];
    for (int i = 0; i < n; i++)
        plane[i] = s->plane[taps[i].plane] + taps[i].dy * (ptrdiff_t)s->stride + taps[i].dx;
    size_t step = 1;
    while (s->rows * s->columns / (step * step) > 2 * FIT_VOXELS) step++;
    size_t used = 0;
    memset(f, 0, sizeof *f);
    for (size_t row = 0; row < s->rows; row += step) {
        for (size_t column = (row / step) % step; column < s->columns; column += step) {
            const size_t place = at(s, row, column);
            const int64_t reference = plane[0][place];
            for (int i = 1; i < n; i++)
                f->feature[i - 1][used] = (float)((int64_t)plane[i][place] - reference);
            f->feature[n - 1][used] = (float)((int64_t)s->plane[CURRENT][place] - reference);
            if (++used == CHUNK) {
                add_chunk(f, n, used);
                used = 0;
            }
        }
    }
    add_chunk(f, n, used);
}

static int fit(const filter_state *s, int32_t coefficients[MAX_TAPS]) {
    tap taps[MAX_TAPS];
    const int n = list_taps(s, taps), m = n - 1;
    fit_sums f;
    double a[MAX_TAPS][MAX_TAPS] = {{0}}, b[MAX_TAPS] = {0};
    sum_features(s, taps, n, &f);
    for (int i = 0; i < m; i++) {
        for (int j = i; j < m; j++) a[j][i] = f.sums[i][j];
        b[i] = f.sums[i][m];
    }
    double trace = 0;
    for (int i = 0; i < m; i++) trace += a[i][i];
    for (int i = 0; i < m; i++) a[i][i] += 1e-5 * trace / m + 1e-3;
    if (!solve(a, b, m)) memset(b, 0, sizeof b);
    const int32_t one = 1 << COEFFICIENT_BITS;
    int32_t rest = one, total = 0;
    for (int i = 0; i < m; i++) {
        const double scaled = b[i] * one;
        coefficients[i + 1] = fabs(scaled) <= MAX_WEIGHT ? (int32_t)lrint(scaled) : MAX_WEIGHT;
        total += abs(coefficients[i + 1]);
        rest -= coefficients[i + 1];
    }
    coefficients[0] = rest;
    if (total + abs(rest) > MAX_WEIGHT) { /* not a prediction: take the nearest voxel */
        memset(coefficients, 0, MAX_TAPS * sizeof *coefficients);
        coefficients[0] = one;
    }
    return n;
}

#endif
