/* Levels as binary decisions, whose probabilities are mixed from what several predictors say.
 *
 * Each predictor stands for a distribution around its prediction, as wide as its errors were in like
 * surroundings. A level is found by halving: is it the middle or above, how many steps away, where
 * in the step. For each decision every distribution gives a probability; they are mixed in the
 * logistic domain with weights that learn online (Mahoney 2005, "Adaptive weighing of context
 * models for lossless data compression"), and corrected by what the mixture was worth so far.
 * All integers but for the width of a distribution, one division.
 */
#ifndef EDGE_CODEC_MIXING_H
#define EDGE_CODEC_MIXING_H

#include <math.h>

#include "local_fit.h"

#define INPUTS (MAX_FILTERS + 2) /* their mean as well, with two ways to tell its errors */
#define NODES 48
#define SIGNS 64
#define BINS 25
#define LOG_BITS 12  /* fraction bits of logarithms to base 2 */
#define SCALE_BITS 8 /* fraction bits of a mean error beyond its own */
#define CURVE_ONE (1 << 24)
#define CURVE_HALF 768 /* entries of the curve on either side, 32 for a mean error */

#define VECTOR 8 /* inputs with padding; those beyond the last one weigh nothing */

typedef struct {
    int32_t weight[NODES][VECTOR];          /* 16 fraction bits */
    uint16_t corrected[SIGNS][NODES][BINS]; /* probability by what the mixture says */
    uint32_t scale[INPUTS][CONTEXTS];       /* mean error of a predictor, 4 + 8 fraction bits */
    uint8_t count[INPUTS][CONTEXTS];
} mixing_models;

/* The curves, the same on every machine: no entry lies near a rounding boundary. */
static int32_t curve[2 * CURVE_HALF + 2]; /* the distribution function in units of 2^-24 */
static int32_t mantissa_log[256];
static uint16_t logistic[3072]; /* of -12 to 12 in steps of 2^-7, base 2, 16 bits */

static double sigmoid(double x, double width) { return 1 / (1 + exp(-x / width)); }

static void fill_curves(void) {
    for (int i = 0; i < 2 * CURVE_HALF + 2; i++) {
        const double x = (i - CURVE_HALF) / 32.0;
        const double y = 0.5 * sigmoid(x, 0.72) + 0.3 * sigmoid(x, 0.45) + 0.2 * sigmoid(x, 1.4);
        curve[i] = (int32_t)floor(y * CURVE_ONE + 0.5);
    }
    for (int i = 0; i < 256; i++)
        mantissa_log[i] = (int32_t)floor(log2(1 + (i + 0.5) / 256) * (1 << LOG_BITS) + 0.5);
    for (int i = 0; i < 3072; i++)
        logistic[i] = (uint16_t)floor(65536 * sigmoid((i + 0.5) / 128 - 12, 1 / log(2)) + 0.5);
}

static void mixing_init(mixing_models *m, int inputs) {
    for (int i = 0; i < NODES; i++)
        for (int k = 0; k < VECTOR; k++) m->weight[i][k] = k < inputs ? 65536 / inputs : 0;
    for (int b = 0; b < BINS; b++) {
        const int entry = b * 128 < 3071 ? b * 128 : 3071;
        for (int i = 0; i < SIGNS; i++)
            for (int j = 0; j < NODES; j++) m->corrected[i][j][b] = logistic[entry];
    }
    for (int c = 0; c < CONTEXTS; c++)
        for (int k = 0; k < INPUTS; k++) {
            const uint32_t least = (4u + (c & 3))
                                   << (c >> 2); /* context_of's least value, plus 4 */
            m->scale[k][c] = (least - 3) << SCALE_BITS;
            m->count[k][c] = 0;
        }
}

/* One voxel's view of the predictors while its level is narrowed down. */
typedef struct {
    int inputs;
    double center[VECTOR];             /* prediction, a whole number of 1/16 */
    double narrowness[VECTOR];         /* steps of the curve for 1/16 */
    int32_t low[VECTOR], high[VECTOR]; /* of the distributions at the ends of what is left */
    uint16_t (*corrected)[BINS];
    int64_t origin;      /* lower edge of level 0, in 1/16 */
    int64_t step;        /* of a level, in 1/16 */
    int64_t first, last; /* levels that are left */
} mixing_voxel;

#define CURVE_LIMIT (CURVE_HALF * 256)
#define MIXED_LIMIT ((12 << LOG_BITS) - 1)
#define WEIGHT_LIMIT (1 << 20)

#ifdef __AVX2__
/* Entries of a table for the five inputs. Gather instructions are slow where the processor guards
 * against their side channel (Downfall, 2023). */
RANS_INLINE __m256i lookup(const int32_t *table, __m256i index) {
    int32_t i[VECTOR];
    _mm256_storeu_si256((__m256i *)i, index);
    return _mm256_setr_epi32(table[i[0]], table[i[1]], table[i[2]], table[i[3]], table[i[4]], 0, 0,
                             0);
}

