/* Tiles with AVX-512 VNNI: 64 products and their sums in one instruction. */
#ifndef EDGE_CODEC_INT8_VNNI_H
#define EDGE_CODEC_INT8_VNNI_H

#include <immintrin.h>

#include "tile.h"

#define VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")))
#define VNNI_INLINE static inline __attribute__((always_inline)) VNNI
#define VNNI_PIXELS 12

/* Named variables and not the intrinsic: GCC 12 would copy the sums into memory at every turn. */
#define VNNI_DOT(sum, codes, weights) \
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(codes), "v"(weights))
#define VNNI_EACH(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11)
#define VNNI_BEGIN(m)                                                                         \
    __m512i sum##m##_0 = bias0, sum##m##_1 = bias1, sum##m##_2 = bias2, sum##m##_3 = bias3;
#define VNNI_ADD(m)                                                                           \
    if (pixels > m) {                                                                         \
        memcpy(&four, x + m * step, 4);                                                       \
        const __m512i codes = _mm512_set1_epi32(four);                                        \
        VNNI_DOT(sum##m##_0, codes, w0);                                                      \
        if (vectors > 1) VNNI_DOT(sum##m##_1, codes, w1);                                     \
        if (vectors > 2) VNNI_DOT(sum##m##_2, codes, w2);                                     \
        if (vectors > 3) VNNI_DOT(sum##m##_3, codes, w3);                                     \
    }
#define VNNI_END(m)                                                                           \
    if (pixels > m) {                                                                         \
        _mm512_store_si512(sums + LANES * (vectors * m), sum##m##_0);                         \
        if (vectors > 1) _mm512_store_si512(sums + LANES * (vectors * m + 1), sum##m##_1);    \
        if (vectors > 2) _mm512_store_si512(sums + LANES * (vectors * m + 2), sum##m##_2);    \
        if (vectors > 3) _mm512_store_si512(sums + LANES * (vectors * m + 3), sum##m##_3);    \
    }

/* Requantize one vector of several pixels, `stride` sums from one to the next. */
VNNI_INLINE void vnni_put(const tile *t, uint8_t *pixel, int n, const int32_t *sums, int pixels,
                          int stride) {
    const __m512i shift = _mm512_loadu_si512(t->shift + LANES * n);
    const __m512i half = _mm512_loadu_si512(t->half + LANES * n);
    const __m512i odd = _mm512_loadu_si512(t->odd + LANES * n);
    const __m512i low = _mm512_set1_epi32(t->is_signed ? -128 : 0);
    const __m512i high = _mm512_set1_epi32(t->is_signed ? 127 : 255);
    const ptrdiff_t step = t->out_pixel, place = t->place[n];
    const int whole = t->piece == LANES;
    for (int m = 0; m < pixels; m++, pixel += step, sums += stride) {
        const __m512i sum = _mm512_load_si512(sums);
        const __m512i up = _mm512_and_si512(_mm512_srav_epi32(sum, shift), odd);
        const __m512i q =
            _mm512_srav_epi32(_mm512_add_epi32(_mm512_add_epi32(sum, half), up), shift);
        const __m128i bytes = _mm512_cvtepi32_epi8(_mm512_min_epi32(_mm512_max_epi32(q, low), high));
        if (whole)
            memcpy(pixel + place, &bytes, LANES);
        else
            put(t, pixel, n, &bytes);
    }
}

VNNI_INLINE void vnni_tile(const tile *t, const uint8_t *in, uint8_t *out, const int pixels,
                           const int vectors) {
    const __m512i bias0 = _mm512_loadu_si512(t->bias);
    const __m512i bias1 = vectors > 1 ? _mm512_loadu_si512(t->bias + LANES) : bias0;
    const __m512i bias2 = vectors > 2 ? _mm512_loadu_si512(t->bias + 2 * LANES) : bias0;
    const __m512i bias3 = vectors > 3 ? _mm512_loadu_si512(t->bias + 3 * LANES) : bias0;
    const ptrdiff_t step = t->in_pixel, down = t->in_row - 4 * t->groups;
    const int8_t *w = t->weights;
    const uint8_t *x = in, *end = in + 4 * t->groups;
    int32_t sums[LANES * pixels * vectors] __attribute__((aligned(64)));
    int rows = t->window_rows;
    VNNI_EACH(VNNI_BEGIN)
    do {
        do {
            int32_t four;
            const __m512i w0 = _mm512_load_si512(w);
            const __m512i w1 = vectors > 1 ? _mm512_load_si512(w + 64) : w0;
            const __m512i w2 = vectors > 2 ? _mm512_load_si512(w + 128) : w0;
            const __m512i w3 = vectors > 3 ? _mm512_load_si512(w + 192) : w0;
            VNNI_EACH(VNNI_ADD)
            x += 4;
            w += 64 * vectors;
        } while (x != end);
        x += down;
        end += t->in_row;
    } while (--rows);
    VNNI_EACH(VNNI_END)
    for (int n = 0; n < vectors; n++)
        vnni_put(t, out, n, sums + LANES * n, pixels, LANES * vectors);
}

#define VNNI_CASE(m, n) \
    case m: vnni_tile(t, in, out, m, n); break;

/* A row in tiles of nearly the same size: a short one at the end would wait for its own sums. */
#define VNNI_ROW(n, most, CASES)                                                              \
    VNNI static void vnni_row_##n(const tile *t, const uint8_t *in, uint8_t *out, int pixels) { \
        int tiles = (pixels + most - 1) / most;                                               \
        while (tiles) {                                                                       \
            const int size = (pixels + tiles - 1) / tiles;                                    \
            switch (size) { CASES }                                                           \
            in += size * t->in_pixel;                                                         \
            out += size * t->out_pixel;                                                       \
            pixels -= size;                                                                   \
            tiles--;                                                                          \
        }                                                                                     \
    }

#define VNNI_6(n) VNNI_CASE(1, n) VNNI_CASE(2, n) VNNI_CASE(3, n) VNNI_CASE(4, n) VNNI_CASE(5, n) VNNI_CASE(6, n)
#define VNNI_12(n) VNNI_6(n) VNNI_CASE(7, n) VNNI_CASE(8, n) VNNI_CASE(9, n) VNNI_CASE(10, n) VNNI_CASE(11, n) VNNI_CASE(12, n)

VNNI_ROW(1, 12, VNNI_12(1))
VNNI_ROW(2, 12, VNNI_12(2))
VNNI_ROW(4, 6, VNNI_6(4))

#endif
