/* The arithmetic of the local filters that takes the time.
 *
 * Integers are exact in any order; doubles are computed voxel by voxel and block by block in the order
 * of docs/bitstream.md, so that every processor gives the same bits. A vector holds the same quantity
 * of four neighboring voxels or blocks.
 */
#ifndef EDGE_CODEC_LOCAL_KERNELS_H
#define EDGE_CODEC_LOCAL_KERNELS_H

#include <float.h>
#include <math.h>

#ifdef __AVX2__
#include <immintrin.h>
#endif

#include "local_frame.h"

#if defined(__FAST_MATH__) || FLT_EVAL_METHOD != 0
#error "these settings round doubles otherwise than docs/bitstream.md says: other bits"
#endif

#define COARSE_LIMIT 723    /* 64 squares, weighted by 15 down and 3 across, fit 32 bits */
#define RIDGE_SHARE 0x1p-16 /* of the mean of the diagonal */
#define RIDGE_LEAST 8.0

typedef double double4 __attribute__((vector_size(32)));
typedef int64_t long4 __attribute__((vector_size(32)));
typedef int32_t int4 __attribute__((vector_size(16)));

/* out[pair][block] = the sum over a block of the products of two features, for a row of blocks.
 * Features are 0 beyond the frame, up to a multiple of 64 columns. */
#ifdef __AVX2__
static void products_4(const int16_t *feature, size_t stride, int n, int32_t *out,
                       size_t out_stride) {
    const size_t size = 4 * stride;
    for (size_t x = 0; x < stride; x += 32) {
        for (int i = 0; i < n; i++) {
            const int16_t *p = feature + (size_t)i * size + x;
            __m256i a[8];
            for (int r = 0; r < 4; r++) {
                a[2 * r] = _mm256_loadu_si256((const __m256i *)(p + (size_t)r * stride));
                a[2 * r + 1] = _mm256_loadu_si256((const __m256i *)(p + (size_t)r * stride + 16));
            }
            int32_t *to = out + pair_of(i, 0) * out_stride + x / 4;
            for (int j = 0; j <= i; j++, to += out_stride) {
                const int16_t *q = feature + (size_t)j * size + x;
                __m256i low = _mm256_setzero_si256(), high = low;
                for (int r = 0; r < 4; r++) {
                    const __m256i *b = (const __m256i *)(q + (size_t)r * stride);
                    low = _mm256_add_epi32(low, _mm256_madd_epi16(a[2 * r], _mm256_loadu_si256(b)));
                    high = _mm256_add_epi32(
                        high, _mm256_madd_epi16(a[2 * r + 1], _mm256_loadu_si256(b + 1)));
                }
                const __m256i sums = _mm256_hadd_epi32(low, high); /* blocks 0 1 4 5 2 3 6 7 */
                _mm256_storeu_si256((__m256i *)to, _mm256_permute4x64_epi64(sums, 0xD8));
            }
        }
    }
}

static void products_8(const int16_t *feature, size_t stride, size_t rows, int n, int32_t *out,
                       size_t out_stride) {
    const size_t size = rows * stride;
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    for (size_t x = 0; x < stride; x += 64) {
        for (int i = 0; i < n; i++) {
            const int16_t *p = feature + (size_t)i * size + x;
            int32_t *to = out + pair_of(i, 0) * out_stride + x / 8;
            for (int j = 0; j <= i; j++, to += out_stride) {
                const int16_t *q = feature + (size_t)j * size + x;
                __m256i sum[4];
                for (int c = 0; c < 4; c++) sum[c] = _mm256_setzero_si256();
                for (size_t r = 0; r < rows; r++) {
                    const __m256i *a = (const __m256i *)(p + r * stride);
                    const __m256i *b = (const __m256i *)(q + r * stride);
                    for (int c = 0; c < 4; c++)
                        sum[c] =
                            _mm256_add_epi32(sum[c], _mm256_madd_epi16(_mm256_loadu_si256(a + c),
                                                                       _mm256_loadu_si256(b + c)));
                }
                const __m256i sums = _mm256_hadd_epi32(_mm256_hadd_epi32(sum[0], sum[1]),
                                                       _mm256_hadd_epi32(sum[2], sum[3]));
                _mm256_storeu_si256((__m256i *)to, _mm256_permutevar8x32_epi32(sums, order));
            }
        }
    }
}
#else
static void products(const int16_t *feature, size_t stride, size_t rows, int n, int32_t *out,
                     size_t out_stride, size_t side) {
    const size_t size = rows * stride;
    for (int i = 0; i < n; i++) {
        for (int j = 0; j <= i; j++) {
            int32_t *to = out + pair_of(i, j) * out_stride;
            for (size_t x = 0; x < stride; x += side) {
                const int16_t *a = feature + (size_t)i * size + x,
                              *b = feature + (size_t)j * size + x;
                int32_t sum = 0;
                for (size_t r = 0; r < rows; r++)
                    for (size_t c = 0; c < side; c++)
                        sum += (int32_t)a[r * stride + c] * (int32_t)b[r * stride + c];
                to[x / side] = sum;
            }
        }
    }
}

static void products_4(const int16_t *feature, size_t stride, int n, int32_t *out,
                       size_t out_stride) {
    products(feature, stride, 4, n, out, out_stride, 4);
}

static void products_8(const int16_t *feature, size_t stride, size_t rows, int n, int32_t *out,
                       size_t out_stride) {
    products(feature, stride, rows, n, out, out_stride, 8);
}
#endif

