/* Differences of blocks of pixels, by which the encoder compares predictions.
 *
 * Pixels are int16_t from 0 to 4095 in rows `stride` apart; blocks are squares of 4, 8, 16, 32 or 64.
 * None of this is normative. Every variant of the module gives the same integers.
 */
#ifndef EDGE_CODEC_HYBRID_PIXELS_H
#define EDGE_CODEC_HYBRID_PIXELS_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef __AVX2__
#include <immintrin.h>
#elif defined(__SSE2__)
#include <emmintrin.h>
#endif

#ifndef HYBRID_INLINE
#define HYBRID_INLINE static inline __attribute__((always_inline, unused))
#define HYBRID_HELPER static __attribute__((unused))
#endif

#define PIXEL_BITS 12
#define PIXEL_TOP ((1 << PIXEL_BITS) - 1)

HYBRID_INLINE int clip_pixel(int v) { return v < 0 ? 0 : v > PIXEL_TOP ? PIXEL_TOP : v; }

#ifdef __AVX2__
HYBRID_INLINE __m256i load_16(const int16_t *from) {
    return _mm256_loadu_si256((const __m256i *)from);
}

/* Eight numbers, and zeros above. */
HYBRID_INLINE __m256i load_8(const int16_t *from) {
    return _mm256_zextsi128_si256(_mm_loadu_si128((const __m128i *)from));
}

HYBRID_INLINE __m256i difference_16(const int16_t *a, const int16_t *b) {
    return _mm256_sub_epi16(load_16(a), load_16(b));
}

HYBRID_INLINE __m256i difference_8(const int16_t *a, const int16_t *b) {
    return _mm256_sub_epi16(load_8(a), load_8(b));
}

HYBRID_INLINE int64_t sum_ints(__m256i v) {
    const __m256i low = _mm256_and_si256(v, _mm256_set1_epi64x(0xFFFFFFFF));
    const __m256i both = _mm256_add_epi64(low, _mm256_srli_epi64(v, 32));
    const __m128i half =
        _mm_add_epi64(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1));
    return _mm_cvtsi128_si64(_mm_add_epi64(half, _mm_unpackhi_epi64(half, half)));
}
#endif

/* Sum of absolute differences. */
HYBRID_HELPER int absolute_difference(const int16_t *a, ptrdiff_t a_stride, const int16_t *b,
                                      ptrdiff_t b_stride, int size) {
#ifdef __AVX2__
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i sum = _mm256_setzero_si256();
    if (size >= 8) {
        for (int y = 0; y < size; y++, a += a_stride, b += b_stride) {
            if (size == 8) {
                const __m256i d = _mm256_abs_epi16(difference_8(a, b));
                sum = _mm256_add_epi32(sum, _mm256_madd_epi16(d, ones));
                continue;
            }
            for (int x = 0; x < size; x += 16) {
                const __m256i d = _mm256_abs_epi16(difference_16(a + x, b + x));
                sum = _mm256_add_epi32(sum, _mm256_madd_epi16(d, ones));
            }
        }
        return (int)sum_ints(sum);
    }
#endif
    int total = 0;
    for (int y = 0; y < size; y++, a += a_stride, b += b_stride)
        for (int x = 0; x < size; x++) total += abs(a[x] - b[x]);
    return total;
}

/* Sum of squared differences. */
HYBRID_HELPER int64_t squared_difference(const int16_t *a, ptrdiff_t a_stride, const int16_t *b,
                                         ptrdiff_t b_stride, int size) {
    int64_t total = 0;
#ifdef __AVX2__
    if (size >= 8) {
        for (int top = 0; top < size; top += 16) { /* 64 sums of two squares fit in 32 bits */
            __m256i sum = _mm256_setzero_si256();
            for (int y = 0; y < 16 && top + y < size; y++, a += a_stride, b += b_stride) {
                if (size == 8) {
                    const __m256i d = difference_8(a, b);
                    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(d, d));
                    continue;
                }
                for (int x = 0; x < size; x += 16) {
                    const __m256i d = difference_16(a + x, b + x);
                    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(d, d));
                }
            }
            total += sum_ints(sum);
        }
        return total;
    }
#endif
    for (int y = 0; y < size; y++, a += a_stride, b += b_stride) {
        uint32_t row = 0; /* of up to 64 squares */
        for (int x = 0; x < size; x++) row += (uint32_t)((a[x] - b[x]) * (a[x] - b[x]));
        total += row;
    }
    return total;
}

/* The sum of the absolute values of Hadamard's transform of 8 x 8 differences, in the scale of a sum
 * of absolute differences. The columns are transformed first; 2 bits are dropped before the rows, and
 * the last step is |a + b| + |a - b| = 2 max(|a|, |b|), so that all of it fits in 16 bits. */
#ifdef __AVX2__
HYBRID_INLINE void butterfly(__m256i *a, __m256i *b) {
    const __m256i sum = _mm256_add_epi16(*a, *b);
    *b = _mm256_sub_epi16(*a, *b);
    *a = sum;
}

