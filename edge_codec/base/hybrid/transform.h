/* Integer transforms of blocks of residuals. The inverse is NORMATIVE.
 *
 * COSINE_n[k][i] = 64 for k = 0, else round(64 sqrt(2) cos((2 i + 1) k pi / (2 n))): a DCT, type II, of
 * n = 4, 8, 16 or 32, whose rows have norm 64 sqrt(n). SINE_n, of n = 4, 8 or 16, is a DST, type VII,
 * with the numbers of ITU-T H.265, 8.6.4.2, and H.266, 8.7.4.5: rows of nearly the same norm, rounded so
 * that they are nearly orthogonal. With M either of them and C[k][l] the coefficients, row frequency
 * first:
 *   B[y][l] = (sum over k of M[k][y] C[k][l] + 32) >> 6
 *   residual[y][x] = clip16((sum over l of M[l][x] B[y][l] + 2^(8 + log2 n)) >> (9 + log2 n))
 * Both sums are taken modulo 2^32 and read as two's complement; >> rounds down; clip16 clips to -32768
 * .. 32767. No encoder makes a sum that leaves 32 bits. The reconstruction is clip(prediction +
 * residual) to 0..4095.
 */
#ifndef EDGE_CODEC_HYBRID_TRANSFORM_H
#define EDGE_CODEC_HYBRID_TRANSFORM_H

#include "pixels.h"

#define MAX_TRANSFORM 32
#define LANES 8

typedef int32_t lanes __attribute__((vector_size(4 * LANES)));
typedef int64_t wide_lanes __attribute__((vector_size(4 * LANES)));
typedef int32_t row_of_4 __attribute__((vector_size(16)));

/* round(64 sqrt(2) cos(j pi / 64)) */
static const int8_t COSINES[33] = {91, 90, 90, 90, 89, 88, 87, 85, 84, 82, 80, 78, 75, 73, 70, 67, 64,
                                   61, 57, 54, 50, 47, 43, 39, 35, 30, 26, 22, 18, 13, 9,  4,  0};
/* About 64 sqrt(n) sqrt(4 / (2 n + 1)) sin(j pi / (2 n + 1)) for j = 1 to n, of n = 4, 8, 16. */
static const int8_t SINES[3][16] = {
    {29, 55, 74, 84},
    {17, 32, 46, 60, 71, 78, 85, 86},
    {8, 17, 25, 33, 40, 48, 55, 62, 68, 73, 77, 81, 85, 87, 88, 88}};

/* Row k, column i; and the other way around: by log2 of the size, COSINE from 4 on, then SINE. */
static int32_t MATRIX[7][MAX_TRANSFORM * MAX_TRANSFORM];
static int32_t TURNED[7][MAX_TRANSFORM * MAX_TRANSFORM];

HYBRID_INLINE int transform_place(int log_size, int sine) { return log_size - 2 + 4 * sine; }

static int cosine_of(int angle) {
    angle &= 127; /* in pi / 64 */
    if (angle > 64) angle = 128 - angle;
    return angle > 32 ? -COSINES[64 - angle] : COSINES[angle];
}

static int sine_of(int angle, int log_size) {
    const int n = 1 << log_size, half = 2 * n + 1; /* in pi / half */
    angle %= 2 * half;
    const int turned = angle > half, rest = turned ? angle - half : angle;
    const int v = rest % half ? SINES[log_size - 2][(rest > n ? half - rest : rest) - 1] : 0;
    return turned ? -v : v;
}

static void fill_matrix(int log_size, int sine) {
    const int n = 1 << log_size, place = transform_place(log_size, sine);
    for (int k = 0; k < n; k++)
        for (int i = 0; i < n; i++) {
            const int v = sine ? sine_of((2 * k + 1) * (i + 1), log_size)
                          : k  ? cosine_of((2 * i + 1) * k * (32 / n))
                               : 64;
            MATRIX[place][k * n + i] = v;
            TURNED[place][i * n + k] = v;
        }
}

/* To be called once, before anything else. */
HYBRID_HELPER void init_transforms(void) {
    for (int log_size = 2; log_size <= 5; log_size++) fill_matrix(log_size, 0);
    for (int log_size = 2; log_size <= 4; log_size++) fill_matrix(log_size, 1);
}

HYBRID_INLINE int clip_16(int32_t v) { return v < -32768 ? -32768 : v > 32767 ? 32767 : v; }

HYBRID_INLINE lanes load_lanes(const int32_t *from) {
    lanes v;
    memcpy(&v, from, sizeof v);
    return v;
}