/* One row of a feature: the tap less the first one, between limits. */
static void difference(const int16_t *x, const int16_t *reference, int16_t *out, size_t n) {
    for (size_t i = 0; i < n; i++) {
        int16_t d = (int16_t)(x[i] - reference[i]);
        d = d < -COARSE_LIMIT ? -COARSE_LIMIT : d;
        out[i] = d > COARSE_LIMIT ? COARSE_LIMIT : d;
    }
}

/* out = the sum of rows of blocks with weights that fall linearly from the middle row: those of the
 * previous frame, b, around the row, and twice those of the frame in work, n, above it. */
static void add_down_1(int32_t *out, const int32_t *const b[5], const int32_t *const n[2],
                       size_t size) {
    for (size_t i = 0; i < size; i++) out[i] = 2 * (b[2][i] + n[1][i]) + b[1][i] + b[3][i];
}

static void add_down_2(int32_t *out, const int32_t *const b[5], const int32_t *const n[2],
                       size_t size) {
    for (size_t i = 0; i < size; i++)
        out[i] = 3 * b[2][i] + 2 * (b[1][i] + b[3][i] + n[0][i]) + b[0][i] + b[4][i] + 4 * n[1][i];
}

/* to[i] = from[i - 1] + from[i] + from[i + 1] */
static void add_three(int32_t *to, const int32_t *from, size_t n) {
    for (size_t i = 0; i < n; i++) to[i] = from[i - 1] + from[i] + from[i + 1];
}

RANS_INLINE double4 load_integers(const int32_t *from) {
    int4 x;
    memcpy(&x, from, sizeof x);
    return __builtin_convertvector(x, double4);
}

/* The sums of the windows around four blocks: of a window of 1 block to each side over the sums
 * down, of 2 over threes of them. */
static void add_across(const int32_t *down, size_t stride, size_t pairs, double middle,
                       double *matrix) {
    for (size_t pair = 0; pair < pairs; pair++, down += stride) {
        const double4 sum =
            load_integers(down - 1) + load_integers(down + 1) + load_integers(down) * middle;
        memcpy(matrix + 4 * pair, &sum, sizeof sum);
    }
}

RANS_INLINE double4 load(const double *from) {
    double4 v;
    memcpy(&v, from, sizeof v);
    return v;
}

/* 1 / sqrt(x), or 0 where x is not above 0. */
RANS_INLINE double4 inverse_root(double4 x) {
    double4 root = {0};
#ifdef __AVX2__
    root = (double4)_mm256_sqrt_pd((__m256d)x);
#else
    for (int i = 0; i < 4; i++) root[i] = x[i] > 0 ? sqrt(x[i]) : 1;
#endif
    const double4 one = {1, 1, 1, 1}, zero = {0};
    const long4 positive = (long4)(x > zero);
    return (double4)((long4)(one / root) & positive);
}

#define AT(i, j) (matrix + 4 * pair_of(i, j))

/* Rows `first` to `first + size - 1` of Cholesky's factor, side by side, so that each row before them
 * is read once and sums need not wait for one another. Row n is the right side: it has no diagonal. */
RANS_INLINE void factor_column(double *const *rows, int j, int first, int size, double4 *inverse,
                               int diagonal) {
    double4 sum[4] = {{0}};
#pragma GCC unroll 4
    for (int r = 0; r < size; r++) sum[r] = load(rows[first + r] + 4 * j);
    for (int k = 1; k < j; k++) {
        const double4 x = load(rows[j] + 4 * k);
#pragma GCC unroll 4
        for (int r = 0; r < size; r++) sum[r] -= load(rows[first + r] + 4 * k) * x;
    }
    if (diagonal) inverse[j] = inverse_root(sum[0]);
#pragma GCC unroll 4
    for (int r = 0; r < size; r++) {
        sum[r] *= inverse[j];
        memcpy(rows[first + r] + 4 * j, &sum[r], sizeof sum[r]);
    }
}

RANS_INLINE void factor_rows(double *const *rows, int n, int first, int size, double4 *inverse) {
    for (int j = 1; j < first; j++) factor_column(rows, j, first, size, inverse, 0);
#pragma GCC unroll 4
    for (int r = 0; r < size; r++)
        if (first + r < n) factor_column(rows, first + r, first + r, size - r, inverse, 1);
}

/* Solves for the filters of four blocks: Cholesky's factor takes the place of the matrix. */
static void solve_four(double *matrix, int n, double *taps, size_t stride) {
    double4 trace = {0}, inverse[MAX_LOCAL_TAPS], y[MAX_LOCAL_TAPS];
    double *rows[MAX_LOCAL_TAPS + 1];
    for (int i = 1; i < n; i++) trace += load(AT(i, i));
    const double4 ridge = trace * RIDGE_SHARE / (double)n + RIDGE_LEAST;
    for (int i = 1; i < n; i++) {
        const double4 diagonal = load(AT(i, i)) + ridge;
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
    double4 reference = {1, 1, 1, 1};
    for (int i = n - 1; i >= 1; i--) {
        const double4 x = y[i] * inverse[i];
        for (int k = 1; k < i; k++) y[k] -= load(AT(i, k)) * x;
        memcpy(taps + (size_t)i * stride, &x, sizeof x);
        reference -= x;
    }
    memcpy(taps, &reference, sizeof reference);
}

#undef AT

/* row += the tap's weight in each block times the voxels it lies on; blocks are 1 << log_side wide. */
static void predict_row(double *row, const double *const *planes, const double *taps, size_t stride,
                        int n, int log_side, size_t columns) {
    for (size_t x = 0; x < columns; x += 4) {
        const double *weight = taps + (x >> log_side);
        double4 sum = {0};
        for (int i = 0; i < n; i++, weight += stride)
            if (planes[i]) sum += load(planes[i] + x) * *weight;
        memcpy(row + x, &sum, sizeof sum);
    }
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
