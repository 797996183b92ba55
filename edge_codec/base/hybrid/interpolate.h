/* Motion compensation by quarters of a pixel. NORMATIVE.
 *
 * A motion vector (mv_x, mv_y) in quarters of a pixel moves a block at (x, y) to (x + mv_x / 4,
 * y + mv_y / 4) in a reference. Pixels beyond the reference's edges are those of the nearest edge:
 * R(i, j) is the pixel at the row and column clamped to the frame. With
 *   i = x + (mv_x >> 2), f = mv_x & 3, and j, g of mv_y alike, for a pixel of the block at (i, j):
 *   f = g = 0:  P = 4 R(i, j)
 *   g = 0:      P = (sum over k = 0..7 of TAPS[f][k] R(i + k - 3, j) + 8) >> 4
 *   f = 0:      P = (sum over k = 0..7 of TAPS[g][k] R(i, j + k - 3) + 8) >> 4
 *   otherwise:  H(r) = (sum over k of TAPS[f][k] R(i + k - 3, r) + 8) >> 4,
 *               P = (sum over k of TAPS[g][k] H(j + k - 3) + 32) >> 6
 * in exact integers (>> rounds down; -16890 <= P <= 33271). The prediction is
 *   from one reference:   clip((P + 2) >> 2)
 *   from two, P and Q:    clip((P + Q + 4) >> 3)
 * with clip to 0..4095. The taps are those of H.265's luma filter (ITU-T H.265, 8.5.3.3.3).
 *
 * What is stored in between is P - 8192, which fits in 16 bits.
 */
#ifndef EDGE_CODEC_HYBRID_INTERPOLATE_H
#define EDGE_CODEC_HYBRID_INTERPOLATE_H

#include "pixels.h"

#define MAX_BLOCK 64
#ifndef BORDER
#define BORDER 80 /* of replicated pixels around a reference: a block, and the filter's reach */
#endif
#define FILTER_TAPS 8
#define MIDDLE 8192 /* taken from P to store it */

/* Pixel (0, 0) of a frame that is extended by BORDER pixels on all sides. */
typedef struct {
    const int16_t *pixels;
    ptrdiff_t stride;
    int columns, rows;
} plane;

static const int16_t TAPS[4][FILTER_TAPS] = {{0, 0, 0, 64, 0, 0, 0, 0},
                                             {-1, 4, -10, 58, 17, -5, 1, 0},
                                             {-1, 4, -11, 40, 40, -11, 4, -1},
                                             {0, 1, -5, 17, 58, -10, 4, -1}};

/* A block that lies farther out sees the same replicated pixels. */
HYBRID_INLINE int clamp_position(int position, int size, int length) {
    const int low = 4 - BORDER, high = length + BORDER - 5 - size;
    return position < low ? low : position > high ? high : position;
}

#ifdef __AVX2__
/* Taps 2k and 2k + 1 side by side. */
HYBRID_INLINE void load_taps(const int16_t *taps, __m256i *pairs) {
    for (int k = 0; k < 4; k++) {
        int32_t pair;
        memcpy(&pair, taps + 2 * k, sizeof pair);
        pairs[k] = _mm256_set1_epi32(pair);
    }
}

/* Filters 16 neighbors, or the first 8, with pixels `step` apart. */
HYBRID_INLINE __m256i filter_vector(const int16_t *p, ptrdiff_t step, const __m256i *taps,
                                    int narrow, int shift, int less) {
    __m256i low = _mm256_set1_epi32(1 << (shift - 1)), high = low;
    p -= 3 * step;
    for (int k = 0; k < 4; k++) {
        const int16_t *q = p + 2 * k * step;
        const __m256i a = narrow ? load_8(q) : load_16(q);
        const __m256i b = narrow ? load_8(q + step) : load_16(q + step);
        low = _mm256_add_epi32(low, _mm256_madd_epi16(_mm256_unpacklo_epi16(a, b), taps[k]));
        high = _mm256_add_epi32(high, _mm256_madd_epi16(_mm256_unpackhi_epi16(a, b), taps[k]));
    }
    const __m256i offset = _mm256_set1_epi32(less);
    low = _mm256_sub_epi32(_mm256_srai_epi32(low, shift), offset);
    high = _mm256_sub_epi32(_mm256_srai_epi32(high, shift), offset);
    return _mm256_packs_epi32(low, high);
}
#endif

/* out = (sum of taps times pixels `step` apart, + half) >> shift, - less. */
HYBRID_INLINE void filter_rows(const int16_t *p, ptrdiff_t stride, ptrdiff_t step,
                               const int16_t *taps, const int columns, int rows, const int shift,
                               const int less, int16_t *out) {
#ifdef __AVX2__
    __m256i pairs[4];
    load_taps(taps, pairs);
    for (int y = 0; y < rows; y++, p += stride, out += columns) {
        if (columns == 8) {
            const __m256i v = filter_vector(p, step, pairs, 1, shift, less);
            _mm_storeu_si128((__m128i *)out, _mm256_castsi256_si128(v));
            continue;
        }
        for (int x = 0; x < columns; x += 16)
            _mm256_storeu_si256((__m256i *)(out + x),
                                filter_vector(p + x, step, pairs, 0, shift, less));
    }
#else
    for (int y = 0; y < rows; y++, p += stride, out += columns)
        for (int x = 0; x < columns; x++) {
            int sum = 1 << (shift - 1);
            for (int k = 0; k < FILTER_TAPS; k++) sum += taps[k] * p[x + (k - 3) * step];
            out[x] = (int16_t)((sum >> shift) - less);
        }
#endif
}