RANS_INLINE __m256i curve_at(double edge, const mixing_voxel *v) {
    const __m256d limit = _mm256_set1_pd(CURVE_LIMIT), least = _mm256_set1_pd(-CURVE_LIMIT);
    __m128i half[2];
    for (int i = 0; i < 2; i++) {
        __m256d x = _mm256_sub_pd(_mm256_set1_pd(edge), _mm256_loadu_pd(v->center + 4 * i));
        x = _mm256_mul_pd(x, _mm256_loadu_pd(v->narrowness + 4 * i));
        half[i] = _mm256_cvttpd_epi32(_mm256_max_pd(_mm256_min_pd(x, limit), least));
    }
    const __m256i at =
        _mm256_add_epi32(_mm256_set_m128i(half[1], half[0]), _mm256_set1_epi32(CURVE_LIMIT));
    const __m256i index = _mm256_srli_epi32(at, 8);
    const __m256i part = _mm256_and_si256(at, _mm256_set1_epi32(255));
    const __m256i below = lookup(curve, index);
    const __m256i above = lookup(curve + 1, index);
    const __m256i product = _mm256_mullo_epi32(_mm256_sub_epi32(above, below), part);
    return _mm256_add_epi32(below, _mm256_srai_epi32(product, 8));
}

/* Values are at most 2^24 + 1, which a float rounds to 2^24: the same leading bits. */
RANS_INLINE __m256i log_of(__m256i value) {
    const __m256i bits = _mm256_castps_si256(_mm256_cvtepi32_ps(value));
    const __m256i mantissa = _mm256_and_si256(_mm256_srli_epi32(bits, 15), _mm256_set1_epi32(255));
    const __m256i exponent = _mm256_sub_epi32(_mm256_srli_epi32(bits, 23), _mm256_set1_epi32(127));
    return _mm256_add_epi32(_mm256_slli_epi32(exponent, LOG_BITS), lookup(mantissa_log, mantissa));
}

/* The probability of each input that the level is `middle` or above, in the logistic domain; returns
 * the weighted sum. */
RANS_INLINE int64_t mix(const mixing_voxel *v, const int32_t *weight, double edge, int32_t *at,
                        int32_t *stretched) {
    const __m256i x = curve_at(edge, v), one = _mm256_set1_epi32(1);
    const __m256i above = _mm256_sub_epi32(_mm256_loadu_si256((const __m256i *)v->high), x);
    const __m256i below = _mm256_sub_epi32(x, _mm256_loadu_si256((const __m256i *)v->low));
    const __m256i used =
        _mm256_cmpgt_epi32(_mm256_set1_epi32(v->inputs), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    const __m256i s = _mm256_and_si256(_mm256_sub_epi32(log_of(_mm256_add_epi32(above, one)),
                                                        log_of(_mm256_add_epi32(below, one))),
                                       used);
    const __m256i w = _mm256_loadu_si256((const __m256i *)weight);
    _mm256_storeu_si256((__m256i *)at, x);
    _mm256_storeu_si256((__m256i *)stretched, s);
    const __m256i products =
        _mm256_add_epi64(_mm256_mul_epi32(w, s),
                         _mm256_mul_epi32(_mm256_srli_epi64(w, 32), _mm256_srli_epi64(s, 32)));
    const __m128i halves =
        _mm_add_epi64(_mm256_castsi256_si128(products), _mm256_extracti128_si256(products, 1));
    return _mm_cvtsi128_si64(halves) + _mm_extract_epi64(halves, 1);
}

RANS_INLINE void learn(mixing_voxel *v, int32_t *weight, const int32_t *at,
                       const int32_t *stretched, int32_t wrong, unsigned bit) {
    const __m256i s = _mm256_loadu_si256((const __m256i *)stretched);
    const __m256i e = _mm256_set1_epi32(wrong), x = _mm256_loadu_si256((const __m256i *)at);
    /* Products have 34 bits; a logical shift leaves the right 32 of them. */
    const __m256i even = _mm256_srli_epi64(_mm256_mul_epi32(s, e), 19);
    const __m256i odd = _mm256_srli_epi64(_mm256_mul_epi32(_mm256_srli_epi64(s, 32), e), 19);
    const __m256i change = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xAA);
    __m256i w = _mm256_add_epi32(_mm256_loadu_si256((const __m256i *)weight), change);
    w = _mm256_min_epi32(w, _mm256_set1_epi32(WEIGHT_LIMIT));
    w = _mm256_max_epi32(w, _mm256_set1_epi32(-WEIGHT_LIMIT));
    _mm256_storeu_si256((__m256i *)weight, w);
    const __m256i taken = _mm256_set1_epi32(-(int32_t)bit);
    __m256i *const low = (__m256i *)v->low, *const high = (__m256i *)v->high;
    _mm256_storeu_si256(low, _mm256_blendv_epi8(_mm256_loadu_si256(low), x, taken));
    _mm256_storeu_si256(high, _mm256_blendv_epi8(x, _mm256_loadu_si256(high), taken));
}
#else
RANS_INLINE int32_t curve_at(double x) {
    const double inside = x < -CURVE_LIMIT ? -CURVE_LIMIT : x > CURVE_LIMIT ? CURVE_LIMIT : x;
    const int32_t at = (int32_t)inside + CURVE_LIMIT;
    const int32_t below = curve[at >> 8], above = curve[(at >> 8) + 1];
    return below + (((above - below) * (at & 255)) >> 8);
}

