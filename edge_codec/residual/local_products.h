/* Sums of products of the features of a row of blocks: integers, exact in any order.
 *
 * put_feature writes a row of a feature, the tap less the first tap, between limits, into the place
 * from which sum_products takes it: out[pair][block] becomes the sum over the block of the products
 * of two features.
 */
#ifndef EDGE_CODEC_LOCAL_PRODUCTS_H
#define EDGE_CODEC_LOCAL_PRODUCTS_H

#include "local_frame.h"
#include "vectors.h"

#define COARSE_LIMIT 723 /* 64 squares, weighted by 15 down and 3 across, fit 32 bits */

#ifdef __AVX2__
/* A vector has the same two columns of blocks side by side, so that no sum goes across it. A feature
 * is [group of blocks][row][two columns][block]. */
#if WIDE == 8
#define ABREAST 16
#define TILE 4 /* features whose products with four others are in registers */
#else
#define ABREAST 8
#define TILE 2
#endif
typedef int32_t pairs __attribute__((vector_size(4 * ABREAST)));
typedef int16_t halves __attribute__((vector_size(4 * ABREAST)));

RANS_INLINE pairs add_products(pairs sum, pairs a, pairs b) {
#if WIDE == 8
    return (pairs)_mm512_dpwssd_epi32((__m512i)sum, (__m512i)a, (__m512i)b);
#else
    return sum + (pairs)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#endif
}

/* Voxels of a feature; 0 from the `n`-th on. */
RANS_INLINE pairs difference(const int16_t *x, const int16_t *reference, size_t n) {
    static const int16_t NUMBERS[32] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10,
                                        11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
                                        22, 23, 24, 25, 26, 27, 28, 29, 30, 31};
    halves a, b, numbers;
    memcpy(&a, x, sizeof a);
    memcpy(&b, reference, sizeof b);
#if WIDE == 8
    const __m512i most = _mm512_set1_epi16(COARSE_LIMIT), least = _mm512_set1_epi16(-COARSE_LIMIT);
    a = (halves)_mm512_max_epi16(_mm512_min_epi16((__m512i)(a - b), most), least);
#else
    const __m256i most = _mm256_set1_epi16(COARSE_LIMIT), least = _mm256_set1_epi16(-COARSE_LIMIT);
    a = (halves)_mm256_max_epi16(_mm256_min_epi16((__m256i)(a - b), most), least);
#endif
    if (RANS_LIKELY(n >= 2 * ABREAST)) return (pairs)a;
    memcpy(&numbers, NUMBERS, sizeof numbers);
    return (pairs)(a & (halves)(numbers < (int16_t)n));
}

/* Every second number of two vectors. */
RANS_INLINE pairs unzip(pairs a, pairs b, const int odd) {
#if WIDE == 8
    const pairs even = {0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30};
#else
    const pairs even = {0, 2, 4, 6, 8, 10, 12, 14};
#endif
    return __builtin_shuffle(a, b, even + odd);
}

/* Sorts vectors of neighboring columns by their place in a block. */
RANS_INLINE void sort_columns(pairs *v, const int log_side) {
    const pairs even = unzip(v[0], v[1], 0), odd = unzip(v[0], v[1], 1);
    v[0] = even;
    v[1] = odd;
    if (log_side == 2) return;
    const pairs next_even = unzip(v[2], v[3], 0), next_odd = unzip(v[2], v[3], 1);
    v[0] = unzip(even, next_even, 0);
    v[1] = unzip(odd, next_odd, 0);
    v[2] = unzip(even, next_even, 1);
    v[3] = unzip(odd, next_odd, 1);
}

static size_t feature_size(size_t columns, int log_side, size_t rows) {
    const size_t group = (size_t)ABREAST << log_side;
    return (columns + group - 1) / group * group * rows;
}

RANS_INLINE void put_lanes(int16_t *to, size_t group_size, const int16_t *x,
                           const int16_t *reference, size_t columns, const int log_side) {
    const size_t vectors = (size_t)1 << (log_side - 1);
    for (size_t first = 0; first < columns; first += ABREAST << log_side, to += group_size) {
        pairs v[4] = {{0}};
        for (size_t i = 0; i < vectors; i++) {
            const size_t place = first + 2 * ABREAST * i;
            if (place < columns) v[i] = difference(x + place, reference + place, columns - place);
        }
        sort_columns(v, log_side);
        memcpy(to, v, vectors * sizeof *v);
    }
}

static void put_feature(int16_t *feature, int i, size_t r, size_t rows, const int16_t *x,
                        const int16_t *reference, size_t columns, int log_side) {
    const size_t row_size = (size_t)ABREAST << log_side;
    int16_t *const to = feature + (size_t)i * feature_size(columns, log_side, rows) + r * row_size;
    if (log_side == 3) put_lanes(to, rows * row_size, x, reference, columns, 3);
    else put_lanes(to, rows * row_size, x, reference, columns, 2);
}

typedef struct {
    const int16_t *feature;
    size_t size, depth; /* of a feature, in numbers; of a block, in vectors */
    int32_t *out;
    size_t stride;
    pairs inside; /* which blocks are written: all bits are set */
} product_call;