HYBRID_INLINE void compensate_size(const int16_t *p, ptrdiff_t stride, const int size, int f, int g,
                                   int16_t *out) {
    int16_t between[(MAX_BLOCK + FILTER_TAPS - 1) * MAX_BLOCK];
    if (!f && !g) {
        for (int y = 0; y < size; y++)
            for (int x = 0; x < size; x++)
                out[y * size + x] = (int16_t)(4 * p[y * stride + x] - MIDDLE);
    } else if (!g) {
        filter_rows(p, stride, 1, TAPS[f], size, size, 4, MIDDLE, out);
    } else if (!f) {
        filter_rows(p, stride, stride, TAPS[g], size, size, 4, MIDDLE, out);
    } else {
        filter_rows(p - 3 * stride, stride, 1, TAPS[f], size, size + FILTER_TAPS - 1, 4, 0,
                    between);
        filter_rows(between + 3 * size, size, size, TAPS[g], size, size, 6, MIDDLE, out);
    }
}

HYBRID_INLINE const int16_t *moved(const plane *from, int x, int y, int size, int mv_x, int mv_y) {
    x = clamp_position(x + (mv_x >> 2), size, from->columns);
    y = clamp_position(y + (mv_y >> 2), size, from->rows);
    return from->pixels + y * from->stride + x;
}

/* P - 8192 of a block of 8, 16, 32 or 64, in rows of `size`. */
HYBRID_HELPER void compensate(const plane *from, int x, int y, int size, int mv_x, int mv_y,
                              int16_t *out) {
    const int16_t *p = moved(from, x, y, size, mv_x, mv_y);
    const int f = mv_x & 3, g = mv_y & 3;
    switch (size) {
    case 8: compensate_size(p, from->stride, 8, f, g, out); break;
    case 16: compensate_size(p, from->stride, 16, f, g, out); break;
    case 32: compensate_size(p, from->stride, 32, f, g, out); break;
    default: compensate_size(p, from->stride, 64, f, g, out);
    }
}

/* The prediction from one P - 8192. */
HYBRID_HELPER void round_one(const int16_t *p, int size, int16_t *out) {
    for (int i = 0; i < size * size; i++) {
        const int16_t v = (int16_t)(((p[i] + 2) >> 2) + MIDDLE / 4);
        out[i] = (int16_t)clip_pixel(v);
    }
}

/* The prediction from two. */
HYBRID_HELPER void round_two(const int16_t *p, const int16_t *q, int size, int16_t *out) {
#ifdef __AVX2__ /* sums beyond 16 bits are clipped to the same pixels */
    const __m256i top = _mm256_set1_epi16(PIXEL_TOP), zero = _mm256_setzero_si256();
    for (int i = 0; i < size * size; i += 16) {
        const __m256i sum = _mm256_adds_epi16(load_16(p + i), load_16(q + i));
        const __m256i half = _mm256_adds_epi16(sum, _mm256_set1_epi16(4));
        const __m256i v =
            _mm256_add_epi16(_mm256_srai_epi16(half, 3), _mm256_set1_epi16(MIDDLE / 4));
        _mm256_storeu_si256((__m256i *)(out + i),
                            _mm256_max_epi16(_mm256_min_epi16(v, top), zero));
    }
#else
    for (int i = 0; i < size * size; i++)
        out[i] = (int16_t)clip_pixel((p[i] + q[i] + 2 * MIDDLE + 4) >> 3);
#endif
}

/* The prediction of a block from one reference, in rows of `size`. */
HYBRID_HELPER void predict_one(const plane *from, int x, int y, int size, int mv_x, int mv_y,
                               int16_t *out) {
    if (!((mv_x | mv_y) & 3)) {
        const int16_t *p = moved(from, x, y, size, mv_x, mv_y);
        copy_block(out, size, p, from->stride, size);
        return;
    }
    compensate(from, x, y, size, mv_x, mv_y, out);
    round_one(out, size, out);
}

/* The prediction of a block from two references. */
HYBRID_HELPER void predict_two(const plane *a, int a_x, int a_y, const plane *b, int b_x, int b_y,
                               int x, int y, int size, int16_t *out) {
    int16_t other[MAX_BLOCK * MAX_BLOCK];
    compensate(a, x, y, size, a_x, a_y, out);
    compensate(b, x, y, size, b_x, b_y, other);
    round_two(out, other, size, out);
}

#endif
