/* A frame of the local filters as symbols, and back: one loop for both directions. */
#ifndef EDGE_CODEC_LOCAL_CODE_H
#define EDGE_CODEC_LOCAL_CODE_H

#include "bounds.h"
#include "local_lossless.h"

/* The same of a window of 7 columns, 3 rows of the frame in work, and 5 of the previous one. */
static void sum_wide(local_coder *c, size_t place) {
    const local_state *s = &c->frame;
    const ptrdiff_t stride = (ptrdiff_t)s->stride;
    const uint32_t *e = c->error[s->n_filters] + place - REACH;
    const uint32_t *b = c->error_before[s->n_filters] + place - REACH;
    uint32_t *const column = c->column_error, *const wide = c->wide_error;
    for (ptrdiff_t i = 0; i < (ptrdiff_t)s->columns + 2 * REACH; i++) {
        uint32_t sum = e[i - stride] + e[i - 2 * stride] + e[i - 3 * stride];
        if (s->history)
            sum += b[i - 2 * stride] + b[i - stride] + b[i] + b[i + stride] + b[i + 2 * stride];
        else sum += sum + (sum >> 1) + (sum >> 3);
        column[i] = sum < 0xFFFFFFF ? sum : 0xFFFFFFF;
    }
    for (size_t i = 0; i < s->columns; i++) {
        uint32_t sum = 0;
        for (size_t j = 0; j <= 2 * REACH; j++) sum += column[i + j];
        wide[i] = (sum >> 4) * 5; /* 56 places to the weight of 18 */
    }
}

/* Where voxels around lie above the prediction. */
RANS_INLINE unsigned signs_of(const local_state *s, size_t place, double mean) {
    const double *x = s->plane[NOW] + place, *up = x - s->stride;
    unsigned signs = (x[-1] > mean) + 2u * (up[0] > mean) + 8u * (x[-1] + up[0] - up[-1] > mean);
    if (s->history) {
        const double *b = s->plane[BEFORE1] + place, *above = b - s->stride;
        signs += 4u * (b[0] > mean) + 16u * (b[0] + x[-1] - b[-1] > mean) +
                 32u * (b[0] + up[0] - above[0] > mean);
    }
    return signs;
}

RANS_INLINE void learn_scale(mixing_models *m, int k, uint32_t *scale, uint32_t error) {
    uint8_t *const count = &m->count[k][scale - m->scale[k]];
    const unsigned n = *count;
    const unsigned rate = 1u + (n >= 2) + (n >= 4) + (n >= 8) + (n >= 16) + (n >= 32) + (n >= 64);
    const int64_t next = (int64_t)*scale + ((((int64_t)error << SCALE_BITS) - *scale) >> rate);
    *scale = next > 0xFFFFFFFF ? 0xFFFFFFFF : (uint32_t)next;
    if (n < 64) *count = (uint8_t)(n + 1);
}

RANS_INLINE int64_t code_mixed(local_coder *c, mixing_voxel *v, const uint32_t *energy,
                               size_t place, int64_t middle, uint32_t bound, int64_t level,
                               symbol_writer *w, symbol_reader *r, uint32_t **scales) {
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
RANS_INLINE void predict_voxel(const local_coder *c, size_t column, size_t place, mixing_voxel *v,
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
RANS_INLINE int code_local(local_coder *c, const bounds *b, const uint32_t *frame, symbol_writer *w,
                           symbol_reader *r, int64_t give_up, const int best, const int regional) {
    local_state *const s = &c->frame;
    const int filters = s->n_filters;
    uint32_t bound = b->frame;
    uint64_t largest = largest_code(s->span, bound);
    mixing_voxel v = {0};
    uint32_t energy[INPUTS], *scales[INPUTS];
    open_local(s);
    open_above(s);
    for (size_t row = 0; row < s->rows; row++) {
        if (w && row % CLOCK_ROWS == 0 && is_late(give_up)) return RESIDUAL_LATE;
        open_local_row(c, row);
        if (best) sum_wide(c, place_of(s, row, 0));
        for (size_t column = 0; column < s->columns; column++) {
            const size_t place = place_of(s, row, column);
            if (w && !reserve(w, MOST_DECISIONS / ROOM)) return RESIDUAL_NO_MEMORY;
            if (regional) {
                bound = bound_at(b, row * s->columns + column);
                largest = largest_code(s->span, bound);
            }
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
                level =
                    code_symbols(c->models, mean, predicted > 16 * middle, level, largest, w, r);
            }
            const uint32_t sample = reconstruct(middle, level, bound, s->span);
            set_voxel(s, NOW, place, sample);
            for (int k = 0; k <= filters; k++)
                c->error[k][place] = error_of(sample, (int64_t)v.center[k]);
            for (int k = 0; best && k < filters + 2; k++)
                learn_scale(&c->models->mixing, k, scales[k],
                            error_of(sample, (int64_t)v.center[k]));
        }
        close_right(s, row);
        if (r && (r->rans.failed | r->failed)) return RESIDUAL_DAMAGED;
    }
    if (w) flush_bits(w);
    return RESIDUAL_OK;
}

/* The same with a loop of its own for each effort, and for frames with a region. */
static int code_either(local_coder *c, const bounds *b, const uint32_t *frame, symbol_writer *w,
                       symbol_reader *r, int64_t give_up) {
    const int best = c->frame.effort == BEST;
    if (b->inside)
        return best ? code_local(c, b, frame, w, r, give_up, 1, 1)
                    : code_local(c, b, frame, w, r, give_up, 0, 1);
    if (w)
        return best ? code_local(c, b, frame, w, NULL, give_up, 1, 0)
                    : code_local(c, b, frame, w, NULL, give_up, 0, 0);
    return best ? code_local(c, b, NULL, NULL, r, 0, 1, 0) : code_local(c, b, NULL, NULL, r, 0, 0, 0);
}

/* RESIDUAL_LATE if the instant `give_up` comes first. */
static int encode_local(local_coder *c, const bounds *b, const uint32_t *frame, symbol_writer *w,
                        int64_t give_up) {
    if (c->frame.effort != BEST && !b->frame) return encode_lossless(c, frame, w, give_up);
    return code_either(c, b, frame, w, NULL, give_up);
}

static int decode_local(local_coder *c, const bounds *b, symbol_reader *r) {
    return code_either(c, b, NULL, NULL, r, 0);
}

#endif
