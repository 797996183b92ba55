/* The loop over the voxels of the local coder: decisions, levels, frames. Encoder and decoder are one
 * code; which of the two a call is, is known to the compiler.
 */
#ifndef EDGE_CODEC_LOCAL_LOOP_H
#define EDGE_CODEC_LOCAL_LOOP_H

#ifdef __AVX2__
#include <immintrin.h>
#endif

#include "local_code.h"


#ifdef __AVX2__
/* Entries of a table for the five inputs. Gather instructions are slow where the processor guards
 * against their side channel (Downfall, 2023). */
RANS_INLINE __m256i lookup(const int32_t *table, __m256i index) {
    int32_t i[VECTOR];
    _mm256_storeu_si256((__m256i *)i, index);
    return _mm256_setr_epi32(table[i[0]], table[i[1]], table[i[2]], table[i[3]], table[i[4]], 0, 0, 0);
}

RANS_INLINE __m256i curve_at(double edge, const mixing_voxel *v) {
    const __m256d limit = _mm256_set1_pd(CURVE_LIMIT), least = _mm256_set1_pd(-CURVE_LIMIT);
    __m128i half[2];
    for (int i = 0; i < 2; i++) {
        __m256d x = _mm256_sub_pd(_mm256_set1_pd(edge), _mm256_loadu_pd(v->center + 4 * i));
        x = _mm256_mul_pd(x, _mm256_loadu_pd(v->narrowness + 4 * i));
        half[i] = _mm256_cvttpd_epi32(_mm256_max_pd(_mm256_min_pd(x, limit), least));
    }
    const __m256i at = _mm256_add_epi32(_mm256_set_m128i(half[1], half[0]),
                                        _mm256_set1_epi32(CURVE_LIMIT));
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
    return _mm256_add_epi32(_mm256_slli_epi32(exponent, LOG_BITS),
                            lookup(mantissa_log, mantissa));
}

/* The probability of each input that the level is `middle` or above, in the logistic domain; returns
 * the weighted sum. */