/* Each half of the vectors is an 8 x 8 matrix. */
HYBRID_INLINE void transpose_8(__m256i *r) {
    __m256i a[8], b[8];
    for (int i = 0; i < 4; i++) {
        a[2 * i] = _mm256_unpacklo_epi16(r[2 * i], r[2 * i + 1]);
        a[2 * i + 1] = _mm256_unpackhi_epi16(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < 2; k++) {
            b[4 * i + 2 * k] = _mm256_unpacklo_epi32(a[4 * i + k], a[4 * i + 2 + k]);
            b[4 * i + 2 * k + 1] = _mm256_unpackhi_epi32(a[4 * i + k], a[4 * i + 2 + k]);
        }
    for (int k = 0; k < 4; k++) {
        r[2 * k] = _mm256_unpacklo_epi64(b[k], b[4 + k]);
        r[2 * k + 1] = _mm256_unpackhi_epi64(b[k], b[4 + k]);
    }
}

HYBRID_INLINE __m256i hadamard_8(__m256i *r) {
    for (int h = 1; h < 8; h <<= 1)
        for (int i = 0; i < 8; i++)
            if (!(i & h)) butterfly(&r[i], &r[i + h]);
    transpose_8(r);
    for (int i = 0; i < 8; i++) r[i] = _mm256_srai_epi16(r[i], 2);
    for (int h = 1; h < 4; h <<= 1)
        for (int i = 0; i < 8; i++)
            if (!(i & h)) butterfly(&r[i], &r[i + h]);
    __m256i sum = _mm256_setzero_si256();
    for (int i = 0; i < 4; i++) {
        const __m256i most = _mm256_max_epi16(_mm256_abs_epi16(r[i]), _mm256_abs_epi16(r[i + 4]));
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(most, _mm256_set1_epi16(1)));
    }
    return sum;
}
#else
HYBRID_HELPER int hadamard_8(const int16_t *a, ptrdiff_t a_stride, const int16_t *b,
                             ptrdiff_t b_stride) {
    int32_t m[64], total = 0;
    for (int y = 0; y < 8; y++)
        for (int x = 0; x < 8; x++) m[8 * y + x] = a[y * a_stride + x] - b[y * b_stride + x];
    for (int h = 8; h < 64; h <<= 1)
        for (int i = 0; i < 64; i++)
            if (!(i & h)) {
                const int32_t sum = m[i] + m[i + h];
                m[i + h] = m[i] - m[i + h];
                m[i] = sum;
            }
    for (int i = 0; i < 64; i++) m[i] >>= 2;
    for (int h = 1; h < 4; h <<= 1)
        for (int i = 0; i < 64; i++)
            if (!(i & h)) {
                const int32_t sum = m[i] + m[i + h];
                m[i + h] = m[i] - m[i + h];
                m[i] = sum;
            }
    for (int i = 0; i < 64; i++)
        if (!(i & 4)) total += abs(m[i]) > abs(m[i + 4]) ? abs(m[i]) : abs(m[i + 4]);
    return total;
}
#endif

HYBRID_HELPER int transformed_difference(const int16_t *a, ptrdiff_t a_stride, const int16_t *b,
                                         ptrdiff_t b_stride, int size) {
    if (size == 4) return absolute_difference(a, a_stride, b, b_stride, size);
#ifdef __AVX2__
    __m256i sum = _mm256_setzero_si256(), r[8];
    for (int y = 0; y < size; y += 8)
        for (int x = 0; x < size; x += 16) {
            for (int i = 0; i < 8; i++) {
                const int16_t *p = a + (y + i) * a_stride + x, *q = b + (y + i) * b_stride + x;
                r[i] = size == 8 ? difference_8(p, q) : difference_16(p, q);
            }
            sum = _mm256_add_epi32(sum, hadamard_8(r));
        }
    return (int)sum_ints(sum);
#else
    int total = 0;
    for (int y = 0; y < size; y += 8)
        for (int x = 0; x < size; x += 8)
            total +=
                hadamard_8(a + y * a_stride + x, a_stride, b + y * b_stride + x, b_stride);
    return total;
#endif
}

HYBRID_HELPER void copy_block(int16_t *to, ptrdiff_t to_stride, const int16_t *from,
                              ptrdiff_t from_stride, int size) {
    for (int y = 0; y < size; y++)
        memcpy(to + y * to_stride, from + y * from_stride, (size_t)size * sizeof *to);
}

HYBRID_INLINE void subtract_size(int16_t *restrict to, const int16_t *a, ptrdiff_t a_stride,
                                 const int16_t *b, ptrdiff_t b_stride, const int size) {
    for (int y = 0; y < size; y++, a += a_stride, b += b_stride, to += size)
        for (int x = 0; x < size; x++) to[x] = (int16_t)(a[x] - b[x]);
}

/* to = a - b, in rows of `size` up to 32. */
HYBRID_HELPER void subtract_block(int16_t *to, const int16_t *a, ptrdiff_t a_stride,
                                  const int16_t *b, ptrdiff_t b_stride, int size) {
    switch (size) {
    case 4: subtract_size(to, a, a_stride, b, b_stride, 4); break;
    case 8: subtract_size(to, a, a_stride, b, b_stride, 8); break;
    case 16: subtract_size(to, a, a_stride, b, b_stride, 16); break;
    default: subtract_size(to, a, a_stride, b, b_stride, 32);
    }
}

#endif
