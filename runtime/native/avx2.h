/* Tiles with AVX2: pairs of products add up in 16 bits, which weights of at most 64 never leave
 * (2 * 255 * 64 < 2**15); pairs of those in 32 bits. */
#ifndef EDGE_CODEC_INT8_AVX2_H
#define EDGE_CODEC_INT8_AVX2_H

#include <immintrin.h>

#include "tile.h"

#define AVX2 __attribute__((target("avx2")))
#define AVX2_INLINE static inline __attribute__((always_inline)) AVX2
#define AVX2_MAX_WEIGHT 64
#define AVX2_PIXELS 4

#define AVX2_EACH(DO) DO(0) DO(1) DO(2) DO(3)
#define AVX2_BEGIN(m) __m256i low##m = bias_low, high##m = bias_high;
#define AVX2_ADD(m)                                                                           \
    if (pixels > m) {                                                                         \
        memcpy(&four, x + m * step, 4);                                                       \
        const __m256i codes = _mm256_set1_epi32(four);                                        \
        const __m256i a = _mm256_maddubs_epi16(codes, w_low);                                 \
        const __m256i b = _mm256_maddubs_epi16(codes, w_high);                                \
        low##m = _mm256_add_epi32(low##m, _mm256_madd_epi16(a, ones));                        \
        high##m = _mm256_add_epi32(high##m, _mm256_madd_epi16(b, ones));                      \
    }
#define AVX2_END(m)                                                                           \
    if (pixels > m) {                                                                         \
        _mm256_store_si256((__m256i *)sums + 2 * m, low##m);                                  \
        _mm256_store_si256((__m256i *)sums + 2 * m + 1, high##m);                             \
    }

AVX2_INLINE __m256i avx2_requantize(const tile *t, int lane, const int32_t *sums) {
    const __m256i shift = _mm256_loadu_si256((const __m256i *)(t->shift + lane));
    const __m256i half = _mm256_loadu_si256((const __m256i *)(t->half + lane));
    const __m256i odd = _mm256_loadu_si256((const __m256i *)(t->odd + lane));
    const __m256i sum = _mm256_load_si256((const __m256i *)(sums + lane));
    const __m256i up = _mm256_and_si256(_mm256_srav_epi32(sum, shift), odd);
    return _mm256_srav_epi32(_mm256_add_epi32(_mm256_add_epi32(sum, half), up), shift);
}

AVX2_INLINE void avx2_put(const tile *t, uint8_t *pixel, const int32_t *sums) {
    const __m256i a = avx2_requantize(t, 0, sums), b = avx2_requantize(t, 8, sums);
    /* Both packs saturate and work in halves of 128 bits; the permutation puts them in order. */
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xD8);
    const __m128i low = _mm256_castsi256_si128(words), high = _mm256_extracti128_si256(words, 1);
    const __m128i bytes = t->is_signed ? _mm_packs_epi16(low, high) : _mm_packus_epi16(low, high);
    put(t, pixel, 0, &bytes);
}

AVX2_INLINE void avx2_tile(const tile *t, const uint8_t *in, uint8_t *out, const int pixels) {
    const __m256i bias_low = _mm256_loadu_si256((const __m256i *)t->bias);
    const __m256i bias_high = _mm256_loadu_si256((const __m256i *)(t->bias + 8));
    const __m256i ones = _mm256_set1_epi16(1);
    const ptrdiff_t step = t->in_pixel, down = t->in_row - 4 * t->groups;
    const int8_t *w = t->weights;
    const uint8_t *x = in, *end = in + 4 * t->groups;
    int32_t sums[LANES * AVX2_PIXELS] __attribute__((aligned(32)));
    int rows = t->window_rows;
    AVX2_EACH(AVX2_BEGIN)
    do {
        do {
            int32_t four;
            const __m256i w_low = _mm256_load_si256((const __m256i *)w);
            const __m256i w_high = _mm256_load_si256((const __m256i *)w + 1);
            AVX2_EACH(AVX2_ADD)
            x += 4;
            w += 4 * LANES;
        } while (x != end);
        x += down;
        end += t->in_row;
    } while (--rows);
    AVX2_EACH(AVX2_END)
    for (int m = 0; m < pixels; m++) avx2_put(t, out + m * t->out_pixel, sums + LANES * m);
}

AVX2 static void avx2_row(const tile *t, const uint8_t *in, uint8_t *out, int pixels) {
    for (; pixels >= 4; pixels -= 4, in += 4 * t->in_pixel, out += 4 * t->out_pixel)
        avx2_tile(t, in, out, 4);
    for (; pixels; pixels--, in += t->in_pixel, out += t->out_pixel) avx2_tile(t, in, out, 1);
}

#endif