RANS_INLINE void store_blocks(int32_t *to, pairs v, pairs inside) {
#if WIDE == 8
    _mm512_mask_storeu_epi32(to, _mm512_movepi32_mask((__m512i)inside), (__m512i)v);
#else
    _mm256_maskstore_epi32(to, (__m256i)inside, (__m256i)v);
#endif
}

/* Products of `count` features from i on with TILE ones from j on, of which j <= i are written. */
RANS_INLINE void sum_tile(const product_call *p, int i, const int count, int j, const int edge) {
    pairs sum[4][TILE], a[4], b[TILE];
    const int16_t *x = p->feature + (size_t)i * p->size, *y = p->feature + (size_t)j * p->size;
#pragma GCC unroll 4
    for (int c = 0; c < count; c++)
#pragma GCC unroll 4
        for (int d = 0; d < TILE; d++) sum[c][d] = (pairs){0};
    for (size_t k = 0; k < p->depth; k++, x += 2 * ABREAST, y += 2 * ABREAST) {
#pragma GCC unroll 4
        for (int c = 0; c < count; c++) memcpy(a + c, x + (size_t)c * p->size, sizeof *a);
#pragma GCC unroll 4
        for (int d = 0; d < TILE; d++) memcpy(b + d, y + (size_t)d * p->size, sizeof *b);
#pragma GCC unroll 4
        for (int c = 0; c < count; c++)
#pragma GCC unroll 4
            for (int d = 0; d < TILE; d++) sum[c][d] = add_products(sum[c][d], a[c], b[d]);
    }
#pragma GCC unroll 4
    for (int c = 0; c < count; c++) {
        int32_t *const to = p->out + pair_of(i + c, j) * p->stride;
#pragma GCC unroll 4
        for (int d = 0; d < TILE; d++)
            if (!edge || j + d <= i + c)
                store_blocks(to + (size_t)d * p->stride, sum[c][d], p->inside);
    }
}

/* Products of `count` features from i on with all before them. */
RANS_INLINE void sum_features_of(const product_call *p, int i, const int count) {
    int j = 0;
    for (; j + TILE <= i + 1; j += TILE) sum_tile(p, i, count, j, 0);
    for (; j < i + count; j += TILE) sum_tile(p, i, count, j, 1);
}

static void sum_products(const int16_t *feature, size_t columns, int log_side, size_t rows, int n,
                         int32_t *out, size_t out_stride) {
    const size_t blocks = ((columns - 1) >> log_side) + 1, depth = rows << (log_side - 1);
    product_call p = {feature, feature_size(columns, log_side, rows), depth, out, out_stride, {0}};
    for (size_t first = 0; first < blocks; first += ABREAST) {
        pairs inside = {0};
        for (size_t k = 0; k < ABREAST; k++) inside[k] = first + k < blocks ? -1 : 0;
        p.inside = inside;
        int i = 0;
        for (; i + 4 <= n; i += 4) sum_features_of(&p, i, 4);
        switch (n - i) {
        case 1: sum_features_of(&p, i, 1); break;
        case 2: sum_features_of(&p, i, 2); break;
        case 3: sum_features_of(&p, i, 3); break;
        }
        p.feature += 2 * ABREAST * depth;
        p.out += ABREAST;
    }
}
#else
static void put_feature(int16_t *feature, int i, size_t r, size_t rows, const int16_t *x,
                        const int16_t *reference, size_t columns, int log_side) {
    const size_t side = (size_t)1 << log_side, stride = (columns + side - 1) / side * side;
    int16_t *const to = feature + ((size_t)i * rows + r) * stride;
    memset(to, 0, stride * sizeof *to);
    for (size_t k = 0; k < columns; k++) {
        int16_t d = (int16_t)(x[k] - reference[k]);
        d = d < -COARSE_LIMIT ? -COARSE_LIMIT : d;
        to[k] = d > COARSE_LIMIT ? COARSE_LIMIT : d;
    }
}

RANS_INLINE void sum_squares(const int16_t *feature, size_t columns, const size_t side, size_t rows,
                             int n, int32_t *out, size_t out_stride) {
    const size_t stride = (columns + side - 1) / side * side;
    for (int i = 0; i < n; i++) {
        for (int j = 0; j <= i; j++, out += out_stride) {
            const int16_t *a = feature + (size_t)i * rows * stride;
            const int16_t *b = feature + (size_t)j * rows * stride;
            for (size_t x = 0; x < stride; x += side, a += side, b += side) {
                int32_t sum = 0;
                for (size_t r = 0; r < rows; r++)
                    for (size_t c = 0; c < side; c++)
                        sum += (int32_t)a[r * stride + c] * (int32_t)b[r * stride + c];
                out[x / side] = sum;
            }
        }
    }
}

static void sum_products(const int16_t *feature, size_t columns, int log_side, size_t rows, int n,
                         int32_t *out, size_t out_stride) {
    if (log_side == 3) sum_squares(feature, columns, 8, rows, n, out, out_stride);
    else sum_squares(feature, columns, 4, rows, n, out, out_stride);
}
#endif

#endif