RANS_INLINE int64_t mix(const mixing_voxel *v, const int32_t *weight,
                                              double edge, int32_t *at, int32_t *stretched) {
    const __m256i x = curve_at(edge, v), one = _mm256_set1_epi32(1);
    const __m256i above = _mm256_sub_epi32(_mm256_loadu_si256((const __m256i *)v->high), x);
    const __m256i below = _mm256_sub_epi32(x, _mm256_loadu_si256((const __m256i *)v->low));
    const __m256i used = _mm256_cmpgt_epi32(_mm256_set1_epi32(v->inputs),
                                            _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    const __m256i s = _mm256_and_si256(
        _mm256_sub_epi32(log_of(_mm256_add_epi32(above, one)),
                         log_of(_mm256_add_epi32(below, one))), used);
    const __m256i w = _mm256_loadu_si256((const __m256i *)weight);
    _mm256_storeu_si256((__m256i *)at, x);
    _mm256_storeu_si256((__m256i *)stretched, s);
    const __m256i products = _mm256_add_epi64(
        _mm256_mul_epi32(w, s), _mm256_mul_epi32(_mm256_srli_epi64(w, 32), _mm256_srli_epi64(s, 32)));
    const __m128i halves = _mm_add_epi64(_mm256_castsi256_si128(products),
                                         _mm256_extracti128_si256(products, 1));
    return _mm_cvtsi128_si64(halves) + _mm_extract_epi64(halves, 1);
}

RANS_INLINE void learn(mixing_voxel *v, int32_t *weight, const int32_t *at,
                                             const int32_t *stretched, int32_t wrong,
                                             unsigned bit) {
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

RANS_INLINE int64_t mix(const mixing_voxel *v, const int32_t *weight, double edge,
                                int32_t *at, int32_t *stretched) {
    int64_t sum = 0;
    for (int k = 0; k < v->inputs; k++) {
        at[k] = curve_at((edge - v->center[k]) * v->narrowness[k]);
        stretched[k] =
            log_of(v->high[k] - at[k] + 1) - log_of(at[k] - v->low[k] + 1);
        sum += (int64_t)weight[k] * stretched[k];
    }
    return sum;
}

RANS_INLINE void learn(mixing_voxel *v, int32_t *weight, const int32_t *at,
                               const int32_t *stretched, int32_t wrong, unsigned bit) {
    for (int k = 0; k < v->inputs; k++) {
        const int32_t next = weight[k] + (int32_t)(((int64_t)stretched[k] * wrong) >> 19);
        weight[k] = next < -WEIGHT_LIMIT ? -WEIGHT_LIMIT : next > WEIGHT_LIMIT ? WEIGHT_LIMIT : next;
        if (bit) v->low[k] = at[k];
        else v->high[k] = at[k];
    }
}
#endif

/* The voxel's level is `middle` or above: coded if the writer is given, else decoded. */
RANS_INLINE unsigned decide(mixing_models *m, mixing_voxel *v, int node,
                                                  int64_t middle, int64_t level, symbol_writer *w,
                                                  symbol_reader *r) {
    int32_t at[VECTOR], stretched[VECTOR];
    int32_t *const weight = m->weight[node];
    const double edge = (double)(v->origin + middle * v->step);
    const int64_t wide = mix(v, weight, edge, at, stretched) >> 16;
    const int64_t inside = wide < -MIXED_LIMIT ? -MIXED_LIMIT : wide > MIXED_LIMIT ? MIXED_LIMIT : wide;
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
RANS_INLINE int64_t code_level(mixing_models *m, mixing_voxel *v,
                                                     unsigned spread, int64_t level,
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

RANS_INLINE int64_t code_mixed(local_coder *c, mixing_voxel *v,
                                                     const uint32_t *energy, size_t place,
                                                     int64_t middle, uint32_t bound, int64_t level,
                                                     symbol_writer *w, symbol_reader *r,
                                                     uint32_t **scales) {
    mixing_models *const m = &c->models->mixing;
    const local_state *s = &c->frame;
    const int inputs = s->n_filters + 2;
    uint32_t scale = 0;
    for (int k = 0; k < inputs; k++) {
        unsigned shift;
        const unsigned class = context_of(energy[k] >> 4, &shift);
        scales[k] = &m->scale[k][class];
        scale = *scales[k] > 205 ? *scales[k] : 205; /* a twentieth of a unit */
        v->narrowness[k] = 8192.0 * 256.0 / (double)scale;
        v->low[k] = 0;
        v->high[k] = CURVE_ONE;
    }
    v->inputs = inputs;
    v->step = 16 * (2 * (int64_t)bound + 1);
    v->origin = 16 * (middle - (int64_t)bound) - 8;
    v->first = -quantize(middle, bound);
    v->last = quantize((int64_t)s->span - middle, bound);
    v->corrected = m->corrected[signs_of(s, place, v->center[s->n_filters] / 16)];
    unsigned spread = 0;
    for (uint64_t limit = 6144 * (2 * (uint64_t)bound + 1); scale >= limit; limit *= 2) spread++;
    return code_level(m, v, spread, level, w, r);
}

/* Predicts a voxel by each filter and by their mean, weighted by how well each did around it. */
RANS_INLINE void predict_voxel(const local_coder *c, size_t column,
                                                     size_t place, mixing_voxel *v,
                                                     uint32_t *energy) {
    const local_state *s = &c->frame;
    const int filters = s->n_filters;
    double weights = 0, sum = 0;
    for (int k = 0; k < filters; k++) {
        v->center[k] = (double)predict_local(s, &s->filter[k], column, place);
        energy[k] = local_energy(c, k, column, place);
        const double e = (double)energy[k] + 86, weight = 1 / (e * e); /* 86: 0.3 of a unit */
        weights += weight;
        sum += weight * v->center[k];
    }
    v->center[filters] = (double)(int64_t)(sum / weights + 0.5);
    energy[filters] = local_energy(c, filters, column, place);
}

/* Codes `frame` if the writer is given, else decodes; the decoded frame is left in plane NOW. */
RANS_INLINE int code_local(local_coder *c, uint32_t bound,
                                                 const uint32_t *frame, symbol_writer *w,
                                                 symbol_reader *r, const int best) {
    local_state *const s = &c->frame;
    const int filters = s->n_filters;
    const uint64_t largest = largest_code(s->span, bound);
    mixing_voxel v = {0};
    uint32_t energy[INPUTS], *scales[INPUTS];
    open_local(s);
    open_above(s);
    for (size_t row = 0; row < s->rows; row++) {
        open_local_row(c, row, best);
        for (size_t column = 0; column < s->columns; column++) {
            const size_t place = place_of(s, row, column);
            if (w && !reserve(w, MOST_DECISIONS / ROOM)) return RESIDUAL_NO_MEMORY;
            predict_voxel(c, column, place, &v, energy);
            const int64_t predicted = (int64_t)v.center[filters], middle = (predicted + 8) >> 4;
            int64_t level = 0;
            if (w) level = quantize((int64_t)frame[row * s->columns + column] - middle, bound);
            if (best) {
                v.center[filters + 1] = v.center[filters];
                energy[filters + 1] = c->wide_error[column];
                level = code_mixed(c, &v, energy, place, middle, bound, level, w, r, scales);
            } else {
                const uint32_t step = 2 * bound + 1, e = energy[filters];
                const uint32_t mean = (bound ? e / step : e) >> 4;
                level = code_symbols(c->models, mean, predicted > 16 * middle, level, largest, w, r);
            }
            const uint32_t sample = reconstruct(middle, level, bound, s->span);
            set_voxel(s, NOW, place, sample);
            for (int k = 0; k <= filters; k++) c->error[k][place] = error_of(sample, (int64_t)v.center[k]);
            for (int k = 0; best && k < filters + 2; k++)
                learn_scale(&c->models->mixing, k, scales[k], error_of(sample, (int64_t)v.center[k]));
        }
        close_right(s, row);
        if (r && (r->rans.failed | r->failed)) return RESIDUAL_DAMAGED;
    }
    if (w) flush_bits(w);
    return RESIDUAL_OK;
}

static int encode_local(local_coder *c, uint32_t bound, const uint32_t *frame,
                                              symbol_writer *w) {
    return c->frame.effort == BEST ? code_local(c, bound, frame, w, NULL, 1)
                                   : code_local(c, bound, frame, w, NULL, 0);
}

static int decode_local(local_coder *c, uint32_t bound, symbol_reader *r) {
    return c->frame.effort == BEST ? code_local(c, bound, NULL, NULL, r, 1)
                                   : code_local(c, bound, NULL, NULL, r, 0);
}

#endif
