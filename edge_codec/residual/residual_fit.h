/* The encoder's choice of coefficients: least squares over a sample of the frame.
 *
 * Floats are allowed here: the coefficients travel in the payload. Features and target are taken
 * relative to the first tap, so that the coefficients sum to one and a constant is predicted as is.
 */
#ifndef EDGE_CODEC_RESIDUAL_FIT_H
#define EDGE_CODEC_RESIDUAL_FIT_H

#include <math.h>

#include "residual_frame.h"

/* Solves A x = b for a symmetric positive definite A by Cholesky, in place. */
static int solve(double a[MAX_TAPS][MAX_TAPS], double *b, int n) {
    for (int i = 0; i < n; i++) {
        for (int j = 0; j <= i; j++) {
            double sum = a[i][j];
            for (int k = 0; k < j; k++) sum -= a[i][k] * a[j][k];
            if (i > j)
                a[i][j] = sum / a[j][j];
            else if (sum <= 0)
                return 0;
            else
                a[i][i] = sqrt(sum);
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

#define FEATURES 36 /* up to 32 taps and the target, a multiple of 4 */

/* Adds the products of the features of one row's sampled voxels, upper triangle by groups of 4.
 * Each sum is its own chain of additions, so that any vector width gives the same floats. */
WIDE_CLONES static void add_row(const uint32_t *const *plane, int n, size_t first, size_t end,
                                size_t step, const uint32_t *target,
                                float sums[FEATURES][FEATURES]) {
    for (size_t place = first; place < end; place += step) {
        const int64_t reference = plane[0][place];
        float feature[FEATURES] = {0};
        for (int i = 1; i < n; i++) feature[i - 1] = (float)((int64_t)plane[i][place] - reference);
        feature[n - 1] = (float)((int64_t)target[place] - reference);
        for (int i = 0; i < n; i++)
            for (int j = i & ~3; j < FEATURES; j++) sums[i][j] += feature[i] * feature[j];
    }
}

/* The plane CURRENT holds the frame's own voxels here, as if it were decoded already. */
static int fit(const residual_state *s, int32_t coefficients[MAX_TAPS]) {
    tap taps[MAX_TAPS];
    const int n = list_taps(s, taps), m = n - 1;
    float sums[FEATURES][FEATURES];
    double a[MAX_TAPS][MAX_TAPS] = {{0}}, b[MAX_TAPS] = {0};
    const uint32_t *plane[MAX_TAPS];
    for (int i = 0; i < n; i++)
        plane[i] = s->plane[taps[i].plane] + taps[i].dy * (ptrdiff_t)s->stride + taps[i].dx;
    const size_t voxels = s->rows * s->columns, step = voxels > 32768 ? 3 : voxels > 4096 ? 2 : 1;
    for (size_t row = 0; row < s->rows; row += step) {
        const size_t first = at(s, row, (row / step) % step);
        memset(sums, 0, sizeof sums);
        add_row(plane, n, first, at(s, row, s->columns), step, s->plane[CURRENT], sums);
        for (int i = 0; i < m; i++) {
            for (int j = i; j < m; j++) a[j][i] += sums[i][j];
            b[i] += sums[i][m];
        }
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