HYBRID_INLINE void store_lanes(int32_t *to, lanes v) { memcpy(to, &v, sizeof v); }

/* out[y][x] = (sum over k < depth of turned[y][k] in[k][x] + half) >> shift, for `columns` columns,
 * rounded up to lanes; rows of all are n wide. Four rows at a time hide the products' latency. */
HYBRID_INLINE void multiply_left(const int32_t *turned, const int32_t *in, const int n, int depth,
                                 int columns, int shift, int32_t *out) {
    const lanes half = (lanes){0} + (1 << (shift - 1));
    for (int x = 0; x < columns; x += LANES)
        for (int y = 0; y < n; y += 4) {
            lanes sum[4] = {half, half, half, half};
            const int32_t *m = turned + y * n;
            for (int k = 0; k < depth; k++) {
                const lanes v = load_lanes(in + k * n + x);
                for (int i = 0; i < 4; i++) sum[i] += m[i * n + k] * v;
            }
            for (int i = 0; i < 4; i++) store_lanes(out + (y + i) * n + x, sum[i] >> shift);
        }
}

/* out[y][x] = (sum over k < depth of in[y][k] matrix[k][x] + half) >> shift, two rows at a time. */
HYBRID_INLINE void multiply_right(const int32_t *in, const int32_t *matrix, const int n, int depth,
                                  int shift, int32_t *out) {
    const lanes half = (lanes){0} + (1 << (shift - 1));
    for (int y = 0; y < n; y += 2) {
        lanes sum[2][MAX_TRANSFORM / LANES];
        for (int v = 0; v < n / LANES; v++) sum[0][v] = sum[1][v] = half;
        for (int k = 0; k < depth; k++)
            for (int v = 0; v < n / LANES; v++) {
                const lanes m = load_lanes(matrix + k * n + v * LANES);
                sum[0][v] += in[y * n + k] * m;
                sum[1][v] += in[y * n + n + k] * m;
            }
        for (int v = 0; v < n / LANES; v++) {
            store_lanes(out + y * n + v * LANES, sum[0][v] >> shift);
            store_lanes(out + y * n + n + v * LANES, sum[1][v] >> shift);
        }
    }
}

/* The same as multiply_left by COSINE: its rows are even and odd in turn, so that half the products do
 * for sums and differences of what is opposite. */
HYBRID_INLINE void fold_left(const int32_t *matrix, const int32_t *in, const int n, int shift,
                             int32_t *out) {
    const lanes half = (lanes){0} + (1 << (shift - 1));
    for (int x = 0; x < n; x += LANES) {
        lanes sums[MAX_TRANSFORM / 2], differences[MAX_TRANSFORM / 2];
        for (int k = 0; k < n / 2; k++) {
            const lanes a = load_lanes(in + k * n + x), b = load_lanes(in + (n - 1 - k) * n + x);
            sums[k] = a + b;
            differences[k] = a - b;
        }
        for (int y = 0; y < n; y += 4) {
            lanes sum[4] = {half, half, half, half};
            const int32_t *const m = matrix + y * n;
            for (int k = 0; k < n / 2; k++)
                for (int i = 0; i < 4; i++)
                    sum[i] += m[i * n + k] * (i & 1 ? differences[k] : sums[k]);
            for (int i = 0; i < 4; i++) store_lanes(out + (y + i) * n + x, sum[i] >> shift);
        }
    }
}

/* The same as multiply_right by COSINE, turned. */
HYBRID_INLINE void fold_right(const int32_t *in, const int32_t *turned, const int n, int shift,
                              int32_t *out) {
    const lanes half = (lanes){0} + (1 << (shift - 1));
    for (int y = 0; y < n; y += 2) {
        lanes sum[2][MAX_TRANSFORM / LANES];
        for (int v = 0; v < n / LANES; v++) sum[0][v] = sum[1][v] = half;
        for (int k = 0; k < n / 2; k++)
            for (int i = 0; i < 2; i++) {
                const int32_t a = in[(y + i) * n + k], b = in[(y + i) * n + n - 1 - k];
                const int64_t pair = (int64_t)((uint64_t)(uint32_t)(a - b) << 32 | (uint32_t)(a + b));
                const lanes both = (lanes)((wide_lanes){0} + pair); /* the lower half comes first */
                for (int v = 0; v < n / LANES; v++)
                    sum[i][v] += both * load_lanes(turned + k * n + v * LANES);
            }
        for (int i = 0; i < 2; i++)
            for (int v = 0; v < n / LANES; v++)
                store_lanes(out + (y + i) * n + v * LANES, sum[i][v] >> shift);
    }
}

