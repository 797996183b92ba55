/* Vectors of as many doubles as the processor works on at a time.
 *
 * A vector holds the same quantity of neighboring voxels or blocks, so its width changes no result.
 */
#ifndef EDGE_CODEC_VECTORS_H
#define EDGE_CODEC_VECTORS_H

#include <float.h>
#include <math.h>

#ifdef __AVX2__
#include <immintrin.h>
#endif

#include "symbols.h"

#if defined(__FAST_MATH__) || FLT_EVAL_METHOD != 0
#error "these settings round doubles otherwise than docs/bitstream.md says: other bits"
#endif

#ifdef __AVX512F__
#define WIDE 8
#else
#define WIDE 4
#endif

typedef double doubles __attribute__((vector_size(8 * WIDE)));
typedef int64_t longs __attribute__((vector_size(8 * WIDE)));
typedef int32_t ints __attribute__((vector_size(4 * WIDE)));

RANS_INLINE doubles load(const double *from) {
    doubles v;
    memcpy(&v, from, sizeof v);
    return v;
}

RANS_INLINE void store(double *to, doubles v) { memcpy(to, &v, sizeof v); }

RANS_INLINE doubles from_integers(ints v) {
#ifdef __AVX512F__ /* some compilers make several steps of it */
    return (doubles)_mm512_cvtepi32_pd((__m256i)v);
#else
    return __builtin_convertvector(v, doubles);
#endif
}

RANS_INLINE doubles load_unsigned(const uint32_t *from) {
    ints whole;
    memcpy(&whole, from, sizeof whole);
#ifdef __AVX512F__
    return (doubles)_mm512_cvtepu32_pd((__m256i)whole);
#else
    const doubles v = from_integers(whole), zero = {0}, wrapped = zero + 0x1p32;
    return v + (doubles)((longs)(v < zero) & (longs)wrapped);
#endif
}

/* The first `n` of the numbers, all from 0 to 2^31 - 1, as integers. */
RANS_INLINE void store_integers(uint32_t *to, doubles v, size_t n) {
#ifdef __AVX512F__
    const ints whole = (ints)_mm512_cvttpd_epi32((__m512d)v);
#else
    const ints whole = __builtin_convertvector(v, ints);
#endif
    if (RANS_LIKELY(n >= WIDE)) memcpy(to, &whole, sizeof whole);
    else memcpy(to, &whole, n * sizeof *to);
}

/* One number for each block of 1 << log_side voxels, from an array of those of the blocks. */
RANS_INLINE doubles spread(const double *from, int log_side) {
#ifdef __AVX512F__
    if (log_side == 2) {
        const __m512i order = _mm512_setr_epi64(0, 0, 0, 0, 1, 1, 1, 1);
        return (doubles)_mm512_permutexvar_pd(order, _mm512_castpd128_pd512(_mm_loadu_pd(from)));
    }
#endif
    (void)log_side;
    return (doubles){0} + *from;
}

RANS_INLINE doubles choose(longs mask, doubles yes, doubles no) {
    return (doubles)((mask & (longs)yes) | (~mask & (longs)no));
}

/* The number between 0 and `top`; 0 for what is none. */
RANS_INLINE doubles clip(doubles v, doubles top) {
    const doubles zero = {0};
#if defined(__AVX512F__)
    return (doubles)_mm512_min_pd(_mm512_max_pd((__m512d)v, (__m512d)zero), (__m512d)top);
#elif defined(__AVX2__)
    return (doubles)_mm256_min_pd(_mm256_max_pd((__m256d)v, (__m256d)zero), (__m256d)top);
#else
    v = (doubles)((longs)(v > zero) & (longs)v);
    return choose((longs)(v < top), v, top);
#endif
}

RANS_INLINE doubles magnitude_of(doubles v) {
    const longs sign = (longs)(-(doubles){0});
    return (doubles)((longs)v & ~sign);
}

/* The largest integers that are not above, for 0 <= v < 2^51. */
RANS_INLINE doubles floor_of(doubles v) {
    const doubles nearest = v + 0x1p52 - 0x1p52, one = (doubles){0} + 1;
    return nearest - (doubles)((longs)(nearest > v) & (longs)one);
}

/* 1 / sqrt(x), or 0 where x is not above 0. */
RANS_INLINE doubles inverse_root(doubles x) {
    doubles root = {0};
#if defined(__AVX512F__)
    root = (doubles)_mm512_sqrt_pd((__m512d)x);
#elif defined(__AVX2__)
    root = (doubles)_mm256_sqrt_pd((__m256d)x);
#else
    for (int i = 0; i < WIDE; i++) root[i] = x[i] > 0 ? sqrt(x[i]) : 1;
#endif
    const doubles one = (doubles){0} + 1, zero = {0};
    return (doubles)((longs)(one / root) & (longs)(x > zero));
}

#endif