RANS_INLINE int32_t log_of(int32_t value) { /* value >= 1 */
    const int zeros = __builtin_clz((uint32_t)value);
    const uint32_t mantissa = (uint32_t)value << zeros; /* the leading bit at the top */
    return ((31 - zeros) << LOG_BITS) + mantissa_log[mantissa >> 23 & 255];
}

RANS_INLINE int64_t mix(const mixing_voxel *v, const int32_t *weight, double edge, int32_t *at,
                        int32_t *stretched) {
    int64_t sum = 0;
    for (int k = 0; k < v->inputs; k++) {
        at[k] = curve_at((edge - v->center[k]) * v->narrowness[k]);
        stretched[k] = log_of(v->high[k] - at[k] + 1) - log_of(at[k] - v->low[k] + 1);
        sum += (int64_t)weight[k] * stretched[k];
    }
    return sum;
}

RANS_INLINE void learn(mixing_voxel *v, int32_t *weight, const int32_t *at,
                       const int32_t *stretched, int32_t wrong, unsigned bit) {
    for (int k = 0; k < v->inputs; k++) {
        const int32_t next = weight[k] + (int32_t)(((int64_t)stretched[k] * wrong) >> 19);
        weight[k] = next < -WEIGHT_LIMIT  ? -WEIGHT_LIMIT
                    : next > WEIGHT_LIMIT ? WEIGHT_LIMIT
                                          : next;
        if (bit) v->low[k] = at[k];
        else v->high[k] = at[k];
    }
}
#endif

/* The voxel's level is `middle` or above: coded if the writer is given, else decoded. */
RANS_INLINE unsigned decide(mixing_models *m, mixing_voxel *v, int node, int64_t middle,
                            int64_t level, symbol_writer *w, symbol_reader *r) {
    int32_t at[VECTOR], stretched[VECTOR];
    int32_t *const weight = m->weight[node];
    const double edge = (double)(v->origin + middle * v->step);
    const int64_t wide = mix(v, weight, edge, at, stretched) >> 16;
    const int64_t inside = wide < -MIXED_LIMIT  ? -MIXED_LIMIT
                           : wide > MIXED_LIMIT ? MIXED_LIMIT
                                                : wide;
    const int32_t mixed = (int32_t)inside + MIXED_LIMIT + 1;
    const uint32_t p = logistic[mixed >> 5];
    uint16_t *const bin = &v->corrected[node][mixed >> LOG_BITS];
    const int32_t part = mixed & ((1 << LOG_BITS) - 1), rest = (1 << LOG_BITS) - part;
    const uint32_t corrected = (uint32_t)((bin[0] * rest + bin[1] * part) >> LOG_BITS);
    const uint32_t both = (p + corrected) >> 1;
    const uint32_t coded = both < 32 ? 32 : both > 65504 ? 65504 : both;
    unsigned bit;
    if (w) {
        bit = level >= middle;
        put_decision(w, coded, bit);
    } else {
        bit = get_decision(r, coded);
    }
    const int32_t target = bit ? 65535 : 0;
    learn(v, weight, at, stretched, target - (int32_t)p, bit);
    bin[0] = (uint16_t)(bin[0] + (((target - bin[0]) * rest) >> (LOG_BITS + 6)));
    bin[1] = (uint16_t)(bin[1] + (((target - bin[1]) * part) >> (LOG_BITS + 6)));
    if (bit) v->first = middle;
    else v->last = middle - 1;
    return bit;
}

/* Codes the level, which lies between v->first and v->last; 0 is between them as well. `spread` is
 * the logarithm of the steps in levels. */
RANS_INLINE int64_t code_level(mixing_models *m, mixing_voxel *v, unsigned spread, int64_t level,
                               symbol_writer *w, symbol_reader *r) {
    int side = 0; /* 0: at or above the middle */
    if (v->first < 0) side = !decide(m, v, 0, 0, level, w, r);
    int64_t width = (int64_t)1 << spread;
    for (int i = 0; v->last - v->first >= width; i++) {
        const int node = 1 + 15 * side + (i < 14 ? i : 14);
        if (side) {
            if (decide(m, v, node, v->last - width + 1, level, w, r)) break;
        } else {
            if (!decide(m, v, node, v->first + width, level, w, r)) break;
        }
        if (i >= 3) width <<= (i < 8 ? i & 1 : 1);
    }
    while (v->first < v->last) {
        const int64_t left = v->last - v->first + 1;
        const int size = 63 - __builtin_clzll((uint64_t)left - 1);
        decide(m, v, 31 + 8 * side + (size < 7 ? size : 7), v->first + (left + 1) / 2, level, w, r);
    }
    return v->first;
}

#endif