/* How many rows and columns, from the first, hold all that is not 0. */
HYBRID_INLINE void find_extent(const int32_t *coefficients, const int n, int *rows, int *columns) {
    lanes any[MAX_TRANSFORM / LANES] = {{0}};
    *rows = *columns = 0;
    for (int y = 0; y < n; y++) {
        lanes row = {0};
        for (int v = 0; v < n / LANES; v++) {
            const lanes c = load_lanes(coefficients + y * n + v * LANES);
            any[v] |= c;
            row |= c;
        }
        int64_t parts[LANES / 2];
        memcpy(parts, &row, sizeof parts);
        if (parts[0] | parts[1] | parts[2] | parts[3]) *rows = y + 1;
    }
    for (int v = 0; v < n / LANES; v++)
        for (int i = 0; i < LANES; i++)
            if (any[v][i]) *columns = v * LANES + i + 1;
}

HYBRID_INLINE void inverse_size(const int32_t *coefficients, const int log_size, int sine,
                                int16_t *residual) {
    const int n = 1 << log_size, place = transform_place(log_size, sine);
    int32_t between[MAX_TRANSFORM * MAX_TRANSFORM], out[MAX_TRANSFORM * MAX_TRANSFORM];
    int rows, columns;
    find_extent(coefficients, n, &rows, &columns);
    multiply_left(TURNED[place], coefficients, n, rows, columns, 6, between);
    multiply_right(between, MATRIX[place], n, columns, 9 + log_size, out);
    for (int i = 0; i < n * n; i++) residual[i] = (int16_t)clip_16(out[i]);
}

HYBRID_INLINE void forward_size(const int16_t *residual, const int log_size, int sine,
                                int32_t *coefficients) {
    const int n = 1 << log_size, place = transform_place(log_size, sine);
    int32_t in[MAX_TRANSFORM * MAX_TRANSFORM], between[MAX_TRANSFORM * MAX_TRANSFORM];
    for (int i = 0; i < n * n; i++) in[i] = residual[i];
    if (sine) {
        multiply_left(MATRIX[place], in, n, n, n, 4, between);
        multiply_right(between, TURNED[place], n, n, 5 + log_size, coefficients);
        return;
    }
    fold_left(MATRIX[place], in, n, 4, between);
    fold_right(between, TURNED[place], n, 5 + log_size, coefficients);
}

/* out = left * in * right, each sum rounded, of 4 x 4. */
HYBRID_INLINE void multiply_4(const int32_t *left, const int32_t *in, const int32_t *right,
                              int first, int second, int32_t *out) {
    row_of_4 rows[4], columns[4];
    memcpy(rows, in, sizeof rows);
    memcpy(columns, right, sizeof columns);
    for (int y = 0; y < 4; y++) {
        row_of_4 between = (row_of_4){0} + (1 << (first - 1)), sum = {0};
        for (int k = 0; k < 4; k++) between += left[4 * y + k] * rows[k];
        between >>= first;
        for (int k = 0; k < 4; k++) sum += between[k] * columns[k];
        sum = (sum + (1 << (second - 1))) >> second;
        memcpy(out + 4 * y, &sum, sizeof sum);
    }
}

/* Residual of n x n from coefficients in 1/8, both in rows of n; `sine` with n = 4, 8 or 16 only. */
HYBRID_HELPER void inverse_transform(const int32_t *coefficients, int log_size, int sine,
                                     int16_t *residual) {
    const int place = transform_place(2, sine);
    int32_t out[16];
    switch (log_size) {
    case 2:
        multiply_4(TURNED[place], coefficients, MATRIX[place], 6, 11, out);
        for (int i = 0; i < 16; i++) residual[i] = (int16_t)clip_16(out[i]);
        break;
    case 3: inverse_size(coefficients, 3, sine, residual); break;
    case 4: inverse_size(coefficients, 4, sine, residual); break;
    default: inverse_size(coefficients, 5, 0, residual);
    }
}

/* Coefficients in 1/8 of those of an orthonormal transform. Not normative. */
HYBRID_HELPER void forward_transform(const int16_t *residual, int log_size, int sine,
                                     int32_t *coefficients) {
    const int place = transform_place(2, sine);
    int32_t in[16];
    switch (log_size) {
    case 2:
        for (int i = 0; i < 16; i++) in[i] = residual[i];
        multiply_4(MATRIX[place], in, TURNED[place], 4, 7, coefficients);
        break;
    case 3: forward_size(residual, 3, sine, coefficients); break;
    case 4: forward_size(residual, 4, sine, coefficients); break;
    default: forward_size(residual, 5, 0, coefficients);
    }
}

#endif
